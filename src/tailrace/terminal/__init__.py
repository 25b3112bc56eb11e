"""Output: prints answers, progress and statistics to terminals, pipes and files.

A terminal interprets control characters, so text of a model or a server is escaped for it; a pipe or a file gets the
bytes unchanged. Nothing here makes a client; it is passed events.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
