"""Parameter types for click: which values are valid, and the one-line error for others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tailrace.i18n import say

__all__ = ["Alias", "Bytes", "Count", "Format", "ModelOption", "OnLeave", "OneOf", "OptionOfModel", "Seconds", "gather"]

if TYPE_CHECKING:
    Kind = click.ParamType[Any]
else:
    Kind = click.ParamType  # generic since click 8.4 only

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


class OneOf(Kind):
    """One of some words."""

    name = "one of"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the word."""
        if value not in self.choices:
            self.fail(say("usage.choice", value=value, choices=", ".join(self.choices)), param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Returns the words that could be meant."""
        return _completions(choice for choice in self.choices if choice.startswith(incomplete))


class Seconds(Kind):
    """A time in seconds, not negative."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Returns the number."""
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < 1e9:
            self.fail(say("usage.not_number", value=value), param, ctx)
        return number


class Count(Kind):
    """A whole number within bounds.

    Args:
        least: the smallest.
        most: the largest.
    """

    name = "count"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the number."""
        text = str(value)
        if not (text.isascii() and text.isdigit() and len(text) < 12 and self._least <= int(text) <= self._most):
            self.fail(say("usage.not_count", value=value, least=self._least, most=self._most), param, ctx)
        return int(text)


class Alias(Kind):
    """Another name of a model, ``NAME=MODEL``."""

    name = "alias"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Returns the name and the model."""
        name, equals, model = str(value).partition("=")
        if not (equals and name.strip() and model.strip()):
            self.fail(say("usage.not_alias", value=value), param, ctx)
        return name.strip(), model.strip()


class Bytes(Kind):
    """A size: a number of bytes, or with K, M or G behind it."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the bytes."""
        text = str(value).strip().upper().removesuffix("B").removesuffix("I")
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        number = text if unit == 1 else text[:-1]
        if not (number.isascii() and number.isdigit() and 0 < int(number[:15]) * unit < 1 << 50):
            self.fail(say("usage.not_size", value=value), param, ctx)
        return int(number[:15]) * unit


class OnLeave(Kind):
    """What becomes of an answer whose reader leaves."""

    name = "policy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the policy."""
        from tailrace.web.stream_settings import linger_of

        try:
            linger_of(value)
        except ValueError:
            self.fail(say("usage.not_policy", value=value), param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Returns the words that could be meant."""
        return _completions(word for word in ("cancel", "continue", "linger=30") if word.startswith(incomplete))


class _BadOptionError(click.BadParameter):
    """A model option that is none: what the model is asked is wrong, not how the command is used."""

    exit_code = 1


class ModelOption(Kind):
    """``NAME=VALUE``, typed by Ollama's table of options."""

    name = "option"

    def fail(self, message: str, param: click.Parameter | None = None, ctx: click.Context | None = None) -> NoReturn:
        """Raises what ends with exit code 1."""
        raise _BadOptionError(message, ctx=ctx, param=param)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Returns the name and the typed value."""
        if isinstance(value, tuple):
            return value[0], value[1]
        name, equals, text = value.partition("=")
        name = name.strip()
        if not equals or not name:
            self.fail(say("usage.option_form", value=value), param, ctx)
        kinds = _kinds()
        if name not in kinds:
            from difflib import get_close_matches

            near = get_close_matches(name, kinds, n=1)
            maybe = f"; {say('usage.maybe', names=near[0])}" if near else ""
            self.fail(say("usage.option_name", name=name) + maybe, param, ctx)
        try:
            return name, _typed(kinds[name], text.strip())
        except ValueError:
            self.fail(_WRONG[kinds[name]](name, text), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Returns the names of options that could be meant."""
        return _completions(f"{name}=" for name in _kinds() if name.startswith(incomplete))


_WRONG = {
    "int": lambda name, value: say("usage.option_int", name=name, value=value),
    "float": lambda name, value: say("usage.option_float", name=name, value=value),
    "bool": lambda name, value: say("usage.option_bool", name=name, value=value),
    "list": lambda name, value: say("usage.option_list", name=name, value=value),
}


def _kinds() -> dict[str, str]:
    """Returns the kind of each of Ollama's options."""
    from tailrace.types import Options

    return {
        name: next(kind for kind in ("int", "float", "bool", "list") if kind in annotation.replace("Sequence", "list"))
        for name, annotation in Options.__annotations__.items()
        if not annotation.startswith("ClassVar")
    }


def _typed(kind: str, text: str) -> Any:
    """Returns the value of an option.

    Raises:
        ValueError: it is not of its kind.
    """
    if kind == "int":
        return int(text)
    if kind == "float":
        number = float(text)
        if number - number != 0:  # inf and nan are not JSON
            raise ValueError(text)
        return number
    if kind == "bool":
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError(text)
        return text.lower() in _TRUE
    if not text.startswith("["):
        return [text]
    items = json.loads(text)
    if not all(isinstance(item, str) for item in items):
        raise ValueError(text)
    return items


def gather(pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any] | None:
    """Returns options by name; lists that are given several times are joined, of anything else the last counts."""
    options: dict[str, Any] = {}
    for name, value in pairs:
        if isinstance(value, list):
            options[name] = [*options.get(name, ()), *value]
        else:
            options[name] = value
    return options or None


class OptionOfModel(Kind):
    """An option of one model, ``MODEL:NAME=VALUE``."""

    name = "option"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str, Any]:
        """Returns the model, the option's name and its typed value."""
        if isinstance(value, tuple):
            return value
        names, equals, text = str(value).partition("=")
        model, colon, name = names.rpartition(":")
        if not (equals and colon and model.strip()):
            self.fail(say("usage.not_model_option", value=value), param, ctx)
        option, typed = ModelOption().convert(f"{name}={text}", param, ctx)
        return model.strip(), option, typed


class Format(Kind):
    """``json``, a file with a JSON Schema, or the schema itself."""

    name = "format"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns ``"json"`` or the schema."""
        if value == "json" or isinstance(value, dict):
            return value
        what, text = say("usage.format_inline"), str(value)
        if not text.lstrip().startswith("{"):
            what = text
            try:
                text = Path(text).read_text(encoding="utf-8-sig")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                self.fail(say("usage.format_file", path=what, reason=reason), param, ctx)
        try:
            schema = json.loads(text)
            if not isinstance(schema, dict):
                raise ValueError(type(schema).__name__)
        except (ValueError, RecursionError) as error:
            self.fail(say("usage.format_json", what=what, reason=error), param, ctx)
        return schema

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Returns the word that could be meant; else it is a path, which the shell completes."""
        if incomplete and "json".startswith(incomplete):
            return _completions(["json"])
        return _completions([incomplete], kind="file")


def _completions(values: Iterable[str], kind: str = "plain") -> list[Any]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(value, type=kind) for value in values]
