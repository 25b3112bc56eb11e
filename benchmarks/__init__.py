"""Benchmarks: what tailrace costs beside what it replaces. `python -m benchmarks [NAME] [--quick]`.

Rules, the same for all: contestants take turns in one run, so that a busy machine is busy for each of them; each lives
in a process of its own and counts its own CPU time; figures are medians with their range, ratios are medians of the
ratios of each round; servers are ours, on the loopback interface; every run is bounded and ends by itself. A run prints
a table for people and then one line of JSON.
"""
