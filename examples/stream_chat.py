"""Print an answer as it comes, and see how it ended."""

import os

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

stream = tailrace.chat(MODEL, [{"role": "user", "content": "Write two sentences about rivers."}], stream=True)
for chunk in stream:
    print(chunk.message.content, end="", flush=True)

reply = stream.reply
rate = reply.metrics.tokens_per_second or 0.0
print(f"\n[{reply.outcome}: {reply.metrics.output_tokens} tokens, {rate:.0f} a second]")
