"""The same code against an OpenAI-compatible server (vLLM, llama-server, LM Studio …).

Here a scripted one stands in for it; with a real one: ``Client("openai:http://127.0.0.1:8000/v1")``.
"""

import tailrace
from tailrace.testing import FakeOpenAI, done, say, think

with FakeOpenAI("vllm", models=["demo"]) as server:
    server.script(think("Hm. "), say("Rivers ", "flow."), done())
    client = tailrace.Client(f"openai:{server.base_url}")
    stream = client.chat("demo", [{"role": "user", "content": "Rivers?"}], stream=True)
    for chunk in stream:
        print(chunk.message.thinking or chunk.message.content, end="")
    print(f"\n[{stream.reply.outcome}, {stream.metrics.output_tokens} tokens]")
