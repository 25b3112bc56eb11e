"""The conversation in a terminal: `tailrace chat` without a prompt.

`session` goes from line to line; `conversation` asks, and keeps what is answered; `turn` shows one answer; `commands`
is the table of what begins with a slash; `tree` is the conversation with its branches; `keys` reads the line, with
`history` and `completion`; `interrupts` are the signals; `places` says where things are kept, and `clipboard` and
`tailrace.conversation.export` take them elsewhere.

Only `keys`, `history` and `completion` know prompt_toolkit, and only a chat on a terminal imports them.
"""
