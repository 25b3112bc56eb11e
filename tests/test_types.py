"""Types: the habits of ollama-python's classes, side by side with them, and what goes on the wire."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import enum
import json
import typing
from pathlib import Path
from typing import Any

import msgspec
import ollama
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tailrace
from tailrace import errors, events, types
from tailrace.types import Image, Options, plain

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
CLASSES = [
    *("ChatResponse", "EmbedResponse", "EmbeddingsResponse", "GenerateResponse", "ListResponse", "Message", "Options"),
    *("ProcessResponse", "ProgressResponse", "ShowResponse", "StatusResponse", "Tool", "WebFetchResponse"),
    "WebSearchResponse",
]


def both(name: str, *path: str) -> tuple[Any, Any]:
    """A class of ollama-python and ours."""
    theirs, ours = getattr(ollama, name), getattr(tailrace, name)
    for part in path:
        theirs, ours = getattr(theirs, part), getattr(ours, part)
    return theirs, ours


# -- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *([name] for name in CLASSES),
        ["Message", "ToolCall"],
        ["Message", "ToolCall", "Function"],
        ["Tool", "Function"],
        ["Tool", "Function", "Parameters"],
        ["ListResponse", "Model"],
        ["ProcessResponse", "Model"],
    ],
    ids=".".join,
)
def test_every_field_is_here(path: list[str]) -> None:
    """Every field of every class of ollama-python is one of ours, with the same name."""
    theirs, ours = both(path[0], *path[1:])

    assert set(theirs.model_fields) - set(ours.__struct_fields__) == set()


# -- the habits of a mapping -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
def test_set_fields(side: int) -> None:
    """A field that is set is there as an attribute, as an item, by `get`, and is `in`."""
    message = both("Message")[side](role="user", content="hi")

    assert (message.role, message["role"], message.get("role"), message.get("role", "x")) == ("user",) * 4
    assert ("role" in message, "content" in message) == (True, True)
    message["content"] = "ho"
    message.role = "system"
    assert (message.content, message["role"]) == ("ho", "system")


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
@pytest.mark.parametrize("name", ["thinking", "tool_calls", "no such field", "keys", "get", "__class__", ""])
def test_fields_that_are_not_set(side: int, name: str) -> None:
    """A field that is not set, and a name that is none, is not `in` and raises KeyError with its name."""
    message = both("Message")[side](role="user")

    assert name not in message
    with pytest.raises(KeyError) as caught:
        message[name]
    assert caught.value.args == (name,)


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
def test_get(side: int) -> None:
    """`get` of a name that is none gives the default."""
    message = both("Message")[side](role="user")

    assert (message.get("nothing"), message.get("nothing", 5)) == (None, 5)
    assert message.get("thinking") is None


def test_get_of_a_field_that_is_not_set_gives_the_default() -> None:
    """On purpose different: ollama-python's `get` forgets the default of declared fields, ours keeps it."""
    theirs, ours = both("ChatResponse")
    message = {"role": "assistant", "content": ""}

    assert theirs(message=message).get("total_duration", 0) is None
    assert ours(message=types.Message("assistant", "")).get("total_duration", 0) == 0


def test_none_is_not_set() -> None:
    """On purpose different: a field given as None is `in` for ollama-python; for us it is not set."""
    theirs, ours = (kind(role="user", content=None) for kind in both("Message"))

    assert ("content" in theirs, "content" in ours) == (True, False)
    assert theirs["content"] is None
    with pytest.raises(KeyError):
        ours["content"]


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
def test_false_and_empty_values_are_set(side: int) -> None:
    """False, 0, an empty text and an empty list are values like others."""
    progress = both("ProgressResponse")[side](status="", completed=0)
    message = both("Message")[side](role="user", tool_calls=[])

    assert (progress["status"], progress["completed"], "completed" in progress) == ("", 0, True)
    assert (message["tool_calls"], "tool_calls" in message) == ([], True)


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
def test_defaults_are_in(side: int) -> None:
    """A field with a default of its own is `in`."""
    tool = both("Tool")[side]()

    assert ("type" in tool, tool["type"], "function" in tool) == (True, "function", False)


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
def test_nested_items(side: int) -> None:
    """Items of items, as the tutorial reads them."""
    message = both("Message")[side]
    call = message.ToolCall(function=message.ToolCall.Function(name="f", arguments={"a": 1}))
    whole = message(role="assistant", tool_calls=[call])

    assert whole["tool_calls"][0]["function"]["name"] == "f"
    assert whole.tool_calls[0].function.arguments["a"] == 1


@pytest.mark.parametrize("side", [0, 1], ids=["ollama", "tailrace"])
def test_equality(side: int) -> None:
    """Records with equal fields are equal."""
    message = both("Message")[side]

    assert message(role="user", content="a") == message(role="user", content="a")
    assert message(role="user", content="a") != message(role="user", content="b")


def test_records_become_dicts() -> None:
    """`dict(record)` has what is set; ollama-python's has every declared field."""
    ours = types.Message("user", "hi")

    assert dict(ours) == {"role": "user", "content": "hi"}
    assert {k: v for k, v in dict(ollama.Message(role="user", content="hi")).items() if v is not None} == dict(ours)
    assert ours.keys() == ["role", "content"]


@pytest.mark.parametrize("exclude_none", [False, True])
def test_model_dump(exclude_none: bool) -> None:
    """`model_dump` and `model_dump_json` say what pydantic's say."""
    data: dict[str, Any] = {
        "message": {"role": "assistant", "content": "a", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        "done": True,
        "eval_count": 5,
    }
    theirs = ollama.ChatResponse(**data).model_dump(exclude_none=exclude_none)
    ours = msgspec.convert(data, types.ChatResponse)

    dumped = ours.model_dump(exclude_none=exclude_none)

    assert {name: value for name, value in dumped.items() if name != "message"} == {
        name: value for name, value in theirs.items() if name != "message"
    }
    (call,) = dumped["message"]["tool_calls"]
    told = {name: value for name, value in call["function"].items() if value is not None}  # ours has an index besides
    assert [{"function": told}] == theirs["message"]["tool_calls"]
    assert json.loads(ours.model_dump_json(exclude_none=exclude_none)) == dumped


# -- options ---------------------------------------------------------------------------------------------------------

OPTIONS: dict[str, Any] = {
    name: {"bool": True, "int": 5, "float": 0.5}.get(
        next(kind.__name__ for kind in typing.get_args(hint) if kind is not type(None)), ["a"]
    )
    for name, hint in typing.get_type_hints(Options).items()
    if name in Options.__struct_fields__
}


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_each_option(name: str) -> None:
    """Each option goes on the wire under its name, alone, and comes back."""
    options = Options(**{name: OPTIONS[name]})

    assert plain(options) == {name: OPTIONS[name]}
    assert json.loads(msgspec.json.encode(options)) == {name: OPTIONS[name]}
    assert msgspec.json.decode(msgspec.json.encode(options), type=Options) == options
    assert (options[name], options.get(name), options.keys()) == (OPTIONS[name], OPTIONS[name], [name])


def test_options_say_the_same() -> None:
    """All options that ollama-python knows make the same JSON there and here."""
    known = {name: value for name, value in OPTIONS.items() if name in ollama.Options.model_fields}

    assert plain(Options(**known)) == ollama.Options(**known).model_dump(exclude_none=True)
    assert set(OPTIONS) - set(known) == {"min_p", "draft_num_predict"}


def test_unknown_options() -> None:
    """On purpose different: a misspelt option is an error here, and vanishes in ollama-python."""
    assert plain(ollama.Options(temprature=1)) == {}  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="temprature"):
        Options(temprature=1)  # type: ignore[call-arg]


# -- images ----------------------------------------------------------------------------------------------------------

ENCODED = base64.b64encode(PNG).decode()


def images(folder: Path) -> dict[str, Any]:
    path = folder / "a.png"
    path.write_bytes(PNG)
    return {"path": path, "text path": str(path), "bytes": PNG, "base64": ENCODED}


@pytest.mark.parametrize("form", ["path", "text path", "bytes", "base64"])
def test_images(form: str, tmp_path: Path) -> None:
    """A path, its text, bytes and base64 become the same base64, as in ollama-python."""
    value = images(tmp_path)[form]

    assert Image(value).base64() == ENCODED
    assert Image(value=value).base64() == ollama.Image(value=value).model_dump()  # type: ignore[comparison-overlap]
    assert plain({"images": [Image(value)]}) == {"images": [ENCODED]}


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_images_in_other_bytes(kind: type[Any]) -> None:
    """Whatever holds bytes will do."""
    assert Image(kind(PNG)).base64() == ENCODED


def test_images_named_by_other_paths(tmp_path: Path) -> None:
    """Any path-like object will do."""

    @dataclasses.dataclass
    class Named:
        path: str

        def __fspath__(self) -> str:
            return self.path

    images(tmp_path)

    assert Image(typing.cast("Path", Named(str(tmp_path / "a.png")))).base64() == ENCODED


@pytest.mark.parametrize("name", ["no.png", "no.JPG", "no.jpeg", "a/b/no.webp"])
def test_a_missing_file(name: str) -> None:
    """A text that ends like an image and is no file is an error, with ollama-python's words."""
    with pytest.raises(ValueError, match=f"File {name} does not exist"):
        ollama.Image(value=name).model_dump()
    with pytest.raises(errors.RequestError, match=f"^File {name} does not exist$"):
        Image(name).base64()


@pytest.mark.parametrize("text", ["not base64!", "é", "a", "AAA", "x" * 5000 + "!", "\0"])
def test_texts_that_are_no_image(text: str) -> None:
    """A text that is neither a path nor base64 is an error, shown shortened; ollama-python lets some of them pass."""
    with pytest.raises(errors.RequestError, match="Invalid image data") as caught:
        Image(text).base64()
    assert len(str(caught.value)) < 130
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("missing", [True, False], ids=["missing", "text"])
def test_paths_that_are_no_image(missing: bool, tmp_path: Path) -> None:
    """A path that leads to nothing, or to a file that is no image, is an error that names it."""
    path = tmp_path / "notes.txt"
    if not missing:
        path.write_text("notes")
    with pytest.raises(errors.RequestError, match=r"notes\.txt"):
        Image(path).base64()
    if not missing:
        with pytest.raises(errors.RequestError, match=r"notes\.txt is not an image"):
            Image(str(path)).base64()


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    """A folder is an error that names it."""
    with pytest.raises(errors.RequestError, match="Cannot read image"):
        Image(tmp_path).base64()


@pytest.mark.parametrize(
    "start",
    [
        *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"MM\0*"),
        *(b"\0\0\0\x20ftypavif", b"OggS", b"fLaC", b"ID3\4"),
    ],
)
def test_kinds_of_images(start: bytes, tmp_path: Path) -> None:
    """Files of each kind that the servers' field carries are taken."""
    path = tmp_path / "image"
    path.write_bytes(start + bytes(16))

    assert Image(path).base64() == base64.b64encode(start + bytes(16)).decode()


# -- plain -----------------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"


class Model(pydantic.BaseModel):
    name: str
    alias: int | None = pydantic.Field(default=None, alias="@alias")
    none: int | None = None


@dataclasses.dataclass
class Data:
    a: int
    b: list[str]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (5, 5),
        (0.5, 0.5),
        ("a", "a"),
        ((1, 2), [1, 2]),
        ({1: "a", "b": None}, {"1": "a", "b": None}),
        ({"a": {"b": (Options(seed=1),)}}, {"a": {"b": [{"seed": 1}]}}),
        (types.Message("user", "a"), {"role": "user", "content": "a"}),
        (types.ToolParameters(defs={"a": {}}), {"type": "object", "$defs": {"a": {}}}),
        (Model.model_validate({"name": "a", "@alias": 1}), {"name": "a", "@alias": 1}),
        ([Model.model_validate({"name": "a"})], [{"name": "a"}]),
        (ollama.Options(seed=1), {"seed": 1}),
        (ollama.Message(role="user", content="a"), {"role": "user", "content": "a"}),
        (Data(1, ["a"]), {"a": 1, "b": ["a"]}),
        (Colour.RED, "red"),
        (b"ab", "YWI="),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00Z"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain(value: Any, expected: Any) -> None:
    """Values of ours, of pydantic and of collections become JSON types; what is not set is left out."""
    result = plain(value)

    assert result == expected
    assert json.loads(msgspec.json.encode(result)) == result


def test_plain_sets() -> None:
    """Sets become lists."""
    assert sorted(plain({1, 2})) == [1, 2]
    assert plain(frozenset(["a"])) == ["a"]


def test_plain_refuses_what_is_not_json() -> None:
    """What has no form in JSON is a TypeError that names it."""
    with pytest.raises(TypeError, match="object"):
        plain([object()])


# -- events as JSON --------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
INTS = st.none() | st.integers(0, 2**63 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
COUNTS = st.integers(0, 2**63 - 1)
USAGE = st.builds(events.Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
FAULT = st.builds(events.Fault, TEXT, TEXT, st.integers(-1, 999), TEXT)
EVENTS: st.SearchStrategy[events.Event] = st.one_of(
    st.builds(events.Queued, INTS, st.none() | st.floats(0, 1e9)),
    st.builds(events.Loading, TEXT),
    st.builds(events.Prefill, INTS, INTS),
    st.builds(events.Progress, st.none() | TEXT, st.none() | TEXT, INTS, INTS),
    st.builds(events.TextDelta, TEXT, st.none() | st.lists(VALUES, max_size=2)),
    st.builds(events.ThinkingDelta, TEXT),
    st.builds(
        events.ToolCall, TEXT, st.dictionaries(TEXT, VALUES, max_size=3), st.none() | TEXT, INTS, st.none() | TEXT
    ),
    st.builds(
        events.Ended,
        st.sampled_from(events.Outcome),
        TEXT,
        st.none() | FAULT,
        st.none() | USAGE,
        st.lists(TEXT, max_size=2).map(tuple),
        st.none() | st.lists(st.integers(0, 200_000), max_size=3),
    ),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(EVENTS)
def test_events_round_trip(event: events.Event) -> None:
    """Every event is the same after JSON, and knows its class by ``type``."""
    data = msgspec.json.encode(event)

    assert msgspec.json.decode(data, type=events.Event) == event


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (events.Queued(), '{"type":"queued"}'),
        (events.Queued(2, 0.5), '{"type":"queued","position":2,"retry_in":0.5}'),
        (events.Loading("m"), '{"type":"loading","model":"m"}'),
        (events.Prefill(1, 2), '{"type":"prefill","processed":1,"total":2}'),
        (events.Progress("success"), '{"type":"progress","status":"success"}'),
        (events.TextDelta("春"), '{"type":"text_delta","text":"春"}'),
        (events.ThinkingDelta(""), '{"type":"thinking_delta","text":""}'),
        (events.ToolCall("f", {"a": 1}), '{"type":"tool_call","name":"f","arguments":{"a":1}}'),
        (events.Ended(events.Outcome.LENGTH, "length"), '{"type":"ended","outcome":"length","reason":"length"}'),
        (
            events.Ended(events.Outcome.FAILED, fault=events.Fault("ResponseError", "no", 500)),
            '{"type":"ended","outcome":"failed","fault":{"kind":"ResponseError","message":"no","status_code":500}}',
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_as_json(event: events.Event, expected: str) -> None:
    """The JSON of events is what a browser or another process reads; it does not change by accident."""
    assert msgspec.json.encode(event).decode() == expected


def test_outcomes() -> None:
    """There are these eight ways to end; two of them are a finished answer."""
    assert [outcome.value for outcome in events.Outcome] == [
        *("complete", "length", "cancelled", "abandoned"),
        *("timed_out", "truncated", "owner_lost", "failed"),
    ]
    assert [outcome.value for outcome in events.Outcome if outcome.finished] == ["complete", "length"]


@pytest.mark.parametrize("event", [events.TextDelta("a"), events.Ended(events.Outcome.COMPLETE), events.Usage()])
def test_events_are_values(event: msgspec.Struct) -> None:
    """An event cannot be changed: all readers see the same one."""
    with pytest.raises(AttributeError, match="immutable"):
        setattr(event, event.__struct_fields__[0], None)


# -- responses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stamp", ["2026-01-02T03:04:05.678901234Z", "2026-01-02T03:04:05Z", "2318-01-01T00:00:00.5+08:00"]
)
def test_times_of_models(stamp: str) -> None:
    """Times with nanoseconds and zones are the same to the microsecond as ollama-python's."""
    data = {"models": [{"model": "m", "modified_at": stamp, "size": 5}]}
    theirs = ollama.ListResponse(**data).models[0].modified_at  # type: ignore[arg-type]

    ours = msgspec.convert(data, types.ListResponse, strict=False).models[0].modified_at

    assert theirs is not None
    assert ours is not None
    assert abs(ours - theirs) <= datetime.timedelta(microseconds=1)


def test_the_name_of_model_info() -> None:
    """`model_info` on the wire is `modelinfo` in Python, as in ollama-python."""
    data = b'{"model_info":{"general.architecture":"llama"},"unknown":1}'
    theirs, ours = ollama.ShowResponse(**json.loads(data)), msgspec.json.decode(data, type=types.ShowResponse)

    for response in (theirs, ours):
        assert response["modelinfo"] == response.modelinfo == {"general.architecture": "llama"}
        assert "model_info" not in response
    assert plain(ours) == {"model_info": {"general.architecture": "llama"}}
