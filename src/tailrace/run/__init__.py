"""Runs: one generation each, with one owner that talks to the model, one log, and any number of readers."""
