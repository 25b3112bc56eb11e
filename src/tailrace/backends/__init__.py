"""Backends open runs on model servers."""
