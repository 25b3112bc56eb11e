"""Arguments of tool calls: what is converted to the annotation without loss, and what the model is told otherwise."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from tailrace import AsyncClient, AsyncStreamingChat, Client, StreamingChat
from tailrace.conversation.arguments import ArgumentError, bound, converted
from tailrace.testing import FakeOllama, done, say, tool_call


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Route:
    start: Point
    stops: list[Point]
    colour: Colour = Colour.RED


class Place(TypedDict):
    city: str
    zip: NotRequired[int]


class Box(msgspec.Struct, rename="camel"):
    my_name: str
    size: Annotated[int, msgspec.Meta(ge=1)] = 1


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    tricks: int


class Model(pydantic.BaseModel):
    city: str
    days: int = 1


class Pair(NamedTuple):
    a: int
    b: str = "x"


@dataclasses.dataclass
class Holder:
    model: Model


CONVERTED: list[tuple[Any, Any, Any]] = [
    *(
        ("30", int, 30),
        (" 30 ", int, 30),
        ("30.0", int, 30),
        (30.0, int, 30),
        ("1e5", int, 100_000),
        (2**70, int, 2**70),
    ),
    ("12345678901234567890.0", int, 12345678901234567890),
    *(("1.5", float, 1.5), (3, float, 3.0), ("3", float, 3.0)),
    *(("true", bool, True), ("No", bool, False), (1, bool, True), ("0", bool, False)),
    *((30, str, "30"), (1.5, str, "1.5"), (True, str, "true"), ("30", str, "30")),
    *(("red", Colour, Colour.RED), ("BLUE", Colour, Colour.BLUE), ("1", Level, Level.LOW), (1, Level, Level.LOW)),
    *(("1", Literal[1, 2], 1), (1, Literal["1"], "1"), ("a", Literal["a"], "a")),
    *(
        (["1", 2], list[int], [1, 2]),
        ('["1"]', list[int], [1]),
        (["1"], Sequence[int], [1]),
        (["1"], Iterable[int], [1]),
    ),
    *(
        (["1", 1], set[int], {1}),
        (["1"], tuple[int, ...], (1,)),
        (["1", 2], tuple[int, str], (1, "2")),
        ([1], list, [1]),
    ),
    *(({"1": "2"}, dict[int, int], {1: 2}), ('{"a": 1}', Mapping[str, str], {"a": "1"}), ({"a": 1}, dict, {"a": 1})),
    ({"x": "1", "y": 2}, Point, Point(1, 2.0)),
    ('{"x": "1"}', Point, Point(1)),
    ({"start": {"x": "1"}, "stops": ['{"x": 2}'], "colour": "blue"}, Route, Route(Point(1), [Point(2)], Colour.BLUE)),
    ({"city": 5, "zip": "7"}, Place, {"city": "5", "zip": 7}),
    ({"myName": "a", "size": "2"}, Box, Box("a", 2)),
    ({"type": "Dog", "tricks": "1"}, Cat | Dog, Dog(1)),
    ({"city": "a", "days": "2"}, Model, Model(city="a", days=2)),
    ('{"city": "a"}', Model, Model(city="a")),
    ([{"city": "a"}], list[Model], [Model(city="a")]),
    ({"model": {"city": "a"}}, Holder, Holder(Model(city="a"))),
    ({"city": "a"}, Point | Model, Model(city="a")),
    *(({"a": "1"}, Pair, Pair(1)), (["1", "b"], Pair, Pair(1, "b"))),
    *(("30", int | None, 30), (None, int | None, None), ("null", int | None, None), ("null", str | None, "null")),
    *(("30", int | str, "30"), (30, int | str, 30), ("2.5", int | float, 2.5), (["1"], list[int] | None, [1])),
    *(("5", Annotated[int, "text"], 5), ("5", Annotated[int, pydantic.Field(ge=1)], 5)),
    *(("5", typing.NewType("Big", int), 5), ("5", Any, "5"), (5, object, 5), ("5", typing.TypeVar("T"), "5")),
    ("2026-01-02", datetime.date, datetime.date(2026, 1, 2)),
    ("1.10", decimal.Decimal, decimal.Decimal("1.10")),
    ("a/b", Path, Path("a/b")),
]


@pytest.mark.parametrize(("value", "annotation", "expected"), CONVERTED, ids=str)
def test_converted(value: Any, annotation: Any, expected: Any) -> None:
    """What means the same is converted, inside of what holds it as well."""
    made = converted(value, annotation, "a")

    assert (made, type(made)) == (expected, type(expected))


REFUSED: list[tuple[Any, Any, str]] = [
    *(("x", int, 'a: expected an integer, got "x"'), ("3.5", int, 'a: expected an integer, got "3.5"')),
    *((3.5, int, "a: expected an integer, got 3.5"), (True, int, "a: expected an integer, got true")),
    ("1e99999999", int, 'a: expected an integer, got "1e99999999"'),
    *(("nan", float, 'a: expected a number, got "nan"'), ("1e999", float, 'a: expected a number, got "1e999"')),
    *((2**53 + 1, float, "a: expected a number, got 9007199254740993"), (2, bool, "a: expected true or false, got 2")),
    *((None, str, "a: expected a string, got null"), ({"b": 1}, str, 'a: expected a string, got {"b":1}')),
    ("green", Colour, 'a: expected one of ["red","blue"], got "green"'),
    ("3", Literal[1, 2], 'a: expected one of [1,2], got "3"'),
    (["1", "x"], list[int], 'a[1]: expected an integer, got "x"'),
    ("x", list[str], 'a: expected an array, got "x"'),
    ([1], tuple[int, int], "a: expected an array of 2, got [1]"),
    ({"b": "x"}, dict[str, int], 'a.b: expected an integer, got "x"'),
    ("x", Point, 'a: expected an object, got "x"'),
    ({"y": 1}, Point, "a: x is missing"),
    ({"x": 1, "z": 1}, Point, "a: there is no z; there are: x, y"),
    ({"start": {"x": "q"}, "stops": []}, Route, 'a.start.x: expected an integer, got "q"'),
    ({}, Place, "a: city is missing"),
    ({"myName": "a", "size": "0"}, Box, "a.size: Expected `int` >= 1"),
    ({"days": "x"}, Model, "a.city: Field required; a.days: Input should be a valid integer"),
    ("", int | None, 'a: expected an integer, got ""'),
    ("x", int | float, 'a: expected an integer, got "x" or a: expected a number, got "x"'),
    ("0", Annotated[int, pydantic.Field(ge=1)], "a: Input should be greater than or equal to 1"),
    ("0", Annotated[int, msgspec.Meta(ge=1)], "a: Expected `int` >= 1"),
    ("x", datetime.date, "a: Invalid RFC3339 encoded date"),
    ("x" * 100, int, 'got "' + "x" * 56 + "..."),
]


@pytest.mark.parametrize(("value", "annotation", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused(value: Any, annotation: Any, words: str) -> None:
    """What would lose something, or means something else, is told with its place."""
    with pytest.raises(ArgumentError) as caught:
        converted(value, annotation, "a")
    assert words in str(caught.value)


def places(a: int, /, b: int = None, *, c: int = 1, **more: int) -> tuple[int, int, int, dict[str, int]]:  # type: ignore[assignment]  # noqa: RUF013
    return a, b, c, more


def test_bound() -> None:
    """Arguments are given by place where the function wants that; the others by name, converted as well."""
    placed, named = bound(places, {"b": None, "a": "1", "d": "4"})

    assert (placed, named) == ([1], {"b": None, "d": 4})
    with pytest.raises(ArgumentError, match="missing a required"):
        bound(places, {"b": 1})
    with pytest.raises(ArgumentError, match='a: expected an integer, got "x"; c: expected an integer, got "y"'):
        bound(places, {"a": "x", "c": "y"})


def weather(place: Model, days: int, colours: list[Colour]) -> Model:
    """Tell the weather."""
    assert isinstance(place, Model)
    return Model(city=place.city + colours[0].value, days=days + 1)


async def weather_async(place: Model, days: int, colours: list[Colour]) -> Model:
    """Tell the weather."""
    return weather(place, days, colours)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_in_a_conversation(asynchronous: bool) -> None:
    """The function gets what it says, the model the result as JSON; and why, if it wrote something else."""
    function = weather_async if asynchronous else weather
    right = {"place": '{"city": "a"}', "days": "2", "colours": ["red"]}
    with FakeOllama(models=["m"]) as server:
        for arguments in (right, {**right, "days": "many"}):
            server.script(tool_call(function.__name__, arguments), done())
        server.script(say("ok"), done())
        if asynchronous:
            await AsyncStreamingChat("m", client=AsyncClient(server.url), tools=[function], print=len).send("?")
        else:
            StreamingChat("m", client=Client(server.url), tools=[function], print=len).send("?")
        told = [message["content"] for message in server.requests[-1].json["messages"] if message["role"] == "tool"]

    assert told == [
        '{"city":"ared","days":3}',
        f'error: ValueError: {function.__name__}: days: expected an integer, got "many"',
    ]
