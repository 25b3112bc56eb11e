"""A conversation with history, saved and loaded."""

import os
import tempfile
from pathlib import Path

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

chat = tailrace.StreamingChat(MODEL, system="You answer in one short sentence.")
chat.send("What is a tailrace?")

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "conversation.json"
    chat.save(file)
    again = tailrace.StreamingChat.load(file)

again.send("And a mill wheel?")
print(f"[{len(again.messages)} messages]")
