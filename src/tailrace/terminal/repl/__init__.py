"""The conversation in a terminal: `tailrace chat` without a prompt.

`session` is the loop; `conversation` sends questions and keeps the answers; `turn` shows one answer; `commands` is the
table of slash commands; `tree` is the conversation with its branches; `keys` reads a line, with `history` and
`completion`; `interrupts` handles signals; `places` has the paths of files, and `clipboard` and
`tailrace.conversation.export` copy and export.

Only `keys`, `history` and `completion` use prompt_toolkit, and only a chat on a terminal imports them.
"""
