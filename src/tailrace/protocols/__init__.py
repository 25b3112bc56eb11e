"""Protocols, a folder each: what a client may ask (`requests`), bytes to events (`decode`), events to bytes (`encode`).

Nothing here does input or output, reads a clock or starts anything. Bytes go in by `feed` and `eof`; events come out;
"need more" is an empty list. Nothing the network sends raises out of a decoder: what cannot be understood becomes the
run's `Ended` with a fault.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
