"""What OpenAI's requests ask for, as a run is asked for: checked, and refused in that protocol's words.

To a server of the same protocol a request goes on as it is, with members that we do not know: that server refuses what
it does not want. For the others it is put into Ollama's form. What has no place there is left out, as Ollama's own
``/v1`` does (``n``, ``tool_choice``, ``logit_bias``, ``functions``); what it refuses (images by address, tokens for
text) is refused here too, unless there is a server of OpenAI's protocol to ask.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec

from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest, parse_json

__all__ = [
    "ChatBody",
    "CompletionBody",
    "EmbeddingsBody",
    "OpenAIRunRequest",
    "embeddings_of",
    "parse",
    "read",
    "run_request_of_chat",
    "run_request_of_completion",
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
    options: dict[str, Any] | None = None

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
    functions: list[dict[str, Any]] | None = None
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
    best_of: int | None = None
    logprobs: int | None = None


class EmbeddingsBody(msgspec.Struct, kw_only=True):
    """The body of ``/v1/embeddings``."""

    model: str | None = None
    input: str | list[Any] | None = None
    encoding_format: str | None = None
    dimensions: int | None = None


class OpenAIRunRequest(RunRequest, kw_only=True):
    """What a request asks for, with what only a server of the same protocol has a place for.

    Attributes:
        openai_body: the request's own members, which go on to such a server as they are.
        openai_only: why no other server can be asked; empty: any can.
    """

    openai_body: dict[str, Any] | None = None
    openai_only: str = ""


# Members that are not passed on: the gateway has its own, or a limit for them.
_OURS = frozenset(("model", "stream", "stream_options", "options", "max_tokens", "max_completion_tokens"))
_MOST_CHOICES = 16  # each is an answer of its own to the server, and counts once here


class _Doubts:
    """What only a server of OpenAI's protocol may make something of.

    Args:
        openai: there is one to ask; else it is refused.
    """

    def __init__(self, openai: bool) -> None:
        self.first = ""
        self._openai = openai

    def note(self, text: str, param: str, code: str | None = None) -> None:
        """Takes note of it.

        Raises:
            ProblemError: there is none to ask.
        """
        if not self._openai:
            _refuse(text, param, code)
        self.first = self.first or text

    def unsupported(self, what: str, param: str) -> None:
        """Takes note of something that is unsupported; see `note`."""
        self.note(f"{what} is not supported here", param, "unsupported_value")


_PLACE = re.compile(r" - at `\$\.([^`]+)`")


def parse(body: bytes, kind: type[Any]) -> Any:
    """Returns a body as a value of `kind`; see `read`."""
    return read(body, kind)[0]


def read(body: bytes, kind: type[Any]) -> tuple[Any, dict[str, Any]]:
    """Returns a body as a value of `kind` and as it is, with the members that this version does not know.

    Raises:
        ProblemError: it is no JSON, not of that form, or names no model; `param` says where.
    """
    try:
        value = parse_json(body, kind)
        given = parse_json(body, dict[str, Any])
    except ProblemError as error:
        place = _PLACE.search(error.problem.detail)
        error.more.setdefault("param", place[1] if place is not None else None)
        raise
    if not value.model:
        _refuse("you must provide a model parameter", "model")
    return value, given


def _refuse(text: str, param: str | None, code: str | None = None) -> NoReturn:
    raise ProblemError(400, text, param=param, code=code)


def _unsupported(what: str, param: str) -> NoReturn:
    _refuse(f"{what} is not supported here", param, "unsupported_value")


# -- options -----------------------------------------------------------------------------------------------------------


def _options(body: _Body, limit: int | None, limit_name: str) -> dict[str, Any] | None:
    """Returns the options that are set; the others are the model's own. Ollama's own names are in ``options``."""
    if body.n is not None and not 1 <= body.n <= _MOST_CHOICES:
        _refuse(f"n is a number from 1 to {_MOST_CHOICES}", "n", "integer_out_of_range")
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
    try:
        ollamas = ollama_requests.options(body.options)
    except ollama_requests.OllamaAPIError as error:
        _refuse(error.text, "options")
    return {**ollamas, **{name: value for name, value in options.items() if value is not None}} or None


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


def _think(body: ChatBody, doubts: _Doubts) -> bool | str | None:
    effort = body.reasoning_effort or (body.reasoning.effort if body.reasoning is not None else None)
    if effort is None:
        return None
    if effort not in _EFFORTS:
        doubts.note(f"{effort[:40]!r} is none of {', '.join(_EFFORTS)}", "reasoning_effort", "unsupported_value")
    return _EFFORTS.get(effort)


def _format(given: Format | None, doubts: _Doubts) -> str | dict[str, Any] | None:
    if given is None or given.type == "text":
        return None
    if given.type == "json_object":
        return "json"
    if given.type != "json_schema":
        doubts.unsupported(f"the response_format {given.type[:40]!r}", "response_format.type")
        return None
    schema = (given.json_schema or {}).get("schema")
    if isinstance(schema, dict):
        return schema
    doubts.note("json_schema has a schema, which is an object", "response_format.json_schema.schema")
    return None


def _tools(body: ChatBody, doubts: _Doubts) -> list[dict[str, Any]] | None:
    """Returns the tools, none where none may be called."""
    tools = []
    for number, tool in enumerate(body.tools or ()):
        if tool.type != "function":
            doubts.unsupported(f"a tool of the type {tool.type[:40]!r}", f"tools[{number}].type")
        elif tool.function is None or not isinstance(tool.function.get("name"), str):
            _refuse("a tool has a function, which has a name", f"tools[{number}].function")
        else:
            tools.append({"type": "function", "function": tool.function})
    return None if body.tool_choice == "none" else tools or None


# -- messages ----------------------------------------------------------------------------------------------------------

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def _messages(messages: list[Message], doubts: _Doubts) -> list[dict[str, Any]]:
    """Returns messages in Ollama's form, in which a tool's answer names the function as well."""
    names: dict[str, str] = {}
    return [_message(message, f"messages[{number}]", names, doubts) for number, message in enumerate(messages)]


def _message(message: Message, place: str, names: dict[str, str], doubts: _Doubts) -> dict[str, Any]:
    role = _ROLES.get(message.role, "user")
    if message.role not in _ROLES:
        doubts.note(f"{message.role[:40]!r} is none of {', '.join(_ROLES)}", f"{place}.role", "invalid_value")
    text, images = _content(message.content, f"{place}.content", doubts)
    out: dict[str, Any] = {"role": role, "content": text}
    if images:
        out["images"] = images
    if role == "assistant" and (thinking := message.reasoning_content or message.reasoning):
        out["thinking"] = thinking
    if message.tool_calls:
        calls = [_call(call, f"{place}.tool_calls[{number}]", doubts) for number, call in enumerate(message.tool_calls)]
        names.update({call["id"]: call["function"]["name"] for call in calls if "id" in call})
        out["tool_calls"] = calls
    if role == "tool":
        id = message.tool_call_id
        name = names.get(id or "") or message.name
        out |= {key: value for key, value in (("tool_call_id", id), ("tool_name", name)) if value}
    return out


def _call(call: Call, place: str, doubts: _Doubts) -> dict[str, Any]:
    arguments: Any = call.function.arguments or {}
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except (msgspec.MsgspecError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            doubts.note("the arguments of a tool call are the JSON of an object", f"{place}.function.arguments")
            arguments = {}
    out: dict[str, Any] = {"function": {"name": call.function.name, "arguments": arguments}}
    return {"id": call.id, **out} if call.id else out


def _content(content: str | list[Part] | None, place: str, doubts: _Doubts) -> tuple[str, list[str]]:
    """Returns a message's text and its images, as base64."""
    if content is None or isinstance(content, str):
        return content or "", []
    texts: list[str] = []
    images: list[str] = []
    for number, part in enumerate(content):
        if part.type in ("text", "refusal", "input_text", "output_text"):
            texts.append(part.text or part.refusal or "")
        elif part.type in ("image_url", "input_image"):
            images += _image(part, f"{place}[{number}].image_url", doubts)
        else:
            doubts.unsupported(f"a part of the type {part.type[:40]!r}", f"{place}[{number}].type")
    return "\n".join(texts), images


_DATA_URL = re.compile(r"data:[^,;]*(?:;[^,;]+)*;base64,", re.IGNORECASE)


def _image(part: Part, place: str, doubts: _Doubts) -> list[str]:
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    if not isinstance(url, str):
        _refuse("an image has a url", place)
    head = _DATA_URL.match(url[:200])
    if head is None:
        text = "an image comes as a data URL in base64; no address is fetched from here"
        doubts.note(text, place, "invalid_image_url")
        return []
    return [url[head.end() :]]


# -- what is asked -----------------------------------------------------------------------------------------------------


def run_request_of_chat(body: ChatBody, given: dict[str, Any], *, openai: bool = False) -> OpenAIRunRequest:
    """Returns what a chat asks for.

    Args:
        body: the request.
        given: the same, as it is.
        openai: there is a server of OpenAI's protocol to ask.

    Raises:
        ProblemError: 400: it is none, or nobody can be asked.
    """
    if not body.messages:
        _refuse("messages is a list of one message or more", "messages", "empty_array")
    if any(kind != "text" for kind in body.modalities or ()):
        _unsupported("an answer other than text", "modalities")
    if body.top_logprobs is not None and not (body.logprobs and 0 <= body.top_logprobs <= 20):
        _refuse("top_logprobs is a number from 0 to 20, and wants logprobs", "top_logprobs")
    newer = body.max_completion_tokens is not None
    limit, name = (body.max_completion_tokens, "max_completion_tokens") if newer else (body.max_tokens, "max_tokens")
    doubts = _Doubts(openai)
    return OpenAIRunRequest(
        model=body.model or "",
        messages=_messages(body.messages, doubts),
        options=_options(body, limit, name),
        think=_think(body, doubts),
        format=_format(body.response_format, doubts),
        tools=_tools(body, doubts),
        logprobs=body.logprobs or None,
        top_logprobs=body.top_logprobs,
        openai_body=_as_it_is(given),
        openai_only=doubts.first,
    )


def run_request_of_completion(body: CompletionBody, given: dict[str, Any], *, openai: bool = False) -> OpenAIRunRequest:
    """Returns what a completion asks for: the prompt goes on as it is, without the model's template.

    Args:
        body: the request.
        given: the same, as it is.
        openai: there is a server of OpenAI's protocol to ask.

    Raises:
        ProblemError: 400: it is none, or nobody can be asked.
    """
    doubts = _Doubts(openai)
    prompt = body.prompt[0] if isinstance(body.prompt, list) and len(body.prompt) == 1 else body.prompt
    if isinstance(prompt, int) or (isinstance(prompt, list) and prompt):
        doubts.unsupported("more than one prompt, or one in tokens", "prompt")
        prompt = "in tokens"  # nobody reads this: what was given goes on instead
    if not isinstance(prompt, str) or not prompt:
        _refuse("prompt is a text", "prompt")
    if body.best_of is not None and not 1 <= body.best_of <= _MOST_CHOICES:
        _refuse(f"best_of is a number from 1 to {_MOST_CHOICES}", "best_of", "integer_out_of_range")
    if body.logprobs is not None and not 0 <= body.logprobs <= 20:
        _refuse("logprobs is a number from 0 to 20", "logprobs")
    return OpenAIRunRequest(
        model=body.model or "",
        prompt=prompt,
        suffix=body.suffix or None,
        raw=None if body.suffix else True,  # the gap's marks are in the template
        options=_options(body, body.max_tokens, "max_tokens"),
        logprobs=True if body.logprobs is not None else None,
        top_logprobs=body.logprobs,
        openai_body=_as_it_is(given),
        openai_only=doubts.first,
    )


def _as_it_is(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None and name not in _OURS}


def embeddings_of(body: EmbeddingsBody, given: dict[str, Any], *, openai: bool = False) -> dict[str, Any]:
    """Returns what a client is asked to embed: ``input`` and what belongs to it.

    Args:
        body: the request.
        given: the same, as it is.
        openai: a server of OpenAI's protocol is asked; others take texts, and no members that we do not know.

    Raises:
        ProblemError: 400: there are no texts, or they are tokens.
    """
    texts = [body.input] if isinstance(body.input, str) else body.input
    if not texts:
        _refuse("input is a text, or a list of them", "input")
    if body.encoding_format not in (None, "float", "base64"):
        _unsupported("an encoding_format other than float and base64", "encoding_format")
    if openai:
        return {name: given[name] for name in given if name not in ("model", "encoding_format")}
    if not all(isinstance(text, str) for text in texts):
        _unsupported("an input in tokens", "input")
    return {"input": texts, "dimensions": body.dimensions}
