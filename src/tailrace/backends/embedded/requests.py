"""Ollama's requests turned into llama.cpp's OpenAI-like ones; pure, no input or output.

`wire.md` A1 to A4 of the design notes tell Ollama's side, C3 the engine's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.backends.embedded.engine import Facts
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.ollama.requests import ChatBody, Function, GenerateBody, Message, OllamaAPIError, RunBody

__all__ = ["chat_payload", "generate_payload", "options", "raw_payload"]


# ---- options ----

# Ollama's defaults, which are not llama.cpp's. Options about memory and devices other than num_ctx are ignored.
_DEFAULTS: dict[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
_USED = (*_DEFAULTS, "num_ctx", "num_keep", "seed", "num_predict", "stop")


def options(given: dict[str, Any] | None, model: dict[str, Any]) -> dict[str, Any]:
    """Returns the options in force: the request's over the model's over Ollama's defaults; the rest is ignored.

    Raises:
        OllamaAPIError: 500, as Ollama answers a wrong type.
    """
    merged = {**_DEFAULTS, **ollama_requests.options(model), **ollama_requests.options(given)}
    return {name: value for name, value in merged.items() if name in _USED}


# ---- requests ----


def chat_payload(body: ChatBody, chosen: dict[str, Any], facts: Facts, system: str | None) -> bytes:
    """Returns the engine's chat request.

    Raises:
        OllamaAPIError: the model cannot do what is asked.
    """
    if body.tools and not facts.tools:
        raise OllamaAPIError(400, f"{body.model} does not support tools")
    messages = _messages(body.messages or [], facts, body.model)
    if system and not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    payload: dict[str, Any] = {"messages": messages, **_common(body, chosen, facts)}
    if body.tools:
        payload["tools"] = body.tools
    payload.update(_thinking(body, facts))
    payload.update(_format(body.format))
    return msgspec.json.encode(payload)


def generate_payload(body: GenerateBody, chosen: dict[str, Any], facts: Facts, system: str | None) -> bytes:
    """Returns the engine's chat request for a prompt; see `chat_payload`."""
    if body.template:
        raise OllamaAPIError(
            400, "the embedded engine uses the model's own template; set raw to send a prompt as it is"
        )
    if body.context:
        raise OllamaAPIError(400, "context is not supported by the embedded engine; use /api/chat with the messages")
    system = body.system if body.system is not None else system
    messages = [Message("user", body.prompt or "", images=body.images)]
    if system:
        messages.insert(0, Message("system", system))
    chat = ChatBody(
        model=body.model,
        messages=messages,
        format=body.format,
        think=body.think,
        logprobs=body.logprobs,
        top_logprobs=body.top_logprobs,
    )
    return chat_payload(chat, chosen, facts, None)


def raw_payload(body: GenerateBody, chosen: dict[str, Any], facts: Facts) -> bytes:
    """Returns the engine's completion request for a prompt that is used as it is."""
    if body.images:
        raise OllamaAPIError(400, "raw mode does not support images in the embedded engine")
    if body.think:
        _thinking(body, facts)  # for its refusal
    payload: dict[str, Any] = {"prompt": body.prompt or "", **_common(body, chosen, facts)}
    if payload.pop("logprobs", None):
        payload["logprobs"] = payload.pop("top_logprobs", 0) or 1
    constrained = _format(body.format).get("response_format")
    if constrained:
        payload["json_schema"] = constrained.get("json_schema", {}).get("schema", {"type": "object"})
    return msgspec.json.encode(payload)


def _common(body: RunBody, chosen: dict[str, Any], facts: Facts) -> dict[str, Any]:
    passed = {name: value for name, value in chosen.items() if name not in ("num_ctx", "num_predict", "num_keep")}
    limit = chosen.get("num_predict", -1)
    if "num_keep" in chosen:
        passed["n_keep"] = chosen["num_keep"]
    if body.logprobs:
        passed["logprobs"] = True
        passed["top_logprobs"] = body.top_logprobs or 0
    # Without max_tokens a small model may never stop; without return_progress a prompt could not be cancelled.
    most = limit if 0 < limit < facts.n_ctx else facts.n_ctx
    return {**passed, "stream": True, "return_progress": True, "max_tokens": most, "cache_prompt": True}


def _thinking(body: RunBody, facts: Facts) -> dict[str, Any]:
    if not facts.thinking:
        if body.think:
            raise OllamaAPIError(400, f'"{body.model}" does not support thinking')
        return {}
    wanted = body.think is not False  # unset means true where the model can
    settings: dict[str, Any] = {"enable_thinking": wanted}
    if isinstance(body.think, str):
        settings["reasoning_effort"] = "high" if body.think == "max" else body.think
    return {"chat_template_kwargs": settings}


def _format(value: object) -> dict[str, Any]:
    if value is None or value == "":
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": value}}}


def _messages(messages: list[Message], facts: Facts, model: str) -> list[dict[str, Any]]:
    out = []
    open_calls: list[tuple[str, str]] = []  # id and function of calls that no tool message has answered yet
    for index, message in enumerate(messages):
        role = message.role.lower()
        entry: dict[str, Any] = {"role": role, "content": message.content or ""}
        if message.images:
            if not facts.vision:
                raise OllamaAPIError(400, f"{model} does not support images")
            entry["content"] = _parts(message)
        if message.thinking and role == "assistant":
            entry["reasoning_content"] = message.thinking
        if message.tool_calls:
            calls = [(call.id or f"call_{index}_{n}", call.function) for n, call in enumerate(message.tool_calls)]
            open_calls = [(identity, function.name) for identity, function in calls]
            entry["tool_calls"] = [_openai_call(identity, function) for identity, function in calls]
        if role == "tool":
            entry.update(_answered(message, open_calls))
        out.append(entry)
    return out


def _openai_call(identity: str, function: Function) -> dict[str, Any]:
    arguments = msgspec.json.encode(function.arguments).decode()
    return {"id": identity, "type": "function", "function": {"name": function.name, "arguments": arguments}}


def _answered(message: Message, open_calls: list[tuple[str, str]]) -> dict[str, Any]:
    """Pairs a tool's answer with its call: by id, else by name, else the oldest one. ollama-python drops the ids."""
    found = next((call for call in open_calls if call[0] == message.tool_call_id), None)
    found = found or next((call for call in open_calls if call[1] == message.tool_name), None)
    if found is None and open_calls and not (message.tool_call_id or message.tool_name):
        found = open_calls[0]
    if found:
        open_calls.remove(found)
    identity, name = found or (message.tool_call_id or "", message.tool_name or "")
    pair = {"tool_call_id": message.tool_call_id or identity, "name": message.tool_name or name}
    return {key: value for key, value in pair.items() if value}


def _parts(message: Message) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    urls = (f"data:image/png;base64,{image}" for image in message.images or ())
    return [*parts, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
