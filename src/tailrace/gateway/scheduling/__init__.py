"""Scheduling: the order in which runs start, and the upstream that each goes to."""
