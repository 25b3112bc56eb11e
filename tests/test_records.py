"""Records beside ollama-python's classes: what they are made of, how they are written, and pydantic and FastAPI."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import pprint
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import fastapi
import fastapi.testclient
import ollama
import pydantic
import pytest

import tailrace
from tailrace import errors, types

OURS: Any = tailrace

BOTH = pytest.mark.parametrize("library", [ollama, tailrace], ids=["ollama", "tailrace"])
CALL = {"function": {"name": "f", "arguments": {"x": 1}}}
ANSWER: dict[str, Any] = {
    "model": "m",
    "message": {"role": "assistant", "content": "hi", "tool_calls": [CALL]},
    "done": True,
    "eval_count": 5,
    "created_at": "2026-01-02T03:04:05Z",
}
SHOWN = {"model_info": {"a": 1}, "modified_at": "2026-01-02T03:04:05Z"}


def without_none(value: Any) -> Any:
    """The same without what is None: ours tell an index and an id of calls besides."""
    if isinstance(value, dict):
        return {name: without_none(item) for name, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


# -- being made --------------------------------------------------------------------------------------------------------

MADE: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "nested": (lambda lib: lib.ChatResponse(**ANSWER).message.tool_calls[0].function.name, "f"),
    "text as number": (lambda lib: lib.ChatResponse(**{**ANSWER, "eval_count": "5"}).eval_count, 5),
    "unknown names": (lambda lib: lib.Message(role="user", content="a", new=1).content, "a"),
    "options": (lambda lib: lib.Options(temperature="0.5", num_ctx="4096").num_ctx, 4096),
    "alias": (lambda lib: lib.ShowResponse(**SHOWN).modelinfo, {"a": 1}),
    "time": (lambda lib: lib.ShowResponse(**SHOWN).modified_at.year, 2026),
    "list of dicts": (lambda lib: lib.ListResponse(models=[{"model": "m", "details": {}}]).models[0].model, "m"),
    "tool": (
        lambda lib: (
            lib.Tool(
                function={"name": "f", "parameters": {"properties": {"a": {"type": "string", "description": "d"}}}}
            )
            .function.parameters.properties["a"]
            .description
        ),
        "d",
    ),
    "property": (lambda lib: lib.Tool.Function.Parameters.Property(type="string").type, "string"),
    "logprobs": (
        lambda lib: (
            lib.ChatResponse(
                message={"role": "a"},
                logprobs=[{"token": "b", "logprob": -1, "top_logprobs": [{"token": "c", "logprob": 0}]}],
            )
            .logprobs[0]
            .top_logprobs[0]
            .token
        ),
        "c",
    ),
    "validate": (lambda lib: lib.Message.model_validate({"role": "user", "content": "a"}).content, "a"),
    "validate json": (lambda lib: lib.ChatResponse.model_validate_json(json.dumps(ANSWER)).message.content, "hi"),
    "validate bytes": (lambda lib: lib.Message.model_validate_json(b'{"role": "a"}').role, "a"),
    "attributes": (
        lambda lib: lib.Message.model_validate(tailrace.Message("user", "a"), from_attributes=True).content,
        "a",
    ),
    "construct": (lambda lib: lib.Message.model_construct(role="a").role, "a"),
    "fields": (lambda lib: list(lib.Message.model_fields)[:2], ["role", "content"]),
    "required": (lambda lib: lib.Message.model_fields["role"].is_required(), True),
    "default": (lambda lib: lib.Tool.model_fields["type"].default, "function"),
    "fields set": (lambda lib: lib.Message(role="a", content="b").model_fields_set, {"role", "content"}),
    "schema": (lambda lib: lib.Message.model_json_schema()["required"], ["role"]),
}


@BOTH
@pytest.mark.parametrize("name", MADE)
def test_made_of_what_people_have(library: ModuleType, name: str) -> None:
    """A record is made of dicts, of JSON and of numbers as text, and knows its fields, as in ollama-python."""
    get, expected = MADE[name]

    assert get(library) == expected


def test_the_same_object_stays() -> None:
    """What is right already is not copied, and a record validated is itself."""
    message, arguments = tailrace.Message("user", "a"), {"x": [1]}

    assert tailrace.ChatResponse(message).message is message
    assert tailrace.Message.model_validate(message) is message
    assert tailrace.Message.ToolCall.Function("f", arguments).arguments is arguments


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OURS.Message(role=5), "Message.role is a text, not 5"),
        (lambda: OURS.ChatResponse(message="x"), "ChatResponse.message is made of a dict, not of 'x'"),
        (lambda: OURS.ChatResponse(message={"content": "a"}), "ChatResponse.message needs role: {'content': 'a'}"),
        (lambda: OURS.Options(temperature="hot"), "Options.temperature is a number, not 'hot'"),
        (lambda: OURS.Options(num_ctx=0.5), "Options.num_ctx is a whole number, not 0.5"),
        (lambda: OURS.Message(role="a", tool_calls="x"), "Message.tool_calls is a list, not 'x'"),
        (lambda: OURS.Message("a", tool_calls=[{"function": {}}]), "Message.tool_calls[0].function needs name: {}"),
        (lambda: OURS.Message.ToolCall.Function("f", "[1"), "arguments is an object, or the JSON text of one"),
        (lambda: OURS.Message.model_validate(5), "Message is made of a dict, not of 5"),
        (lambda: OURS.Message.model_validate_json("{"), "Message is not made of JSON: Input data was truncated"),
        (lambda: OURS.Options.model_validate({"num_ctx": "5"}, strict=True), "Options.num_ctx is a whole number"),
        (lambda: OURS.Options.model_validate({"tempo": 5}), "Options has no tempo; there are: num_ctx"),
        (lambda: OURS.Message("a").model_copy(update={"text": 1}), "Message has no field 'text'; there are: role"),
        (lambda: OURS.Message("a").model_dump(mode="xml"), "mode is 'python' or 'json', not 'xml'"),
    ],
)
def test_what_it_is_not_made_of(make: Callable[[], Any], words: str) -> None:
    """What does not fit is a RequestError, which names the field and what it holds."""
    with pytest.raises(errors.RequestError) as caught:
        make()
    assert words in str(caught.value)


def test_one_stop_word_is_a_list() -> None:
    """``stop="a"`` means one word; ollama-python refuses it."""
    assert OURS.Options(stop="a").stop == ["a"]


def test_content_in_parts() -> None:
    """A message of parts has their text, and their images as records."""
    url = {"url": "data:image/png;base64,aGk="}
    parts: Any = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": url}]
    message = tailrace.Message("user", parts)

    assert message.content == "a"
    assert message.model_dump(exclude_none=True) == {"role": "user", "content": "a", "images": ["aGk="]}
    assert message.images == [types.Image("data:image/png;base64,aGk=")]
    assert OURS.Message("user", "a", images=b"hi").images == [types.Image(b"hi")]


# -- being written -----------------------------------------------------------------------------------------------------

DUMPS: dict[str, dict[str, Any]] = {
    "all": {},
    "include": {"include": {"model", "done"}},
    "include inside": {"include": {"message": {"content"}}},
    "exclude": {"exclude": {"message"}},
    "exclude inside": {"exclude": {"message": {"content"}, "done": True}},
    "exclude an item": {"exclude": {"message": {"tool_calls": {0: {"function": {"name"}}}}}},
    "exclude of all items": {"exclude": {"message": {"tool_calls": {"__all__": {"function": {"arguments"}}}}}},
    "exclude nothing of it": {"exclude": {"message": {}}},
    "exclude of a dict": {"exclude": {"message": {"tool_calls": {0: {"function": {"arguments": {"x"}}}}}}},
    "both": {"include": {"message", "done"}, "exclude": {"message"}},
    "unset": {"exclude_unset": True},
    "defaults": {"exclude_defaults": True},
    "none": {"exclude_none": True},
    "json": {"mode": "json"},
    "unused": {"context": {}, "round_trip": True, "warnings": False, "serialize_as_any": True},
}


@pytest.mark.parametrize("name", DUMPS)
def test_dumps(name: str) -> None:
    """`model_dump` with each of its arguments gives what ollama-python's gives."""
    theirs = ollama.ChatResponse(**ANSWER).model_dump(**DUMPS[name])
    ours = tailrace.ChatResponse(**ANSWER).model_dump(**DUMPS[name])

    assert without_none(ours) == without_none(theirs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"exclude_none": True},
        {"exclude_none": True, "indent": 2},
        {"exclude_none": True, "indent": 2, "ensure_ascii": True},
        {"exclude_none": True, "ensure_ascii": True},
        {"include": {"content"}},
    ],
    ids=str,
)
def test_dumps_as_json(arguments: dict[str, Any]) -> None:
    """`model_dump_json` gives the very text that ollama-python's gives."""
    theirs, ours = (library.Message(role="user", content="é") for library in (ollama, tailrace))

    assert ours.model_dump_json(**arguments) == theirs.model_dump_json(**arguments)


def test_times_and_names() -> None:
    """A time stays one in Python and is a text in JSON; `by_alias` names fields as the wire does."""
    theirs, ours = ollama.ShowResponse(**SHOWN), tailrace.ShowResponse(**SHOWN)  # type: ignore[arg-type]

    assert ours.model_dump(exclude_none=True) == theirs.model_dump(exclude_none=True)
    assert json.loads(ours.model_dump_json(by_alias=True, exclude_none=True)) == {
        **SHOWN,
        "modified_at": "2026-01-02T03:04:05Z",
    }


def test_unknown_arguments_of_dumps() -> None:
    """An argument that is none is an error, never passed over."""
    with pytest.raises(TypeError, match="inclued"):
        tailrace.Message("a").model_dump(inclued={"role"})  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="mode"):
        tailrace.Message("a").model_dump_json(mode="json")


def test_dataclasses_and_printing() -> None:
    """`dataclasses.asdict` takes a record, and so does `pprint`, however long it is."""
    answer: Any = tailrace.ChatResponse(**ANSWER)

    assert without_none(dataclasses.asdict(answer)) == without_none(answer.model_dump())
    assert "assistant" in pprint.pformat(answer, width=20)


@BOTH
def test_habits(library: ModuleType) -> None:
    """Iterating gives names and values; records copy and pickle, and cannot be hashed, as in ollama-python."""
    answer = library.ChatResponse(**ANSWER)

    assert {name: value for name, value in answer if value is not None}["eval_count"] == 5
    assert copy.copy(answer) == copy.deepcopy(answer) == pickle.loads(pickle.dumps(answer)) == answer
    assert (answer.model_copy().message is answer.message, answer.model_copy(deep=True).message is answer.message) == (
        True,
        False,
    )
    assert answer.model_copy(update={"model": "b"}).model == "b"
    with pytest.raises(TypeError, match="unhashable"):
        hash(answer)


def test_properties_of_tools_keep_every_word() -> None:
    """What JSON Schema says beside the four words of ollama-python stays; `items` is an item only."""
    given = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
    tool = tailrace.Tool(function={"name": "f", "parameters": {"properties": {"a": given}}})  # type: ignore[arg-type]

    assert types.plain(tool)["function"]["parameters"]["properties"] == {"a": given}
    assert tool.function is not None
    assert tool.function.parameters is not None
    assert tool.function.parameters.properties is not None
    entry = tool.function.parameters.properties["a"]
    assert (entry.type, entry["items"], entry.enum, entry.model_dump()) == ("array", {"type": "integer"}, None, given)


# -- pydantic and FastAPI ----------------------------------------------------------------------------------------------


def test_a_field_of_a_model() -> None:
    """A pydantic model holds records, makes them of dicts, and writes them; what is none is its own error."""
    model = pydantic.create_model(
        "Body", messages=(list[tailrace.Message], ...), last=(tailrace.ChatResponse | None, None)
    )
    body: Any = model(messages=[{"role": "user", "content": "a"}, tailrace.Message("user", "b")])

    assert [type(message) for message in body.messages] == [tailrace.Message] * 2
    assert json.loads(body.model_dump_json(exclude_none=True)) == {
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    }
    assert model.model_validate_json(body.model_dump_json()) == body
    assert body.model_dump(include={"messages": {0: {"content"}}}) == {"messages": [{"content": "a"}]}
    with pytest.raises(pydantic.ValidationError, match="Message needs role"):
        model(messages=[{"content": "a"}])
    assert model.model_json_schema()["properties"]["messages"]["items"]["required"] == ["role"]


def test_fastapi() -> None:
    """Records are bodies and responses of FastAPI, with a document; ``response_model_exclude_none`` is honoured."""
    app = fastapi.FastAPI()

    @app.post("/one")
    def one(message: tailrace.Message) -> str | None:
        return message.content

    @app.post("/bare")
    def bare(messages: list[tailrace.Message]):  # type: ignore[no-untyped-def]
        return tailrace.ChatResponse(messages[0])

    @app.post("/", response_model_exclude_none=True)
    def answer(messages: list[tailrace.Message]) -> tailrace.ChatResponse:
        return tailrace.ChatResponse(messages[-1], model="m")

    client = fastapi.testclient.TestClient(app)

    assert client.post("/", json=[{"role": "user", "content": "a"}]).json() == {
        "message": {"role": "user", "content": "a"},
        "model": "m",
    }
    assert client.post("/", json=[{"content": "a"}]).status_code == 422
    assert client.post("/one", json={"role": "user", "content": "a"}).json() == "a"
    assert client.post("/bare", json=[{"role": "user"}]).json()["message"]["role"] == "user"
    (media,) = client.get("/openapi.json").json()["paths"]["/"]["post"]["responses"]["200"]["content"].values()
    assert "message" in media["schema"]["properties"]


def test_pydantic_and_numpy_are_not_imported() -> None:
    """Nothing of the package imports pydantic, NumPy or Pillow unless an object of theirs asks for it."""
    code = (
        "import sys, tailrace\n"
        "def add(a: int, b: list[int]): 'Add.'\n"
        "tailrace.Toolbox([add]), tailrace.ChatResponse(message={'role': 'a'}).model_dump_json()\n"
        "print({'pydantic', 'pydantic_core', 'numpy', 'PIL', 'docstring_parser'} & sys.modules.keys())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout == "set()\n"
