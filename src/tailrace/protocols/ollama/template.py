"""Ollama's prompt templates: renders what `/api/show` calls a model's ``template``.

They are Go's (package ``text/template``), with the values and functions that `template/template.go` of ollama/ollama
gives them. This is the part of that language that templates of models use: text, ``if``, ``range``, ``with``, variables
and pipelines. Anything else is a `TemplateError`, never a wrong prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["TemplateError", "render"]

Node = Callable[["_Frame"], None]
Value = Callable[["_Frame"], Any]

_DEEPEST = 50  # blocks in blocks; models have some five
_LONGEST = 200_000  # characters of a prompt's template


class TemplateError(Exception):
    """The template is not one that can be rendered here."""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    think: bool | str | None = None,
    date: str = "",
) -> str:
    """Returns the prompt that Ollama makes of a conversation.

    Args:
        template: as `/api/show` gives it.
        messages: in Ollama's form, as JSON types.
        tools: likewise.
        think: as the request has it.
        date: today's, for templates that print it.

    Raises:
        TemplateError: something in it is beyond what this module knows.
    """
    try:
        return _render(template, messages, tools, think, date)
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise TemplateError(f"{type(error).__name__}: {error}") from error


def _render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    think: bool | str | None,
    date: str,
) -> str:
    if len(template) > _LONGEST or "{%" in template:
        raise TemplateError("it is one of Jinja's, or too long")
    parser = _Parser(template, date)
    body = parser.block(())[0]
    system, said = _collated(messages)
    shared = {
        "Think": bool(think) and think not in ("none", "false"),
        "ThinkLevel": think if isinstance(think, str) else "",
        "IsThinkSet": think is not None,
    }
    if "Messages" in parser.fields:
        values = {"System": system, "Messages": said, "Tools": [_go(tool) for tool in tools], "Response": "", **shared}
        return _Frame(values).run(body)
    if "Response" not in parser.fields:
        body = [*body, _printed(_field_of(("Response",)), response=True)]
    return _legacy(body, said, shared)


def _legacy(body: Sequence[Node], messages: Sequence[Mapping[str, Any]], shared: Mapping[str, Any]) -> str:
    """Renders a template without ``.Messages``: once a turn; the last turn ends where its response does."""
    out: list[str] = []
    turn = {"System": "", "Prompt": "", "Response": ""}
    for message in messages:
        name = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(message["Role"])
        if (name == "System" and (turn["Prompt"] or turn["Response"])) or (name == "Prompt" and turn["Response"]):
            out.append(_Frame({**turn, **shared}).run(body))
            turn = {"System": "", "Prompt": "", "Response": ""}
        if name:
            turn[name] = message["Content"]
    return "".join([*out, _Frame({**turn, **shared}, until_response=True).run(body)])


# -- values ------------------------------------------------------------------------------------------------------------


class _Object(dict[str, Any]):
    """A struct of Go's: fields by their names there; printed, it is its JSON."""

    json: str = ""


def _collated(messages: Sequence[Mapping[str, Any]]) -> tuple[str, list[_Object]]:
    """Returns all system prompts as one, and the messages, those of one role in a row joined (``collate`` there)."""
    system = [str(message.get("content") or "") for message in messages if message.get("role") == "system"]
    joined: list[_Object] = []
    for message in messages:
        made = _Object(
            Role=message.get("role") or "",
            Content=message.get("content") or "",
            Thinking=message.get("thinking") or "",
            Images=message.get("images") or [],
            ToolName=message.get("tool_name") or "",
            ToolCallID=message.get("tool_call_id") or "",
            ToolCalls=[_go(call) for call in message.get("tool_calls") or ()],
        )
        if joined and joined[-1]["Role"] == made["Role"] and made["Role"] != "tool":
            joined[-1]["Content"] += "\n\n" + made["Content"]
        else:
            joined.append(made)
    return "\n\n".join(system), joined


_NAMES = {"id": "ID", "anyOf": "AnyOf", "$defs": "Defs"}


def _go(value: Any, *, named: bool = True) -> Any:
    """Returns JSON types with the field names of Ollama's structs; maps of the user's own keep their keys."""
    if isinstance(value, Mapping):
        made = _Object()
        for name, item in value.items():
            own = name in ("arguments", "properties")
            made[_NAMES.get(name, name[:1].upper() + name[1:]) if named else name] = _go(item, named=not own)
        made.json = _json(value)
        return made
    if isinstance(value, (list, tuple)):
        return [_go(item, named=named) for item in value]
    return value


def _json(value: Any) -> str:
    if isinstance(value, _Object) and value.json:
        return value.json
    if isinstance(value, list):
        return "[" + ",".join(map(_json, value)) + "]"
    return msgspec.json.encode(value).decode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return _json(value)


class _Leave(Exception):  # noqa: N818  (no error: ``break``, ``continue``, and the end of a legacy template)
    """Leaves a block."""


class _Break(_Leave):
    pass


class _Next(_Leave):
    pass


class _Over(_Leave):
    pass


class _Frame:
    """One execution: the output, the value of ``.``, and the variables, innermost scope last."""

    def __init__(self, root: Mapping[str, Any], *, until_response: bool = False) -> None:
        self.out: list[str] = []
        self.dot: Any = root
        self.scopes: list[dict[str, Any]] = [{"$": root}]
        self.until_response = until_response

    def run(self, body: Sequence[Node]) -> str:
        try:
            self.all(body)
        except _Over:
            pass
        return "".join(self.out)

    def all(self, body: Iterable[Node]) -> None:
        for node in body:
            node(self)

    def inside(self, body: Sequence[Node], dot: Any, **variables: Any) -> None:
        before, self.dot = self.dot, dot
        self.scopes.append(dict(variables))
        try:
            self.all(body)
        finally:
            self.scopes.pop()
            self.dot = before

    def scope_of(self, name: str) -> dict[str, Any]:
        scopes: list[dict[str, Any]] = [scope for scope in self.scopes if name in scope]
        if not scopes:
            raise TemplateError(f"the variable {name} is not known")
        return scopes[-1]


# -- functions ---------------------------------------------------------------------------------------------------------


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    return value[start:end]


def _printf(form: str, *values: Any) -> str:
    if re.sub(r"%[svdq%]", "", form).count("%"):
        raise TemplateError(f"the format {form!r} is not known")
    left = iter(values)

    def one(match: re.Match[str]) -> str:
        if match[0] == "%%":
            return "%"
        value = next(left)
        return msgspec.json.encode(value).decode() if match[0] == "%q" else _text(value)

    return re.sub(r"%[svdq%]", one, form)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "not": lambda value: not value,
    "eq": lambda first, *rest: any(type(first) is type(other) and first == other for other in rest),
    "ne": lambda first, other: type(first) is not type(other) or first != other,
    "lt": lambda first, other: first < other,
    "le": lambda first, other: first <= other,
    "gt": lambda first, other: first > other,
    "ge": lambda first, other: first >= other,
    "len": len,
    "index": _index,
    "slice": _slice,
    "print": lambda *values: "".join(map(_text, values)),
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
    "printf": _printf,
    "json": _json,
}


# -- parsing -----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<path>\$\w*(?:\.\w+)*|(?:\.\w+)+|\.)"""
    r"""|(?P<word>\w+)|(?P<mark>:=|[=|(),]))""",
)
_STOP = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|\}\}')
_SPACE = " \t\r\n"
_SPACES = tuple(_SPACE)
_ENDS = ("end", "else")


def _field_of(path: Sequence[str]) -> Value:
    def get(frame: _Frame) -> Any:
        return _fields(frame.dot, path)

    return get


def _fields(value: Any, path: Iterable[str]) -> Any:
    for name in path:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TemplateError(f"a {type(value).__name__} has no field {name}")
        value = value.get(name)
    return value


def _printed(value: Value, *, response: bool) -> Node:
    def show(frame: _Frame) -> None:
        frame.out.append(_text(value(frame)))
        if response and frame.until_response:
            raise _Over

    return show


class _Parser:
    """Reads a template.

    Attributes:
        fields: the names of all fields that it reads, which tell what kind of template it is.
    """

    def __init__(self, template: str, date: str) -> None:
        self.fields: set[str] = set()
        self._functions = {**_FUNCTIONS, "currentDate": lambda: date}
        self._pieces = list(_pieces(template))
        self._at = 0
        self._depth = 0

    def block(self, ends: Sequence[str]) -> tuple[list[Node], str]:
        """Reads up to one of `ends`; returns the nodes, and the action that ended it."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise TemplateError("it is nested too deeply")
        nodes: list[Node] = []
        while self._at < len(self._pieces):
            kind, text = self._pieces[self._at]
            self._at += 1
            if kind == "text":
                nodes.append(_literal(text))
                continue
            word, rest = _first_word(text)
            if word in ends:
                self._depth -= 1
                return nodes, text
            nodes.append(self._action(word, rest, text))
        if ends:
            raise TemplateError("a block has no end")
        self._depth -= 1
        return nodes, ""

    def _action(self, word: str, rest: str, text: str) -> Node:
        if word in ("if", "with", "range"):
            return getattr(self, f"_{word}")(rest)  # type: ignore[no-any-return]
        if word in ("break", "continue"):
            return _leaving(_Break if word == "break" else _Next)
        if word in ("define", "template", "block", *_ENDS):
            raise TemplateError(f"{word} is not known here")
        return self._statement(text)

    def _branches(self) -> tuple[list[Node], list[Node]]:
        body, ended = self.block(_ENDS)
        if ended == "end":
            return body, []
        chained = ended.removeprefix("else").strip()
        if not chained:
            otherwise, _ = self.block(("end",))
            return body, otherwise
        word, rest = _first_word(chained)
        if word not in ("if", "with"):
            raise TemplateError(f"else {word} is not known")
        return body, [self._action(word, rest, chained)]  # its `end` is ours as well

    def _if(self, condition: str) -> Node:
        variable, test = self._assigned(condition)
        body, otherwise = self._branches()

        def choose(frame: _Frame) -> None:
            value = test(frame)
            frame.inside(body if value else otherwise, frame.dot, **({variable: value} if variable else {}))

        return choose

    def _with(self, subject: str) -> Node:
        variable, get = self._assigned(subject)
        body, otherwise = self._branches()

        def enter(frame: _Frame) -> None:
            value = get(frame)
            if value:
                frame.inside(body, value, **({variable: value} if variable else {}))
            else:
                frame.inside(otherwise, frame.dot)

        return enter

    def _range(self, subject: str) -> Node:
        match = re.match(r"(\$\w+)\s*(?:,\s*(\$\w+)\s*)?:=(.*)", subject, re.DOTALL)
        first, second, expression = match.groups() if match else (None, None, subject)
        get = self._pipeline(expression)
        body, otherwise = self._branches()

        def loop(frame: _Frame) -> None:
            items = get(frame)
            pairs = sorted(items.items()) if isinstance(items, Mapping) else list(enumerate(items or ()))
            for key, item in pairs:
                names = {first: key, second: item} if first and second else {first: item} if first else {}
                try:
                    frame.inside(body, item, **names)
                except _Next:
                    continue
                except _Break:
                    break
            if not pairs:
                frame.inside(otherwise, frame.dot)

        return loop

    def _assigned(self, text: str) -> tuple[str | None, Value]:
        match = re.match(r"(\$\w+)\s*:=(.*)", text, re.DOTALL)
        return (match[1], self._pipeline(match[2])) if match else (None, self._pipeline(text))

    def _statement(self, text: str) -> Node:
        match = re.match(r"(\$\w+)\s*(:?=)(.*)", text, re.DOTALL)
        if match is None:
            before, self.fields = self.fields, set()
            value = self._pipeline(text)
            response, self.fields = "Response" in self.fields, self.fields | before
            return _printed(value, response=response)
        name, is_new, value = match[1], match[2] == ":=", self._pipeline(match[3])

        def assign(frame: _Frame) -> None:
            scope = frame.scopes[-1] if is_new else frame.scope_of(name)
            scope[name] = value(frame)

        return assign

    # -- pipelines --

    def _pipeline(self, text: str) -> Value:
        tokens = list(_tokens(text))
        value, at = self._piped(tokens, 0)
        if at != len(tokens):
            raise TemplateError(f"{text!r} is not a pipeline")
        return value

    def _piped(self, tokens: Sequence[tuple[str, str]], at: int) -> tuple[Value, int]:
        value, at = self._command(tokens, at, None)
        while at < len(tokens) and tokens[at] == ("mark", "|"):
            value, at = self._command(tokens, at + 1, value)
        return value, at

    def _command(self, tokens: Sequence[tuple[str, str]], at: int, piped: Value | None) -> tuple[Value, int]:
        function = ""
        if at < len(tokens) and tokens[at][0] == "word" and tokens[at][1] not in ("true", "false", "nil"):
            function = tokens[at][1]
            at += 1
        operands: list[Value] = []
        while at < len(tokens) and tokens[at] not in (("mark", "|"), ("mark", ")")):
            value, at = self._operand(tokens, at)
            operands.append(value)
        if piped is not None:
            if not function:
                raise TemplateError("nothing takes what is piped")
            operands.append(piped)
        if not function:
            if len(operands) != 1:
                raise TemplateError("a value is called like a function")
            return operands[0], at
        return self._call(function, operands), at

    def _call(self, name: str, operands: Sequence[Value]) -> Value:
        if name in ("and", "or"):

            def decide(frame: _Frame) -> Any:
                value = None
                for operand in operands:
                    value = operand(frame)
                    if bool(value) is (name == "or"):
                        break
                return value

            return decide
        function = self._functions.get(name)
        if function is None:
            raise TemplateError(f"the function {name} is not known")
        return lambda frame: function(*(operand(frame) for operand in operands))

    def _operand(self, tokens: Sequence[tuple[str, str]], at: int) -> tuple[Value, int]:
        kind, text = tokens[at]
        if kind == "mark" and text == "(":
            value, at = self._piped(tokens, at + 1)
            if at >= len(tokens) or tokens[at] != ("mark", ")"):
                raise TemplateError("a parenthesis is not closed")
            at += 1
            if at < len(tokens) and tokens[at][0] == "path" and tokens[at][1].startswith("."):
                raise TemplateError("a field of a parenthesis")
            return value, at
        if kind == "string":
            string = text[1:-1] if text.startswith("`") else msgspec.json.decode(text)
            return lambda frame: string, at + 1
        if kind == "number":
            number = float(text) if "." in text else int(text)
            return lambda frame: number, at + 1
        if kind == "path":
            return self._path(text), at + 1
        constant = {"true": True, "false": False, "nil": None}
        if kind == "word" and text in constant:
            return lambda frame: constant[text], at + 1
        if kind == "word":  # a function without arguments
            return self._call(text, ()), at + 1
        raise TemplateError(f"{text!r} is no value")

    def _path(self, text: str) -> Value:
        first, *names = text.split(".")
        path = [name for name in names if name]
        self.fields.update(path)
        if not first:
            return _field_of(path)
        return lambda frame: _fields(frame.scope_of(first)[first], path)


def _first_word(text: str) -> tuple[str, str]:
    match = re.match(r"(\w*)(.*)", text, re.DOTALL)
    assert match is not None
    return match[1], match[2].strip()


def _literal(text: str) -> Node:
    return lambda frame: frame.out.append(text)


def _leaving(kind: type[_Leave]) -> Node:
    def leave(frame: _Frame) -> None:
        raise kind

    return leave


def _pieces(template: str) -> Iterable[tuple[str, str]]:
    """Yields the template's texts and actions; a ``-`` beside a brace takes the white space on that side with it."""
    at, trimmed = 0, False
    while True:
        start = template.find("{{", at)
        text = template[at:] if start < 0 else template[at:start]
        if trimmed:
            text = text.lstrip(_SPACE)
        if start >= 0 and template[start + 2 : start + 3] == "-" and template[start + 3 : start + 4] in _SPACES:
            text = text.rstrip(_SPACE)
            start += 1
        if text:
            yield "text", text
        if start < 0:
            return
        end = _end_of(template, start + 2)
        trimmed = template[end - 1] == "-" and template[end - 2] in _SPACES
        body = template[start + 2 : end - trimmed].strip()
        if not body.startswith("/*"):
            yield "action", body
        at = end + 2


def _end_of(template: str, at: int) -> int:
    """Returns where the braces are that end an action; those in a string do not."""
    while match := _STOP.search(template, at):
        if match[0] == "}}":
            return match.start()
        at = match.end()
    raise TemplateError("an action is not closed")


def _tokens(text: str) -> Iterable[tuple[str, str]]:
    at, text = 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise TemplateError(f"{text[at : at + 20]!r} is not known")
        assert match.lastgroup is not None
        yield match.lastgroup, match[match.lastgroup]
        at = match.end()
