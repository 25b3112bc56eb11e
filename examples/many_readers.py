"""Several readers of one run: each sees every token, and a slow one slows nobody."""

import os
import threading

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

stream = tailrace.chat(MODEL, [{"role": "user", "content": "Write one sentence about the sea."}], stream=True)
seen: dict[str, str] = {}


def read(name: str) -> None:
    seen[name] = "".join(stream.text_stream)


threads = [threading.Thread(target=read, args=(name,)) for name in ("first", "second")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()

print(seen["first"])
print("a reader that comes late sees the same:", "".join(stream.text_stream) == seen["first"] == seen["second"])
