"""From Markdown to what is shown: finished blocks once, one open tail.

`blocks` cuts a stream of Markdown into blocks that will not change any more and one that may; `ansi` makes terminal
text of blocks, and `live` keeps the open one current on a screen; `html` makes HTML of them, in pieces for any page.
Nothing here reads a clock, opens a file or starts a thread, and all that a model said is escaped before a terminal or
a browser sees it.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
