"""What prints: answers, progress and figures, to terminals and to everything else.

A terminal obeys control characters, so what a model or a server says is escaped before one sees it; a pipe or a file
gets the bytes as they are. Nothing here builds a client; it is handed events.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
