"""The answer that servers replay, on both wires, as Ollama and llama.cpp write it."""

from __future__ import annotations

import json
from itertools import cycle, islice

_WORDS = (" The", " river", " carries", " water", ",", " stone", " and", " 光", " to", " the", " sea", ".", "\n")
_AT = "2026-01-02T03:04:05.678901234Z"


def words(count: int) -> list[str]:
    """The pieces of an answer of `count` tokens."""
    return list(islice(cycle(_WORDS), count))


def ndjson(pieces: list[str]) -> bytes:
    """An answer of `/api/chat`: one line a piece, and the final record."""
    head = {"model": "m", "created_at": _AT}
    lines = [_dump({**head, "message": {"role": "assistant", "content": piece}, "done": False}) for piece in pieces]
    figures = {"total_duration": 21e7, "prompt_eval_count": 12, "eval_count": len(pieces), "eval_duration": 4e7}
    last = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    lines.append(_dump(last | {name: int(value) for name, value in figures.items()}))
    return "".join(f"{line}\n" for line in lines).encode()


def sse(pieces: list[str]) -> bytes:
    """An answer of `/v1/chat/completions`: one event a piece, the finish, and `[DONE]`."""
    head = {"id": "chatcmpl-123", "object": "chat.completion.chunk", "created": 1767323045, "model": "m"}

    def event(delta: dict[str, str], finish: str | None) -> str:
        return _dump({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    events = [*(event({"content": piece}, None) for piece in pieces), event({}, "stop"), "[DONE]"]
    return "".join(f"data: {text}\n\n" for text in events).encode()


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
