"""What a server of OpenAI's protocol is: which of its members it understands, and in which form.

A server is recognised by what it says of itself, and what it refuses is put in another form, once; both are kept for as
long as the backend. Nothing is asked for that alone: a server names itself in the head of an answer or in the list of
its models, and as long as nobody knows which one it is, it is told the same thing in all forms that are in use, because
servers pass over members that they do not know. Those that do not say so, and are asked again without.

Sources: `tools/server/README.md` of ggml-org/llama.cpp (``return_progress``, ``chat_template_kwargs``, ``/slots``);
``entrypoints/openai/protocol.py`` of vllm-project/vllm and of sgl-project/sglang (``owned_by``, ``repetition_penalty``,
``chat_template_kwargs``); `openai/openai.go` of ollama/ollama (``reasoning_effort`` ``none``); issue 189 of
lmstudio-ai/lmstudio-bug-tracker (``json_object`` is refused); ``mlx_lm/server.py`` of ml-explore/mlx-lm; `typing.py` of
the ``openai`` extension of oobabooga/text-generation-webui (``enable_thinking``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

__all__ = ["ANY", "Dialect", "Server"]

Body = dict[str, Any]

_SWITCH = "chat_template_kwargs"
_OFF: Body = {  # how a server is told that the model is not to think
    _SWITCH: {"enable_thinking": False},
    "reasoning_effort": "none",
    "enable_thinking": False,
}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}


class Dialect(msgspec.Struct, frozen=True):
    """What a kind of server understands.

    Attributes:
        name: of the server, as people know it.
        switches: where it is told to think or not: ``chat_template_kwargs`` (what the model's template reads),
            ``reasoning_effort``, ``enable_thinking``.
        repeat: its names of the penalty on repetition.
        json_object: it takes the ``response_format`` of that name; else a schema that any object meets.
        progress: it tells how far the prompt is, if ``return_progress`` asks for it.
        named_tools: it takes a ``tool_choice`` that names a function; else that one alone is offered, and required.
        limit: its name of the most tokens.
    """

    name: str
    switches: tuple[str, ...] = (_SWITCH,)
    repeat: tuple[str, ...] = ("repetition_penalty",)
    json_object: bool = True
    progress: bool = False
    named_tools: bool = True
    limit: str = "max_tokens"


_REPEAT = "repeat_penalty"  # llama.cpp's and Ollama's

ANY = Dialect("", (_SWITCH, "reasoning_effort", "enable_thinking"), (_REPEAT, "repetition_penalty"), progress=True)
"""A server that nobody has recognised."""

LLAMA = Dialect("llama-server", repeat=(_REPEAT,), progress=True, named_tools=False)
OPENAI = Dialect("OpenAI", ("reasoning_effort",), (_REPEAT,), limit="max_completion_tokens")
_OWNERS = {  # what `owned_by` says in the list of models; the others do not name themselves there
    "llamacpp": LLAMA,
    "vllm": Dialect("vLLM"),
    "sglang": Dialect("SGLang"),
    "library": Dialect("Ollama", ("reasoning_effort",), (_REPEAT,)),
    "organization_owner": Dialect("LM Studio", (_SWITCH, "reasoning_effort"), (_REPEAT,), json_object=False),
    "koboldcpp": Dialect("KoboldCpp", repeat=(_REPEAT, "rep_pen")),
}


class Server:
    """One server: what it is, as far as is known, and what it has refused.

    Args:
        base: its address.

    Attributes:
        dialect: what it is.
    """

    def __init__(self, base: str) -> None:
        self.dialect = OPENAI if base.startswith("https://api.openai.com/") else ANY
        self._refused: dict[str, Callable[[Body], Body | None]] = {}

    def answered(self, headers: Mapping[str, str]) -> None:
        """Takes note of the head of an answer."""
        if self.dialect is ANY and headers.get("server", "").lower().startswith("llama.cpp"):
            self.dialect = LLAMA

    def listed(self, owners: set[str]) -> None:
        """Takes note of whom its models belong to: a server says its own name there, or nothing."""
        if self.dialect is ANY and len(owners) == 1:
            self.dialect = _OWNERS.get(owners.pop().lower(), ANY)

    def shaped(self, body: Body) -> Body:
        """Returns a request as this server takes it, without what it has refused before."""
        dialect = self.dialect
        body = dict(body)
        if dialect.progress:
            body.setdefault("return_progress", True)
        if dialect.limit != "max_tokens":
            body = _longest(body) or body
        if not dialect.json_object:
            body = _any_object(body) or body
        if not dialect.named_tools:
            body = _only_tool(body) or body
        for change in self._refused.values():
            body = change(body) or body
        return body

    def thinking(self, think: bool | str | None) -> Body:
        """Returns the members that tell the model to think, not to, or how hard."""
        if think is None:
            return {}
        if isinstance(think, str):
            return {"reasoning_effort": think}
        if think:  # models that can, do
            return {_SWITCH: {"enable_thinking": True}} if _SWITCH in self.dialect.switches else {}
        return {name: _OFF[name] for name in self.dialect.switches}

    def repeating(self, penalty: Any) -> Body:
        """Returns the members for the penalty on repetition, which each server calls what it likes."""
        return dict.fromkeys(self.dialect.repeat, penalty)

    def otherwise(self, body: Body, said: str) -> tuple[str, Body] | None:
        """Returns a refused request in another form, and a name for the change; None if there is none.

        Args:
            body: what was sent.
            said: the body of the answer.
        """
        said = _ECHO.split(said, maxsplit=1)[0]
        for name, signs, change in _CHANGES:
            if name not in self._refused and any(sign in said for sign in signs):
                changed = change(body)
                if changed is not None:
                    return name, changed
        if _UNKNOWN.search(said) and (changed := _plainest(body)) is not None:  # which one, it does not say
            return "extras", changed
        return None

    def refused(self, names: list[str]) -> None:
        """Remembers the changes with which a request was taken."""
        for name in names:
            self._refused[name] = _BY_NAME[name]


_ECHO = re.compile(r"""["']input["']\s*:""")  # pydantic's errors have all of what was sent behind what is wrong with it
_UNKNOWN = re.compile(
    r"(unknown|unrecogni[sz]ed|unexpected|unsupported|invalid|extra)\W+(\w+\W+){0,3}"
    r"(field|parameter|argument|propert|key|member|input|name)",
    re.IGNORECASE,
)


# -- other forms of a request ----------------------------------------------------------------------------------------


def _without(name: str) -> Callable[[Body], Body | None]:
    return lambda body: {key: value for key, value in body.items() if key != name} if name in body else None


def _any_object(body: Body) -> Body | None:
    """Any JSON object, asked for as a schema."""
    asked = body.get("response_format")
    given = isinstance(asked, dict) and asked.get("type") == "json_object"
    return {**body, "response_format": _SCHEMA} if given else None


def _only_tool(body: Body) -> Body | None:
    """A named tool: it alone is offered, and one of those offered is required. llama.cpp takes words only."""
    choice = body.get("tool_choice")
    if not isinstance(choice, dict):
        return None
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else choice.get("name")
    tools = [tool for tool in body.get("tools") or () if (tool.get("function") or {}).get("name") == name]
    return {**body, "tools": tools, "tool_choice": "required"} if name and tools else None


def _longest(body: Body) -> Body | None:
    """Reasoning models of OpenAI's know the longest answer by its newer name only."""
    if "max_tokens" not in body:
        return None
    rest = {key: value for key, value in body.items() if key != "max_tokens"}
    return {"max_completion_tokens": body["max_tokens"], **rest}


def _less_effort(body: Body) -> Body | None:
    """A level that the server lacks: the highest that all have; no thinking, if something else says so as well."""
    effort = body.get("reasoning_effort")
    if effort in ("max", "xhigh", "ultra"):
        return {**body, "reasoning_effort": "high"}
    return _without("reasoning_effort")(body) if effort == "none" else None


def _without_switch(body: Body) -> Body | None:
    """The template's own switch, where not thinking is meant: there may be nothing to switch off."""
    return _without(_SWITCH)(body) if body.get(_SWITCH) == _OFF[_SWITCH] else None


def _one_penalty(dropped: str, kept: str) -> Callable[[Body], Body | None]:
    return lambda body: _without(dropped)(body) if kept in body else None


def _plainest(body: Body) -> Body | None:
    """Without all that we add of our own accord."""
    added = ("return_progress", "stream_options", "enable_thinking")
    rest = {key: value for key, value in body.items() if key not in added}
    rest = _without_switch(rest) or rest
    rest = (_less_effort(rest) if rest.get("reasoning_effort") == "none" else None) or rest
    return rest if rest != body else None


_CHANGES: tuple[tuple[str, tuple[str, ...], Callable[[Body], Body | None]], ...] = (
    ("return_progress", ("return_progress",), _without("return_progress")),
    ("stream_options", ("stream_options", "include_usage"), _without("stream_options")),
    ("json_object", ("response_format", "json_object", "json_schema"), _any_object),
    ("named tool", ("tool_choice",), _only_tool),
    ("max_tokens", ("max_completion_tokens",), _longest),
    ("template's switch", (_SWITCH,), _without_switch),
    ("enable_thinking", ("enable_thinking",), _without("enable_thinking")),
    ("effort", ("reasoning_effort", "reasoning effort"), _less_effort),
    ("repeat_penalty", (_REPEAT,), _one_penalty(_REPEAT, "repetition_penalty")),
    ("repetition_penalty", ("repetition_penalty",), _one_penalty("repetition_penalty", _REPEAT)),
)
_BY_NAME = {name: change for name, _, change in _CHANGES} | {"extras": _plainest}
