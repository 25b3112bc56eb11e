"""Ollama's requests turned into llama.cpp's OpenAI-like ones; pure, no input or output.

Ollama's side is documented in `docs/api.md` of ollama/ollama, the engine's in `tools/server/README.md` of
ggml-org/llama.cpp.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.backends.embedded.engine import Facts
from tailrace.backends.embedded.forced import instruction, required_tools, schema_of
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.ollama.requests import ChatBody, GenerateBody, Message, OllamaAPIError, RunBody
from tailrace.protocols.openai.from_ollama import messages_from_ollama

__all__ = ["EngineChatBody", "chat_payload", "generate_payload", "options", "raw_payload"]


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


class EngineChatBody(ChatBody, kw_only=True):
    """A chat with what our own client sends besides, and Ollama does not know."""

    tool_choice: Any = None


def chat_payload(body: ChatBody, chosen: dict[str, Any], facts: Facts, system: str | None) -> bytes:
    """Returns the engine's chat request.

    Raises:
        OllamaAPIError: the model cannot do what is asked.
    """
    forced = required_tools(body.tools, body.tool_choice) if isinstance(body, EngineChatBody) else []
    if body.tools and not facts.tools and not forced:
        raise OllamaAPIError(400, f"{body.model} does not support tools")
    messages = _messages(body.messages or [], facts, body.model)
    if system and not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    payload: dict[str, Any] = {"messages": messages, **_common(body, chosen, facts)}
    if body.tools and facts.tools:
        payload["tools"] = forced or body.tools
    payload.update(_thinking(body, facts))
    payload.update(_format(schema_of(forced) if forced else body.format))
    if forced and facts.thinking:
        payload["chat_template_kwargs"] = {"enable_thinking": False}  # the call is all that may be said
    if forced and not facts.tools:
        payload["messages"] = _instructed(messages, instruction(forced))
    if messages and messages[-1]["role"] == "assistant":
        payload["echo"] = False  # of an answer that it continues, the engine is to say only what is new
    return msgspec.json.encode(payload)


def _instructed(messages: list[dict[str, Any]], words: str) -> list[dict[str, Any]]:
    """Returns messages with more words of the system's."""
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        said = f"{messages[0]['content']}\n\n{words}"
        return [{**messages[0], "content": said}, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


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
    if not facts.vision and any(message.images for message in messages):
        raise OllamaAPIError(400, f"{model} does not support images")
    try:
        return messages_from_ollama(map(msgspec.to_builtins, messages), tool_names=True)
    except RecursionError:
        raise OllamaAPIError(400, "the request is nested too deeply") from None
