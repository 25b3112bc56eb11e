"""Stop the model from another thread, and keep what it had said.

`cancel` acts on the connection, so it works before the first token too; `wait=True` returns when the backend let go.
"""

import os
import threading

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

stream = tailrace.chat(MODEL, [{"role": "user", "content": "Write a long story."}], stream=True)
enough = threading.Event()


def stopper() -> None:
    enough.wait()
    receipt = stream.cancel(wait=True)
    print(f"\n[the backend let go after {receipt.seconds * 1000:.0f} ms]")


thread = threading.Thread(target=stopper)
thread.start()
for number, text in enumerate(stream.text_stream):
    print(text, end="", flush=True)
    if number >= 2:
        enough.set()
enough.set()
thread.join()
print(f"[{stream.outcome}; kept: {stream.reply.text[:40]!r}]")
