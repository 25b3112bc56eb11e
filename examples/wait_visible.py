"""What a run waits for before its first token: events instead of chunks."""

import os

import tailrace
from tailrace import Ended, Loading, Prefill, Queued, TextDelta

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

stream = tailrace.chat(MODEL, [{"role": "user", "content": "Say hello."}], stream=True)
for event in stream.events():
    match event:
        case Queued(position=position):
            print(f"queued, place {position}")
        case Loading():
            print("loading the model")
        case Prefill(processed=processed, total=total):
            print(f"reading the prompt: {processed} of {total} tokens")
        case TextDelta(text=text):
            print(text, end="", flush=True)
        case Ended(outcome=outcome):
            print(f"\n[{outcome}; first token after {stream.metrics.time_to_first_token or 0:.2f} s]")
