"""A contestant that runs a model in-process or beside itself: `python -m benchmarks.engines bare|tailrace MODEL SLOTS`.

`bare` is the shortest loop around xllamacpp that yields text, with the settings of tailrace's engine. Each request has
some prompts, which are answered at the same time, a thread each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.readers import requests

# Every option that tailrace would otherwise fill in with Ollama's default, so that both sample alike.
OPTIONS = {
    "temperature": 0.0,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 1,
}

Piece = Callable[[], None]
Generate = Callable[[str, int, Piece], tuple[str, int]]  # prompt and tokens to the text and the tokens there were


def bare(path: str, slots: int) -> Generate:
    import xllamacpp

    from tailrace.backends.embedded import engine

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = engine.CONTEXT * slots
    params.n_parallel = slots
    params.n_batch = params.n_ubatch = engine.BATCH_CPU
    params.cache_ram_mib = 0
    params.verbosity = 1
    params.ui = False
    threads = engine._threads()
    if threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)

    def generate(prompt: str, tokens: int, piece: Piece) -> tuple[str, int]:
        text: list[str] = []
        count = 0

        def take(chunk: Any) -> bool:
            nonlocal count
            record = chunk if isinstance(chunk, dict) else json.loads(chunk)
            for choice in record.get("choices", ()):
                content = choice["delta"].get("content")
                if content:
                    piece()
                    text.append(content)
            timings = record.get("timings")
            if timings:
                count = timings["predicted_n"]
            return False

        server.handle_chat_completions(
            {
                "messages": [{"role": "user", "content": prompt}],
                "stream": True,
                "max_tokens": tokens,
                "cache_prompt": True,
                **OPTIONS,
            },
            take,
        )
        return "".join(text), count

    return generate


def ours(path: str, slots: int) -> Generate:
    import tailrace

    os.environ["TAILRACE_NUM_PARALLEL"] = str(slots)
    client = tailrace.Client(f"embedded:{path}")

    def generate(prompt: str, tokens: int, piece: Piece) -> tuple[str, int]:
        text: list[str] = []
        count = 0
        options = {**OPTIONS, "num_predict": tokens}
        for chunk in client.chat("m", [{"role": "user", "content": prompt}], stream=True, options=options):
            if chunk.message.content:
                piece()
                text.append(chunk.message.content)
            if chunk.done:
                count = chunk.eval_count or 0
        return "".join(text), count

    return generate


def serve(generate: Generate) -> None:
    for request in requests():
        prompts, tokens = request["prompts"], request["tokens"]
        started = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as threads:
            runs = list(threads.map(lambda prompt: measured(generate, prompt, tokens), prompts))  # noqa: B023
        print(json.dumps({"runs": runs, "whole": time.perf_counter() - started}), flush=True)


def measured(generate: Generate, prompt: str, tokens: int) -> dict[str, Any]:
    at: list[float] = []
    started = time.perf_counter()
    text, count = generate(prompt, tokens, lambda: at.append(time.perf_counter()))
    return {"text": text, "tokens": count, "first": at[0] - started, "last": at[-1] - started}


if __name__ == "__main__":
    serve((bare if sys.argv[1] == "bare" else ours)(sys.argv[2], int(sys.argv[3])))
