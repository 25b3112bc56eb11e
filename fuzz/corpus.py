"""The corpus: short inputs of each target that lead to its places, made by us, and what the fuzzer found since.

`python -m fuzz.corpus` writes those that are made here into `corpus/TARGET/`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "WORDS", "inputs"]

FOLDER = Path(__file__).parent / "corpus"

WORDS = {
    "ollama": ["message", "content", "thinking", "response", "done", "done_reason", "error", "tool_calls", "function",
               "name", "arguments", "index", "logprobs", "context", "eval_count", "status", "queued", "loading",
               "prefill", "tailrace", "detail",
               "StatusCode", '"done":true', '{"message":{"content":"a"},"done":false}\n', "length"],
    "progress": ["status", "digest", "total", "completed", "error", "success", '{"status":"success"}\n'],
    "openai": ["data: ", "[DONE]", "choices", "delta", "content", "reasoning_content", "reasoning", "tool_calls",
               "index", "id", "function", "arguments", "finish_reason", "usage", "prompt_tokens", "timings",
               "prompt_progress", "error", "message", "text", "logprobs", "refusal", "model", "data: [DONE]\n\n",
               "event: error\n", "error: ", "object", "error_code", "detail", "function_call", "abort"],
    "events": ["data: ", "data:", "event: ", "id: ", "retry: ", ": ", "\r\n", "\n\n", "\r\r", "\ufeff", "\0"],
    "lines": ["\n", "\r\n", "\n\n", "\u2028", "\u0085"],
    "told": [],
    "ask_ollama": ["model", "messages", "role", "content", "images", "tool_calls", "function", "arguments", "options",
                   "num_ctx", "stop", "seed", "temperature", "keep_alive", "5m", "think", "high", "format", "json",
                   "tools", "stream", "prompt", "suffix", "raw", "template", "context", "input", "logprobs",
                   "top_logprobs", "name", "tool_name", "tool_call_id", "$ref", "#/", "pattern"],
    "ask_openai": ["model", "messages", "role", "content", "type", "text", "image_url", "url",
                   "data:image/png;base64,", "tool_calls", "function", "arguments", "tools", "tool_choice", "auto",
                   "response_format", "json_schema", "schema", "max_tokens", "n", "logit_bias", "stop", "prompt",
                   "echo", "best_of", "input", "encoding_format", "reasoning_effort", "stream_options"],
    "ask_ai": ["id", "messages", "role", "parts", "type", "text", "reasoning", "file", "mediaType", "url", "step-start",
               "tool-f", "dynamic-tool", "toolCallId", "state", "output-available", "output-error", "output-denied",
               "input", "output", "errorText", "preliminary", "messageId", "model", "options", "think", "format"],
    "ask_runs": ["message", "messages", "prompt", "model", "system", "options", "think", "format", "tools",
                 "keep_alive", "linger", "logprobs", "suffix", "raw", "content", "parent", "regenerate", "continue",
                 "title", "leaf", "texts", "images", "$ref", "pattern", "enum", "properties", "maxItems"],
    "http": ["GET / HTTP/1.1\r\n", "POST /api/chat HTTP/1.1\r\n", "Content-Length: ", "Transfer-Encoding: chunked",
             "\r\n", "\r\n\r\n", "0\r\n\r\n", "Expect: 100-continue\r\n", "Authorization: Bearer ", "HTTP/1.0", "[::"],
}  # fmt: skip
"""What inputs are made of, beside the corpus."""
WORDS["told"] = [*WORDS["ollama"], *WORDS["openai"]]
for _name in ("ollama", "progress", "openai", "told", "ask_ollama", "ask_openai", "ask_ai", "ask_runs"):
    WORDS[_name] += ['"', "{", "}", "[", "]", ":", ",", "null", "true", "false", "1e400", "-1", "1" * 20, "\\ud83d"]
    WORDS[_name] += ["\\ude00", "\ufeff", "\u2028", "[" * 60, '{"a":' * 60, "]" * 60, "}" * 60]


def inputs(name: str) -> list[bytes]:
    """Returns the inputs of a target that are kept, in the order of their names."""
    return [path.read_bytes() for path in sorted((FOLDER / name).iterdir())]


# -- what is made here -------------------------------------------------------------------------------------------------


def _line(**members: Any) -> str:
    return json.dumps(members, ensure_ascii=False) + "\n"


def _chunk(*, delta: Any = None, reason: Any = None, **members: Any) -> str:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice], **members}, ensure_ascii=False)}\n\n"


def _said(text: str) -> str:
    return _line(model="m", message={"role": "assistant", "content": text}, done=False)


_END = _line(model="m", message={"role": "assistant", "content": ""}, done=True, done_reason="stop", eval_count=2)
_CALL = {"id": "c", "function": {"index": 0, "name": "f", "arguments": {"a": [1, None, "水"]}}}
_OLLAMA = {
    "whole": _said("Hel") + _said("lo 水") + _END,
    "no-line-end": _said("Hel") + _END.rstrip(),
    "half": _said("Hel") + _said("lo")[:30],
    "thinking": _line(message={"thinking": "hm"}, done=False) + _END,
    "call": _line(message={"content": "", "tool_calls": [_CALL]}, done=False) + _END,
    "generate": _line(response="Hel", done=False) + _line(response="", done=True, done_reason="length", context=[1, 2]),
    "error": _said("Hel") + _line(error="the sky fell", StatusCode=500),
    "error-inside": _line(error=json.dumps({"error": {"message": "inner"}})),
    "two-on-a-line": _said("a").rstrip() + _said("b").rstrip() + _END,
    "halves": '{"message":{"content":"\\ud83d"},"done":false}\n{"message":{"content":"\\ude00"},"done":false}\n' + _END,
    "lone-half": '{"message":{"content":"\\ud83d","thinking":"\\ude00"}}\n' + _END,
    "wrong-type": _said("a") + '{"message":7}\n',
    "no-object": _said("a") + "[1]\n",
    "bom-and-blanks": "\ufeff\r\n \n" + _said("a").replace("\n", "\r\n") + _END,
    "reason-alone": _line(message={"content": "a"}, done_reason="stop"),
    "phases": _line(tailrace={"status": "queued", "position": 2}) + _line(tailrace={"status": "prefill", "total": 9})
    + _line(status="queued", position=2) + _END,
    "odd-members": _line(message={"content": "a"}, done=False, context="x", total_duration=1.5) + _END,
    "unknown": _said("a") + _line(text="b") + _line(detail="the sky fell"),
    "pretty-whole": json.dumps({"message": {"content": "a"}, "done": True}, indent=1),
    "logprobs": _line(message={"content": "a"}, logprobs=[{"token": "a", "logprob": -0.5}], done=False) + _END,
    "after": _END + _said("ghost") + _said("ghost"),
    "nested": '{"message":{"content":"a"},"x":' + "[" * 90 + "]" * 90 + "}\n" + _END,
    "pretty": '{"message":\n{"content":"a"},"done":false}\n',
}  # fmt: skip
_PROGRESS = {
    "whole": _line(status="pulling manifest") + _line(status="pulling", digest="sha256:a", total=9, completed=3)
    + _line(status="success"),
    "error": _line(status="pulling manifest") + _line(error="no such model"),
    "short": _line(status="pulling manifest"),
    "half": _line(status="pulling manifest")[:9],
    "wrong": '{"status":1}\n',
}  # fmt: skip
_OPENAI = {
    "whole": _chunk(delta={"role": "assistant", "content": None}) + _chunk(delta={"content": "Hel"})
    + _chunk(delta={"content": "lo 水"}) + _chunk(reason="stop", usage={"completion_tokens": 2}) + "data: [DONE]\n\n",
    "thinking": _chunk(delta={"reasoning_content": "hm"}) + _chunk(delta={"reasoning": "so"}) + "data: [DONE]\n\n",
    "calls": _chunk(delta={"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a'}}]})
    + _chunk(delta={"tool_calls": [{"index": 1, "function": {"name": "g", "arguments": {"b": 1}}}]})
    + _chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]}) + _chunk(reason="tool_calls"),
    "no-stream": json.dumps({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}),
    "no-stream-half": '{"choices": [{"message": {"con',
    "text": 'data: {"choices":[{"text":"Hel","index":0,"logprobs":null}]}\n\ndata: [DONE]\n\n',
    "error": _chunk(delta={"content": "a"}) + 'data: {"error":{"message":"the sky fell","code":500}}\n\n',
    "error-event": 'event: error\ndata: {"message":"the sky fell"}\n\ndata: [DONE]\n\n',
    "error-field": 'error: {"code":500,"message":"the sky fell"}\n\n',
    "error-bare": _chunk(delta={"content": "a"}) + '{"detail":"the sky fell"}\n\nwhat?\n',
    "abort": _chunk(delta={"content": "a"}) + _chunk(reason="abort") + "data: [DONE]\n\n",
    "no-index": _chunk(delta={"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]})
    + _chunk(delta={"tool_calls": [{"function": {"arguments": "}"}}]})
    + _chunk(delta={"tool_calls": [{"id": "b", "function": {"name": "f"}}]}) + _chunk(reason="tool_calls"),
    "timings": 'data: {"choices":[],"timings":{"cache_n":1,"prompt_n":2,"prompt_ms":0.5,"predicted_n":3}}\n\n',
    "prefill": ': ping\r\n\r\ndata: {"prompt_progress":{"total":9,"processed":3}}\r\n\r\n',
    "halves": 'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
    'data: {"choices":[{"delta":{"content":"\\ude00"}}]}\n\n',
    "wrong": 'data: {"choices":7}\n\n',
    "no-json": "data: {no\n\n",
    "hidden": 'data: {"model":"","choices":[{"delta":{"content":""}}]}\n\n',
    "refusal": _chunk(delta={"refusal": "no"}) + _chunk(reason="content_filter") + "data: [DONE]\n\ndata: x\n\n",
    "bom": "\ufeff \n" + _chunk(delta={"content": "a"}),
    "two-in-one": 'data: {"choices":[]}{"choices":[]}\n\n',
}  # fmt: skip
_EVENTS = {
    "plain": "data: a\n\ndata: b\n\n",
    "fields": "event: e\nid: 7\nretry: 500\ndata: a\ndata: b\n: comment\n\n",
    "cr": "data: a\rdata: b\r\rdata: c\r\n\r\n",
    "bom": "\ufeffdata: a\n\n",
    "no-data": "id: 9\n\nevent: e\n\ndata\n\n",
    "nul": "id: a\0b\ndata: x\n\n",
    "odd": "data\ndata:\ndata:  two\nnothing\nid\nretry: x\n\n",
    "cut": "data: a\n\ndata: never",
}
_LINES = {"some": "a\nb\r\n\n\u2028c\u0085\nrest", "none": "abc", "empty": "\n\n\n", "long": "x" * 150 + "\ny\n"}
_SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/b"}, "c": {"type": "string", "pattern": "^(ab){2,9}[x-z]+$"}},
    "$defs": {"b": {"type": "array", "items": {"enum": [1, "2"]}, "maxItems": 9}, "d": {"$ref": "#/$defs/d"}},
}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": _SCHEMA}}
_USER = {"role": "user", "content": "hi"}
_ASK_OLLAMA: dict[str, Any] = {
    "chat": {"model": "m", "messages": [_USER], "stream": True, "think": "high", "keep_alive": "1h5m.5s"},
    "options": {"model": "m", "messages": [_USER], "options": {"num_ctx": 9, "stop": ["a"], "top_p": 1, "seed": 1.0}},
    "tools": {"model": "m", "messages": [_USER, {"role": "assistant", "tool_calls": [_CALL]},
              {"role": "tool", "content": "1", "tool_name": "f"}], "tools": [_TOOL]},
    "format": {"model": "m", "messages": [_USER], "format": _SCHEMA},
    "images": {"model": "m", "messages": [{**_USER, "images": ["aGk=\n"]}]},
    "generate": {"model": "m", "prompt": "hi", "suffix": "x", "images": ["aGk="], "context": [1], "logprobs": True},
    "raw": {"model": "m", "prompt": "hi", "raw": True, "format": "json", "top_logprobs": 3, "logprobs": True},
    "embed": {"model": "m", "input": ["a", "b"], "dimensions": 3, "truncate": False},
    "copy": {"source": "a", "destination": "b"},
    "wrong": {"model": 7},
}  # fmt: skip
_ASK_OPENAI: dict[str, Any] = {
    "chat": {"model": "m", "messages": [{"role": "developer", "content": "s"}, _USER], "max_completion_tokens": 5},
    "parts": {"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"},
              {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]},
    "tools": {"model": "m", "messages": [_USER, {"role": "assistant", "tool_calls": [{"id": "c", "type": "function",
              "function": {"name": "f", "arguments": '{"a":1}'}}]}, {"role": "tool", "tool_call_id": "c",
              "content": "1"}], "tools": [_TOOL], "tool_choice": "auto"},
    "format": {"model": "m", "messages": [_USER], "response_format": {"type": "json_schema",
               "json_schema": {"name": "n", "schema": _SCHEMA}}, "reasoning_effort": "minimal"},
    "completion": {"model": "m", "prompt": ["a"], "suffix": "b", "logprobs": 3, "stop": "x", "n": 1, "best_of": 1},
    "embeddings": {"model": "m", "input": ["a", "b"], "encoding_format": "base64"},
    "refused": {"model": "m", "messages": [_USER], "n": 2, "logit_bias": {"1": 2}, "functions": [1]},
    "logprobs": {"model": "m", "messages": [_USER], "logprobs": True, "top_logprobs": 2, "modalities": ["text"]},
}  # fmt: skip
_AI_CALL = {"type": "tool-f", "toolCallId": "c", "state": "output-available", "input": {"a": 1}, "output": [1]}
_ASK_AI: dict[str, Any] = {
    "text": {"id": "c", "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]},
    "calls": {"id": "c", "messageId": "2", "messages": [{"id": "2", "role": "assistant", "parts": [
              {"type": "step-start"}, {"type": "reasoning", "text": "hm"}, _AI_CALL, {"type": "text", "text": "so"},
              {"type": "dynamic-tool", "toolName": "g", "state": "output-error", "errorText": "no", "toolCallId": "d"},
              {"type": "tool-h", "state": "output-denied"}, {"type": "data-x"}]}]},
    "file": {"id": "c", "messages": [{"role": "user", "parts": [{"type": "file", "mediaType": "image/png",
             "url": "data:image/png;base64,aGk="}]}], "model": "m", "options": {"num_ctx": 9}, "format": _SCHEMA},
    "wrong": {"id": "c", "messages": [{"role": "robot", "parts": []}]},
}  # fmt: skip
_ASK_RUNS: dict[str, Any] = {
    "message": {"message": "hi", "model": "m", "system": "s", "linger": 2.5, "think": True, "keep_alive": "5m"},
    "messages": {"messages": [{**_USER, "images": ["aGk="]}], "tools": [_TOOL], "format": _SCHEMA, "linger": None},
    "prompt": {"prompt": "hi", "suffix": "x", "raw": True, "logprobs": True, "top_logprobs": 3},
    "turn": {"content": "hi", "parent": "msg_1", "model": "m", "options": {"seed": 1}},
    "again": {"regenerate": "msg_1", "continue": "msg_2"},
    "change": {"title": "t", "model": None, "system": "s", "options": {}, "think": False, "leaf": "msg_1"},
    "texts": {"texts": ["# a", "b"]},
    "schema": {"message": "hi", "format": {"enum": [1, 2], "maxItems": 20_000, "$ref": "http://x/", "anyOf": [{}, {}]}},
}
_HTTP = {
    "get": "GET /api/tags?x=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "length": "POST /api/chat HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n{}\r\nmore",
    "chunks": "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nT: v\r\n\r\n",
    "two-lengths": "POST /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "bad-chunk": "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n",
    "no-http": "\x16\x03\x01\r\n\r\n",
    "odd-target": "GET http://[::1/x HTTP/1.1\r\n\r\n",
    "odd-header": "GET / HTTP/1.0\r\nName : x\r\n no\r\n\r\n",
    "short": "POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\n{}",
}
_MADE: dict[str, dict[str, Any]] = {
    "ollama": _OLLAMA,
    "progress": _PROGRESS,
    "openai": _OPENAI,
    "events": _EVENTS,
    "lines": _LINES,
    "told": {f"ollama-{name}": _OLLAMA[name] for name in ("whole", "call", "halves", "error")}
    | {f"openai-{name}": _OPENAI[name] for name in ("whole", "calls", "thinking", "error")},
    "ask_ollama": _ASK_OLLAMA,
    "ask_openai": _ASK_OPENAI,
    "ask_ai": _ASK_AI,
    "ask_runs": _ASK_RUNS,
    "http": _HTTP,
}


def write() -> None:
    """Writes the inputs that are made here."""
    for target, made in _MADE.items():
        folder = FOLDER / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in made.items():
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            (folder / name).write_bytes(text.encode())


if __name__ == "__main__":
    write()
