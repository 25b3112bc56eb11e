"""Fuzzing of what reads foreign bytes: the decoders of answers, and those of requests. `python -m fuzz --help`.

An input is bytes, as they would come from a model server or from a client. `targets` says what has to hold for each,
`running` makes inputs, with atheris guided by what they reach, without it at random; `linear` doubles the nasty ones.
"""
