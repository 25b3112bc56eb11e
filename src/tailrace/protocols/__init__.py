"""Wires: one protocol's codec each, bytes to events and events to bytes.

Nothing here does input or output, reads a clock or starts anything. Bytes go in by `feed` and `eof`; events come out;
"need more" is an empty list. Nothing the network sends raises out of a decoder: what cannot be understood becomes the
run's `Ended` with a fault.
"""
