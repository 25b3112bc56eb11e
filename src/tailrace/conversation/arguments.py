"""Arguments of tool calls: from the JSON that a model wrote to what the function's annotations say.

Small models write ``"30"`` for 30, and an object as its JSON text. What means the same without any loss is converted;
what does not is told, with the place, so that the model can do better.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import msgspec

from tailrace.client.annotations import (
    ANYTHING,
    adapter_of,
    hints_of,
    is_array,
    is_mapping,
    is_pydantic,
    is_union,
    meant,
)

__all__ = ["ArgumentError", "bound", "converted"]

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_MOST_DIGITS = 1000
_TRUE, _FALSE = frozenset(("true", "1", "yes", "on")), frozenset(("false", "0", "no", "off"))
_EXACT = {bool: bool, int: int, float: float, str: str, types.NoneType: types.NoneType, None: types.NoneType}


class ArgumentError(ValueError):
    """An argument that is not what the annotation says; the text is for the model."""


def bound(function: Callable[..., Any], arguments: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Returns the arguments as the function is called with them: by place what it takes by place only, else by name.

    Raises:
        ArgumentError: one is missing, too many, or not what its annotation says.
    """
    parameters = inspect.signature(function).parameters
    by_place = [name for name, parameter in parameters.items() if parameter.kind is parameter.POSITIONAL_ONLY]
    placed = [arguments[name] for name in by_place if name in arguments]
    named = {name: value for name, value in arguments.items() if name not in by_place}
    try:
        inspect.signature(function).bind(*placed, **named)
    except TypeError as error:
        raise ArgumentError(str(error)) from error
    hints = hints_of(function)
    rest = next((name for name, parameter in parameters.items() if parameter.kind is parameter.VAR_KEYWORD), "")
    made: dict[str, Any] = {}
    wrong: list[str] = []
    for name, value in arguments.items():
        annotation = hints.get(name if name in parameters else rest, Any)
        try:
            made[name] = converted(value, _with_default(annotation, parameters.get(name)), name)
        except ArgumentError as error:
            wrong.append(str(error))
    if wrong:
        raise ArgumentError("; ".join(wrong))
    return [made.pop(name) for name in by_place if name in made], made


def _with_default(annotation: Any, parameter: inspect.Parameter | None) -> Any:
    """``a: int = None`` is what people write for ``int | None``."""
    if parameter is not None and parameter.default is None and annotation is not Any:
        return typing.Union[annotation, None]  # noqa: UP007
    return annotation


def converted(value: Any, annotation: Any, place: str) -> Any:
    """Returns a JSON value as its annotation says.

    Raises:
        ArgumentError: it is something else, and does not become that without loss.
    """
    annotation = meant(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in ANYTHING or isinstance(annotation, typing.TypeVar):
        return value
    if origin is typing.Annotated:
        return _within_limits(converted(value, arguments[0], place), annotation, place)
    if is_union(annotation):
        return _member(value, arguments, place)
    if origin is typing.Literal:
        return _chosen(value, {each: each for each in arguments}, place)
    if is_pydantic(annotation):
        return _validated(_parsed(value, dict), annotation, place)
    kind = origin or annotation
    if not isinstance(kind, type):
        return value
    if kind in _LEAVES:
        return _LEAVES[kind](value, place)
    if issubclass(kind, enum.Enum):
        return _chosen(value, {member.value: member for member in kind}, place, kind.__members__)
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind) or issubclass(kind, msgspec.Struct):
        return _object(_parsed(value, dict), kind, place)
    if is_mapping(kind):
        return _mapping(_parsed(value, dict), kind, arguments, place)
    if is_array(kind):
        return _array(_parsed(value, list), kind, arguments, place)
    return _other(value, annotation, place)


def _wrong(place: str, expected: str, value: Any) -> ArgumentError:
    shown = msgspec.json.encode(value, enc_hook=repr).decode()
    return ArgumentError(f"{place}: expected {expected}, got {shown if len(shown) <= 60 else shown[:57] + '...'}")


# -- single values ---------------------------------------------------------------------------------------------------


def _none(value: Any, place: str) -> None:
    if value is None or (isinstance(value, str) and value.strip().lower() in ("null", "none")):
        return
    raise _wrong(place, "null", value)


def _bool(value: Any, place: str) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, str)):
        word = str(value).strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise _wrong(place, "true or false", value)


def _int(value: Any, place: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        from decimal import Decimal

        number = Decimal(value.strip())
        if number.adjusted() < _MOST_DIGITS and number == number.to_integral_value():
            return int(number)
    raise _wrong(place, "an integer", value)


def _float(value: Any, place: str) -> float:
    number: Any = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value
    if type(number) is int and number.bit_length() < 1024 and int(float(number)) == number:
        return float(number)
    if isinstance(number, float) and math.isfinite(number):
        return number
    raise _wrong(place, "a number", value)


def _str(value: Any, place: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return msgspec.json.encode(value).decode()
    raise _wrong(place, "a string", value)


_LEAVES: dict[Any, Callable[[Any, str], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    types.NoneType: _none,
}


def _chosen(value: Any, choices: Mapping[Any, Any], place: str, names: Mapping[str, Any] | None = None) -> Any:
    """Returns the choice that is meant: by its value, by its value's text, or by its name."""
    for choice, meaning in choices.items():
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return meaning
    if isinstance(value, (str, int, float)):
        word = value.strip() if isinstance(value, str) else msgspec.json.encode(value).decode()
        for choice, meaning in choices.items():
            text = choice if isinstance(choice, str) else msgspec.json.encode(choice, enc_hook=repr).decode()
            if text == word:
                return meaning
        if names and word in names:
            return names[word]
    raise _wrong(place, "one of " + msgspec.json.encode(list(choices), enc_hook=repr).decode(), value)


def _other(value: Any, annotation: Any, place: str) -> Any:
    """A time, a decimal number, a class of attrs and so on: what msgspec knows, else as it is."""
    kind = typing.get_origin(annotation) or annotation
    if isinstance(value, kind):
        return value
    if issubclass(kind, PurePath):
        return kind(_str(value, place))
    if issubclass(kind, (bool, int, float, str)):  # a subclass of one of them
        return value
    try:
        return msgspec.convert(value, annotation, strict=False)
    except msgspec.ValidationError as error:
        raise ArgumentError(f"{place}: {error}") from error
    except TypeError:  # it is none of msgspec's types; the function knows what to do with what came
        return value


# -- what holds others -------------------------------------------------------------------------------------------------


def _parsed(value: Any, kind: type) -> Any:
    """Returns an array or an object that came as its JSON text; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            parsed = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
        return parsed if isinstance(parsed, kind) else value
    return value


def _member(value: Any, members: tuple[Any, ...], place: str) -> Any:
    """Returns what the first fitting type of a union makes of a value; the type that it already has comes first."""
    problems: list[str] = []
    for member in (*(each for each in members if _has(value, each)), *members):
        try:
            return converted(value, member, place)
        except ArgumentError as error:
            if str(error) not in problems:
                problems.append(str(error))
    real = [problem for problem in problems if "expected null" not in problem]
    raise ArgumentError(" or ".join(real or problems))


def _has(value: Any, annotation: Any) -> bool:
    """Returns whether a value is of that type as it came."""
    annotation = meant(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return _has(value, typing.get_args(annotation)[0])
    if typing.get_origin(annotation) is typing.Literal:
        return any(each == value and type(each) is type(value) for each in typing.get_args(annotation))
    return annotation in _EXACT and type(value) is _EXACT[annotation]


def _array(value: Any, kind: type, arguments: tuple[Any, ...], place: str) -> Any:
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(value, kind, place)
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise _wrong(place, "an array", value)
    if issubclass(kind, tuple) and arguments and arguments[-1] is not ...:
        if len(value) != len(arguments):
            raise _wrong(place, f"an array of {len(arguments)}", value)
        pairs = zip(value, arguments, strict=True)
        return tuple(converted(item, each, f"{place}[{at}]") for at, (item, each) in enumerate(pairs))
    each = arguments[0] if arguments else Any
    items = [converted(item, each, f"{place}[{at}]") for at, item in enumerate(value)]
    if kind is list or inspect.isabstract(kind):
        return set(items) if issubclass(kind, typing.AbstractSet) else items
    return kind(items)


def _named_tuple(value: Any, kind: Any, place: str) -> Any:
    given = dict(zip(kind._fields, value, strict=False)) if isinstance(value, (list, tuple)) else value
    fields = {name: (name, name not in kind._field_defaults) for name in kind._fields}
    return kind(**_members(_parsed(given, dict), fields, hints_of(kind), place))


def _mapping(value: Any, kind: type, arguments: tuple[Any, ...], place: str) -> Any:
    if not isinstance(value, Mapping):
        raise _wrong(place, "an object", value)
    keys, values = arguments if len(arguments) == 2 else (Any, Any)
    made = {
        converted(key, keys, f"{place}: the key {key}"): converted(item, values, f"{place}.{key}")
        for key, item in value.items()
    }
    return made if inspect.isabstract(kind) or kind is dict else _other(made, kind, place)


def _object(value: Any, kind: Any, place: str) -> Any:
    """Returns an instance of a dataclass or a struct of msgspec's, or a typed dict."""
    if isinstance(value, kind) if not typing.is_typeddict(kind) else False:
        return value
    if not isinstance(value, Mapping):
        raise _wrong(place, "an object", value)
    hints, is_struct = hints_of(kind), issubclass(kind, msgspec.Struct)
    if typing.is_typeddict(kind):
        names = {name: (name, _is_required(hint, name in kind.__required_keys__)) for name, hint in hints.items()}
        return _members(value, names, hints, place)
    if dataclasses.is_dataclass(kind) and not is_struct:
        fields = {
            field.name: (field.name, field.default is field.default_factory is dataclasses.MISSING)
            for field in dataclasses.fields(kind)
            if field.init
        }
        return _made(kind, _members(value, fields, hints, place), place)
    tag = kind.__struct_config__.tag_field
    untagged = {key: item for key, item in value.items() if key != tag or value[tag] != kind.__struct_config__.tag}
    fields = {field.encode_name: (field.name, field.required) for field in msgspec.structs.fields(kind)}
    made = _made(kind, _members(untagged, fields, hints, place), place)
    try:  # its own limits
        msgspec.convert(made, kind, from_attributes=True)
    except msgspec.ValidationError as error:
        raise ArgumentError(f"{place}: {error}") from error
    except TypeError:  # it has fields of types that are not msgspec's
        pass
    return made


def _is_required(hint: Any, otherwise: bool) -> bool:
    """Returns whether a typed dict needs a key; of annotations that are strings, it does not know that itself."""
    return {typing.NotRequired: False, typing.Required: True}.get(typing.get_origin(hint), otherwise)


def _made(kind: Any, members: dict[str, Any], place: str) -> Any:
    try:
        return kind(**members)
    except (TypeError, ValueError) as error:  # what its own `__post_init__` says
        raise ArgumentError(f"{place}: {error}") from error


def _members(
    value: Any, fields: Mapping[str, tuple[str, bool]], hints: Mapping[str, Any], place: str
) -> dict[str, Any]:
    """Returns the members of an object by the names that they have in Python."""
    if not isinstance(value, Mapping):
        raise _wrong(place, "an object", value)
    if missing := [name for name, (_, required) in fields.items() if required and name not in value]:
        raise ArgumentError(f"{place}: {', '.join(missing)} is missing")
    if unknown := [str(name) for name in value if name not in fields]:
        raise ArgumentError(f"{place}: there is no {', '.join(unknown)}; there are: {', '.join(fields)}")
    return {
        fields[name][0]: converted(item, hints.get(fields[name][0], Any), f"{place}.{name}")
        for name, item in value.items()
    }


# -- limits, and pydantic ----------------------------------------------------------------------------------------------


def _within_limits(value: Any, annotation: Any, place: str) -> Any:
    if is_pydantic(annotation):
        return _validated(value, annotation, place)
    limits = [each for each in annotation.__metadata__ if isinstance(each, msgspec.Meta)]
    if limits:
        try:
            msgspec.convert(value, typing.Annotated[(type(value), *limits)])
        except msgspec.ValidationError as error:
            raise ArgumentError(f"{place}: {error}") from error
        except TypeError:  # a limit of a type that has none
            pass
    return value


def _validated(value: Any, annotation: Any, place: str) -> Any:
    """Returns what pydantic makes of a value."""
    adapter = adapter_of(annotation)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValueError as error:
        raise ArgumentError(_told(error, place)) from error


def _told(error: Any, place: str) -> str:
    """pydantic's errors in one line, without the addresses of its manual."""
    try:
        lines = [(".".join((place, *map(str, each["loc"]))), each["msg"]) for each in error.errors()]
    except AttributeError:
        return f"{place}: {error}"
    return "; ".join(f"{where}: {what}" for where, what in lines)
