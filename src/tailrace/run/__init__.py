"""Runs: one generation each, with one owner that talks to the model, one log, and any number of readers.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
