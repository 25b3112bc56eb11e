"""Conversations: the chat and its history, the tools that a model may call, and the export of it all.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
