"""What OpenAI's requests ask for, as a run is asked for: checked, and refused in that protocol's words.

What cannot be honoured is refused (``n`` other than 1, a forced ``tool_choice``, ``logit_bias``, images by address);
what changes nothing in the answer is ignored (``user``, ``metadata``, ``store`` …), as are members we do not know.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec

from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest, parse_json

__all__ = [
    "ChatBody",
    "CompletionBody",
    "EmbeddingsBody",
    "parse",
    "run_request_of_chat",
    "run_request_of_completion",
    "texts_of",
]


class StreamOptions(msgspec.Struct):
    """How the stream is to be."""

    include_usage: bool | None = None


class _Body(msgspec.Struct, kw_only=True):
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: int | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def wants_usage(self) -> bool:
        """True if the stream is to tell the counts."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class Part(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | dict[str, Any] | None = None


class Function(msgspec.Struct):
    """The function of a tool call that is fed back."""

    name: str
    arguments: str | dict[str, Any] | None = None


class Call(msgspec.Struct):
    """A tool call that is fed back."""

    function: Function
    id: str | None = None


class Message(msgspec.Struct):
    """A message."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Tool(msgspec.Struct):
    """A tool."""

    type: str
    function: dict[str, Any] | None = None


class Format(msgspec.Struct):
    """What the answer is to look like."""

    type: str
    json_schema: dict[str, Any] | None = None


class Effort(msgspec.Struct):
    """How hard the model is to think."""

    effort: str | None = None


class ChatBody(_Body, kw_only=True):
    """The body of ``/v1/chat/completions``."""

    messages: list[Message] | None = None
    max_completion_tokens: int | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[Any] | None = None
    response_format: Format | None = None
    reasoning_effort: str | None = None
    reasoning: Effort | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None


class CompletionBody(_Body, kw_only=True):
    """The body of ``/v1/completions``."""

    prompt: str | list[Any] | None = None
    suffix: str | None = None
    echo: bool | None = None
    best_of: int | None = None
    logprobs: int | None = None


class EmbeddingsBody(msgspec.Struct, kw_only=True):
    """The body of ``/v1/embeddings``."""

    model: str | None = None
    input: str | list[Any] | None = None
    encoding_format: str | None = None
    dimensions: int | None = None


_PLACE = re.compile(r" - at `\$\.([^`]+)`")


def parse(body: bytes, kind: type[Any]) -> Any:
    """Returns a body as a value of `kind`.

    Raises:
        ProblemError: it is no JSON, not of that form, or names no model; `param` says where.
    """
    try:
        value = parse_json(body, kind)
    except ProblemError as error:
        place = _PLACE.search(error.problem.detail)
        error.more.setdefault("param", place[1] if place is not None else None)
        raise
    if not value.model:
        _refuse("you must provide a model parameter", "model")
    return value


def _refuse(text: str, param: str | None, code: str | None = None) -> NoReturn:
    raise ProblemError(400, text, param=param, code=code)


def _unsupported(what: str, param: str) -> NoReturn:
    _refuse(f"{what} is not supported here", param, "unsupported_value")


# -- options -----------------------------------------------------------------------------------------------------------


def _options(body: _Body, limit: int | None, limit_name: str) -> dict[str, Any] | None:
    """Returns the options that are set; the others are the model's own."""
    if body.n not in (None, 1):
        _unsupported("n other than 1", "n")
    if body.logit_bias:
        _unsupported("logit_bias", "logit_bias")
    if limit is not None and limit < 1 and limit != -1:  # -1: no limit, as local servers have it
        _refuse(f"{limit_name} is a number of tokens, 1 or more", limit_name, "integer_below_min_value")
    stop = [body.stop] if isinstance(body.stop, str) else body.stop
    options = {
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": body.seed,
        "stop": stop or None,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "num_predict": limit,
    }
    return {name: value for name, value in options.items() if value is not None} or None


_EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}


def _think(body: ChatBody) -> bool | str | None:
    effort = body.reasoning_effort or (body.reasoning.effort if body.reasoning is not None else None)
    if effort is None:
        return None
    if effort not in _EFFORTS:
        _refuse(f"{effort[:40]!r} is none of {', '.join(_EFFORTS)}", "reasoning_effort", "unsupported_value")
    return _EFFORTS[effort]


def _format(given: Format | None) -> str | dict[str, Any] | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return "json"
    if given.type != "json_schema":
        _unsupported(f"the response_format {given.type[:40]!r}", "response_format.type")
    schema = (given.json_schema or {}).get("schema")
    if not isinstance(schema, dict):
        _refuse("json_schema has a schema, which is an object", "response_format.json_schema.schema")
    return schema


def _tools(body: ChatBody) -> list[dict[str, Any]] | None:
    """Returns the tools, none where none may be called. No local model can be forced to call one."""
    if body.functions:
        _refuse("functions are an older form; send tools", "functions", "unsupported_parameter")
    for number, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            _unsupported(f"a tool of the type {tool.type[:40]!r}", f"tools[{number}].type")
        if tool.function is None or not isinstance(tool.function.get("name"), str):
            _refuse("a tool has a function, which has a name", f"tools[{number}].function")
    if body.tool_choice not in (None, "auto", "none"):
        _unsupported("a tool_choice other than auto and none", "tool_choice")
    if body.tool_choice == "none":
        return None
    return [{"type": "function", "function": tool.function} for tool in body.tools or ()] or None


# -- messages ----------------------------------------------------------------------------------------------------------

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Returns messages in Ollama's form, in which a tool's answer names the function as well."""
    names: dict[str, str] = {}
    return [_message(message, f"messages[{number}]", names) for number, message in enumerate(messages)]


def _message(message: Message, place: str, names: dict[str, str]) -> dict[str, Any]:
    role = _ROLES.get(message.role)
    if role is None:
        _refuse(f"{message.role[:40]!r} is none of {', '.join(_ROLES)}", f"{place}.role", "invalid_value")
    text, images = _content(message.content, f"{place}.content")
    out: dict[str, Any] = {"role": role, "content": text}
    if images:
        out["images"] = images
    if role == "assistant" and (thinking := message.reasoning_content or message.reasoning):
        out["thinking"] = thinking
    if message.tool_calls:
        calls = [_call(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(message.tool_calls)]
        names.update({call["id"]: call["function"]["name"] for call in calls if "id" in call})
        out["tool_calls"] = calls
    if role == "tool":
        id = message.tool_call_id
        name = names.get(id or "") or message.name
        out |= {key: value for key, value in (("tool_call_id", id), ("tool_name", name)) if value}
    return out


def _call(call: Call, place: str) -> dict[str, Any]:
    arguments: Any = call.function.arguments or {}
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.MsgspecError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            _refuse("the arguments of a tool call are the JSON of an object", f"{place}.function.arguments")
    out: dict[str, Any] = {"function": {"name": call.function.name, "arguments": arguments}}
    return {"id": call.id, **out} if call.id else out


def _content(content: str | list[Part] | None, place: str) -> tuple[str, list[str]]:
    """Returns a message's text and its images, as base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[str] = []
    images: list[str] = []
    for number, part in enumerate(content):
        if part.type in ("text", "refusal", "input_text", "output_text"):
            texts.append(part.text or part.refusal or "")
        elif part.type in ("image_url", "input_image"):
            images.append(_image(part, f"{place}[{number}].image_url"))
        else:
            _unsupported(f"a part of the type {part.type[:40]!r}", f"{place}[{number}].type")
    return "\n".join(texts), images


_DATA_URL = re.compile(r"data:[^,;]*(?:;[^,;]+)*;base64,", re.IGNORECASE)


def _image(part: Part, place: str) -> str:
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    if not isinstance(url, str):
        _refuse("an image has a url", place)
    head = _DATA_URL.match(url[:200])
    if head is None:
        text = "an image comes as a data URL in base64; no address is fetched from here"
        _refuse(text, place, "invalid_image_url")
    return url[head.end() :]


# -- what is asked -----------------------------------------------------------------------------------------------------


def run_request_of_chat(body: ChatBody) -> RunRequest:
    """Returns what a chat asks for.

    Raises:
        ProblemError: 400: it is none, or cannot be honoured.
    """
    if not body.messages:
        _refuse("messages is a list of one message or more", "messages", "empty_array")
    if any(kind != "text" for kind in body.modalities or ()):
        _unsupported("an answer other than text", "modalities")
    if body.top_logprobs is not None and not (body.logprobs and 0 <= body.top_logprobs <= 20):
        _refuse("top_logprobs is a number from 0 to 20, and wants logprobs", "top_logprobs")
    newer = body.max_completion_tokens is not None
    limit, name = (body.max_completion_tokens, "max_completion_tokens") if newer else (body.max_tokens, "max_tokens")
    return RunRequest(
        model=body.model or "",
        messages=_messages(body.messages),
        options=_options(body, limit, name),
        think=_think(body),
        format=_format(body.response_format),
        tools=_tools(body),
        logprobs=body.logprobs or None,
        top_logprobs=body.top_logprobs,
    )


def run_request_of_completion(body: CompletionBody) -> RunRequest:
    """Returns what a completion asks for: the prompt goes on as it is, without the model's template.

    Raises:
        ProblemError: 400: it is none, or cannot be honoured.
    """
    prompt = body.prompt[0] if isinstance(body.prompt, list) and len(body.prompt) == 1 else body.prompt
    if isinstance(prompt, list) and prompt:
        _unsupported("more than one prompt, or one in tokens", "prompt")
    if not isinstance(prompt, str) or not prompt:
        _refuse("prompt is a text", "prompt")
    if body.echo:
        _unsupported("echo", "echo")
    if body.best_of not in (None, 1):
        _unsupported("best_of other than 1", "best_of")
    if body.logprobs is not None and not 0 <= body.logprobs <= 20:
        _refuse("logprobs is a number from 0 to 20", "logprobs")
    return RunRequest(
        model=body.model or "",
        prompt=prompt,
        suffix=body.suffix or None,
        raw=None if body.suffix else True,  # the gap's marks are in the template
        options=_options(body, body.max_tokens, "max_tokens"),
        logprobs=True if body.logprobs is not None else None,
        top_logprobs=body.logprobs,
    )


def texts_of(body: EmbeddingsBody) -> list[str]:
    """Returns the texts to be embedded.

    Raises:
        ProblemError: 400: there are none, or they are tokens.
    """
    given = [body.input] if isinstance(body.input, str) else body.input
    if not given:
        _refuse("input is a text, or a list of them", "input")
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        _unsupported("an input in tokens", "input")
    if body.encoding_format not in (None, "float", "base64"):
        _unsupported("an encoding_format other than float and base64", "encoding_format")
    return texts
