"""Backends open runs on model servers.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
