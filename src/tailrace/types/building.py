"""How records are made of what people have: of dicts, of numbers as text, of one value where several are meant."""

from __future__ import annotations

import datetime
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tailrace.errors import RequestError

__all__ = ["AsDataclass", "Field", "fields_of", "made", "validated"]


class Field(msgspec.Struct, frozen=True):
    """A field of a record, as pydantic's ``model_fields`` tell of it.

    Attributes:
        annotation: its type.
        alias: its name on the wire, where that is another.
        default: what it is if it is not given.
        required: whether it has no default.
    """

    annotation: Any
    alias: str | None = None
    default: Any = None
    required: bool = False

    def is_required(self) -> bool:
        """Returns whether it has no default."""
        return self.required


@functools.cache
def fields_of(cls: Any) -> dict[str, Field]:
    """Returns the fields of a class of records by name."""
    return {
        field.name: Field(
            field.type,
            field.encode_name if field.encode_name != field.name else None,
            None if field.required else _default_of(field),
            field.required,
        )
        for field in msgspec.structs.fields(cls)
    }


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


class AsDataclass:
    """An attribute of dataclasses, which records have as well: ``dataclasses.asdict`` works, and FastAPI knows by it
    that a parameter is the body of a request."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, record: object, owner: type) -> Any:
        return getattr(_dataclass_of(owner), self._name)


@functools.cache
def _dataclass_of(cls: Any) -> Any:
    import dataclasses

    return dataclasses.make_dataclass(cls.__name__, cls.__struct_fields__)


@functools.cache
def _aliases_of(cls: Any) -> dict[str, str]:
    return {field.alias: name for name, field in fields_of(cls).items() if field.alias}


def made(cls: Any, construct: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns a record of the arguments of its class; they are converted where they need to be.

    Raises:
        TypeError: a field is missing, or there are too many.
        RequestError: a value is not what its field holds.
    """
    names = cls.__struct_fields__
    if not names:
        return construct(cls, *args, **kwargs)
    if any(name not in names for name in kwargs):
        aliases = _aliases_of(cls)
        kwargs = {aliases.get(name, name): value for name, value in kwargs.items()}
        if not cls._refuses_unknown:
            kwargs = {name: value for name, value in kwargs.items() if name in names}
    record = construct(cls, *args, **kwargs)
    convert(record)
    return record


def convert(record: Any, *, strict: bool = False, place: str = "") -> None:
    """Brings the fields of a record to what they hold, in place.

    Raises:
        RequestError: a value is not what its field holds.
    """
    cls: Any = type(record)
    prepare = getattr(cls, "_prepare", None)
    if prepare is not None:
        prepare(record)
    for name, field in fields_of(cls).items():
        value = getattr(record, name)
        if value is None or value is field.default:
            continue
        right = converted(value, field.annotation, f"{place or cls.__name__}.{name}", strict=strict)
        if right is not value:
            setattr(record, name, right)


def validated(cls: Any, value: Any, *, strict: bool = False, from_attributes: bool = False, place: str = "") -> Any:
    """Returns a record of that class made of a dict, or of another object.

    Raises:
        RequestError: it cannot be made of that.
    """
    place = place or cls.__name__
    if isinstance(value, cls):
        return value
    if isinstance(value, Mapping):
        given = {str(name): item for name, item in value.items()}
    elif hasattr(value, "model_dump") and not isinstance(value, type):
        given = value.model_dump()
    elif from_attributes:
        given = {name: getattr(value, name) for name in cls.__struct_fields__ if hasattr(value, name)}
    else:
        raise RequestError(f"{place} is made of a dict, not of {_shown(value)}")
    aliases, names = _aliases_of(cls), cls.__struct_fields__
    given = {aliases.get(name, name): item for name, item in given.items()}
    if cls._refuses_unknown and (unknown := [name for name in given if name not in names]):
        raise RequestError(f"{place} has no {', '.join(unknown)}; there are: {', '.join(names)}")
    missing = [name for name, field in fields_of(cls).items() if field.required and name not in given]
    if missing:
        raise RequestError(f"{place} needs {', '.join(missing)}: {_shown(value)}")
    record = msgspec.StructMeta.__call__(cls, **{name: item for name, item in given.items() if name in names})
    convert(record, strict=strict, place=place)
    return record


def converted(value: Any, annotation: Any, place: str, *, strict: bool = False) -> Any:
    """Returns a value as a field of that type holds it.

    Raises:
        RequestError: it is not of that type, and does not mean one that is.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any or (value is None and type(None) in arguments):
        return value
    if origin in (typing.Union, types.UnionType):
        others = tuple(each for each in arguments if each is not type(None))
        if len(others) == 1:
            return converted(value, others[0], place, strict=strict)
        return _simple(value, typing.Union[others], place, strict)  # noqa: UP007
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return validated(annotation, value, strict=strict, place=place)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(value, arguments, place, strict)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return _sequence(value, arguments[0], place, strict)
    return _simple(value, annotation, place, strict)


def _sequence(value: Any, each: Any, place: str, strict: bool) -> Any:
    """Returns a list, or the caller's own tuple or list if nothing in it needs to be converted; one item is a list."""
    if isinstance(value, str) and each is str and not strict:
        value = [value]
    elif isinstance(value, (str, bytes, bytearray, Mapping)) or not isinstance(value, Iterable):
        raise RequestError(f"{place} is a list, not {_shown(value)}")
    if each in (str, int, float) and isinstance(value, (list, tuple)) and set(map(type, value)) == {each}:
        return value  # an embedding has thousands of them
    items = [converted(item, each, f"{place}[{at}]", strict=strict) for at, item in enumerate(value)]
    if isinstance(value, (list, tuple)) and all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return items


def _mapping(value: Any, arguments: tuple[Any, ...], place: str, strict: bool) -> Any:
    if not isinstance(value, Mapping):
        raise RequestError(f"{place} is a dict, not {_shown(value)}")
    each = arguments[1]
    if each is Any:
        return value
    return {key: converted(item, each, f"{place}.{key}", strict=strict) for key, item in value.items()}


def _simple(value: Any, annotation: Any, place: str, strict: bool) -> Any:
    """Returns a text, a number, a truth or a time."""
    if type(value) is annotation:
        return value
    if not strict and annotation in (int, float) and not isinstance(value, (str, bool)):
        number = value.tolist() if callable(getattr(value, "tolist", None)) else value  # NumPy's
        if annotation is float and hasattr(number, "__float__"):
            return float(number)
        if annotation is int and hasattr(number, "__int__") and number == int(number):
            return int(number)
    if annotation is datetime.datetime and isinstance(value, datetime.datetime):
        return value
    try:
        return msgspec.convert(value, annotation, strict=strict)
    except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
        raise RequestError(f"{place} is {_name_of(annotation)}, not {_shown(value)}") from error


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "True or False", datetime.datetime: "a time"}


def _name_of(annotation: Any) -> str:
    return _NAMES.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
