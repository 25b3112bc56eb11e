"""Requests as people write them: messages, images, options, formats and times in the forms that they have them in."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import ollama
import pydantic
import pytest

from tailrace import errors, types
from tailrace.client.base import create_body
from tailrace.client.requests import chat_request, generate_request

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
ENCODED = base64.b64encode(PNG).decode()
URL = f"data:image/png;base64,{ENCODED}"
USER = {"role": "user", "content": "a"}


def sent(messages: Any) -> list[dict[str, Any]]:
    """The messages that go on the wire."""
    return chat_request("m", messages, None, False).messages or []


def asked(**rest: Any) -> Any:
    """The request that a completion is."""
    return generate_request("m", False, rest.pop("images", None), context=rest.pop("context", None), **rest)


class Scalar:
    """A number or an array as NumPy has them."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value


@dataclasses.dataclass
class Said:
    role: str
    content: str


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        (USER,),
        USER,
        "a",
        types.Message("user", "a"),
        ollama.Message(role="user", content="a"),
        [ollama.Message(role="user", content="a")],
        iter([USER]),
        {"x": USER}.values(),
        [Said("user", "a")],
        Said("user", "a"),
        [{**USER, "content": ["a"]}],
        [{**USER, "content": {"type": "text", "text": "a"}}],
        [{**USER, "content": [{"type": "text", "text": "a"}]}],
        [{**USER, "content": [{"type": "input_text", "text": "a"}]}],
        [{**USER, "content": [{"text": "a"}]}],
    ],
    ids=lambda messages: type(messages).__name__,
)
def test_messages(messages: Any) -> None:
    """A text, one message, and whatever gives messages is a conversation."""
    assert sent(messages) == [USER]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (b"a", "messages is a list of messages, such as [{'role': 'user', 'content': '…'}], not bytes"),
        (5, "messages is a list of messages, such as [{'role': 'user', 'content': '…'}], not int"),
        ([("user", "a")], "messages[0]: a message is a dict or a Message, not tuple"),
        ([USER, {"content": "a"}], "messages[1]: a message needs a role: {'content': 'a'}"),
        ([{**USER, "content": 5}], "messages[0].content is a text or a list of parts, not int"),
        (
            [{**USER, "content": [5]}],
            "messages[0].content[0]: a part is a dict, not int; what is taken is {'type': 'text'",
        ),
        (
            [{**USER, "content": [{"type": "video"}]}],
            "messages[0].content[0]: a part of the type 'video' cannot be sent",
        ),
        ([{**USER, "content": [{"type": "text", "text": 5}]}], "messages[0].content[0].text is a text, not int"),
        ([{**USER, "new": object()}], "messages[0]: a message holds JSON types; something in it has no form in JSON"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}],
            "messages[0].tool_calls[0].function.arguments is an object, or the JSON text of one",
        ),
        ([{**USER, "images": ["http://a/b.png"]}], "messages[0].images[0]: no image is fetched from 'http://a/b.png'"),
        ([{**USER, "images": [None]}], "messages[0].images[0]: an image is a path, bytes, base64 text, a data URL"),
        ([{**USER, "images": [b""]}], "messages[0].images[0]: an image is empty"),
        ([{**USER, "images": [io.StringIO("a")]}], "a file of an image is opened with mode 'rb', not as text"),
    ],
)
def test_what_is_no_message(messages: Any, words: str) -> None:
    """What cannot be sent is refused with its place, and with what is taken instead."""
    with pytest.raises(errors.RequestError) as caught:
        sent(messages)
    assert words in str(caught.value)


def test_calls_that_are_fed_back() -> None:
    """OpenAI's calls have their arguments as JSON text; Ollama is sent the object. Text beside a result is its text."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    history = [
        {"role": "assistant", "content": None, "tool_calls": [call, {"function": {"name": "g", "arguments": ""}}]},
        {"role": "tool", "content": [{"type": "text", "text": "1"}], "tool_call_id": "c"},
    ]

    assistant, tool = sent(history)

    assert [each["function"]["arguments"] for each in assistant["tool_calls"]] == [{"a": 1}, {}]
    assert tool == {"role": "tool", "content": "1", "tool_call_id": "c"}
    assert call["function"]["arguments"] == '{"a": 1}'  # type: ignore[index]


# -- images ------------------------------------------------------------------------------------------------------------


class Drawing:
    """An image as Pillow has them."""

    def __init__(self, mode: str = "RGB") -> None:
        self.mode = mode

    def convert(self, mode: str) -> Drawing:
        return Drawing(mode)

    def save(self, file: Any, format: str) -> None:
        assert (self.mode, format) == ("RGB", "PNG")
        file.write(PNG)


FORMS: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "bytes": lambda path: PNG,
    "memory": lambda path: memoryview(PNG),
    "base64": lambda path: ENCODED,
    "lines": lambda path: base64.encodebytes(PNG * 9).decode().replace("\n", "\r\n"),
    "URL": lambda path: URL,
    "URL with a name": lambda path: f"data:image/png;name=a.png;base64,{ENCODED}",
    "file": lambda path: io.BytesIO(PNG),
    "record": lambda path: types.Image(PNG),
    "theirs": lambda path: ollama.Image(value=PNG),
    "Pillow": lambda path: Drawing(),
    "Pillow of four colours": lambda path: Drawing("CMYK"),
}


@pytest.mark.parametrize("form", FORMS)
def test_images(form: str, tmp_path: Path) -> None:
    """Every form of an image is its base64, alone and in a list, in a message, a part and a completion."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    expected = base64.b64encode(PNG * 9).decode() if form == "lines" else ENCODED
    make = FORMS[form]

    assert sent([{**USER, "images": make(path)}])[0]["images"] == [expected]
    assert sent([{**USER, "images": [make(path), make(path)]}])[0]["images"] == [expected] * 2
    assert asked(images=make(path)).images == asked(images=iter([make(path)])).images == [expected]
    part = {"type": "image", "image": make(path)}
    assert sent([{**USER, "content": [{"type": "text", "text": "a"}, part]}]) == [{**USER, "images": [expected]}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "image_url", "image_url": URL},
        {"type": "input_image", "image_url": URL},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}},
        {"type": "image", "data": ENCODED, "mimeType": "image/png"},
        {"type": "image", "base64": ENCODED, "mime_type": "image/png"},
        {"type": "file", "file": {"file_data": URL}},
        {"image_url": {"url": URL}},
    ],
    ids=str,
)
def test_parts_of_images(part: dict[str, Any]) -> None:
    """An image in a part of any of the usual forms goes beside the text, after those that are there already."""
    message = {**USER, "content": [part, {"type": "text", "text": "b"}, "c"], "images": [PNG[:8]]}

    assert sent(message) == [{**USER, "content": "b\nc", "images": [base64.b64encode(PNG[:8]).decode(), ENCODED]}]


def test_other_files_are_no_images() -> None:
    """A file that is no image is refused as what it is."""
    part = {"type": "file", "file": {"file_data": "data:application/pdf;base64,aGk="}}

    with pytest.raises(
        errors.RequestError, match=r"messages\[0\]\.content\[0\]: a part of the type 'file' cannot be sent"
    ):
        sent([{**USER, "content": [part]}])


# -- the rest ----------------------------------------------------------------------------------------------------------


class Pet(pydantic.BaseModel):
    name: str


class Place(TypedDict):
    city: str


@dataclasses.dataclass
class Point:
    x: int


PETS = {"title": "Pet", "type": "object", "required": ["name"]}


@pytest.mark.parametrize(
    ("format", "kind", "required"),
    [
        (Pet, "object", ["name"]),
        (Pet(name="a"), "object", ["name"]),
        (Pet.model_json_schema(), "object", ["name"]),
        ('{"type": "object", "required": ["name"]}', "object", ["name"]),
        (Point, "object", ["x"]),
        (Place, "object", ["city"]),
        (list[Pet], "array", None),
        (pydantic.TypeAdapter(list[int]), "array", None),
    ],
    ids=str,
)
def test_formats(format: Any, kind: str, required: list[str] | None) -> None:
    """A class is its JSON Schema; so is an adapter of pydantic's, and the schema's own text."""
    schema = asked(format=format).format

    assert (schema["type"], schema.get("required")) == (kind, required)


def test_formats_that_stay() -> None:
    """``"json"`` and the empty text are sent as they are."""
    assert (asked(format="json").format, asked(format="").format, asked(format={}).format) == ("json", "", {})


def test_numbers_times_and_words() -> None:
    """NumPy's numbers and arrays, exact numbers, a `timedelta` and one stop word are sent as what they mean."""
    options = {"seed": Scalar(3), "temperature": decimal.Decimal("0.5"), "stop": "a", "num_ctx": decimal.Decimal(5)}
    request = asked(options=options, keep_alive=datetime.timedelta(minutes=5), context=Scalar([1, 2]), width=Scalar(8))

    assert request.options == {"seed": 3, "temperature": 0.5, "stop": ["a"], "num_ctx": 5}
    assert (request.keep_alive, request.context, request.width) == (300.0, [1, 2], 8)
    assert types.Options(seed=Scalar(3), temperature=Scalar(1)).model_dump(exclude_none=True) == {  # type: ignore[arg-type]
        "seed": 3,
        "temperature": 1.0,
    }
    body = create_body({"input": (text for text in "ab"), "keep_alive": datetime.timedelta(0), "from_": "b", "x": None})
    assert body == {"input": ["a", "b"], "keep_alive": 0.0, "from": "b"}
    assert create_body({"messages": "a", "parameters": {"stop": "b"}}) == {
        "messages": [USER],
        "parameters": {"stop": ["b"]},
    }


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ({"prompt": ["a"]}, "prompt is a text, not list; a conversation goes to chat(messages=…)"),
        ({"system": 5}, "system is a text, not int"),
        ({"context": "ab"}, "context is a list of token ids"),
        ({"format": "xml"}, "format is 'json', a JSON Schema, or a class that has one"),
        ({"format": 5}, "not 5"),
        ({"options": [1]}, "options is a dict or Options, not list"),
        ({"options": {"a": object()}}, "options is a dict or Options; something in it has no form in JSON"),
        ({"keep_alive": True}, "keep_alive is seconds, a text such as '5m', or a timedelta, not bool"),
        ({"keep_alive": [5]}, "keep_alive is seconds, a text such as '5m', or a timedelta, not list"),
        ({"think": 5}, "think is True, False or how hard ('low', 'medium', 'high'), not int"),
        ({"steps": 0.5}, "steps is a whole number, not 0.5"),
        ({"top_logprobs": "a"}, "top_logprobs is a whole number, not 'a'"),
    ],
)
def test_what_is_refused(rest: dict[str, Any], words: str) -> None:
    """What has no form that could be sent is refused with the argument's name, and with what is taken instead."""
    with pytest.raises(errors.RequestError) as caught:
        asked(**rest)
    assert words in str(caught.value)


def test_bodies_that_are_refused() -> None:
    """A member of another request that has no form in JSON is named."""
    with pytest.raises(errors.RequestError, match=r"^questions holds something that has no form in JSON"):
        create_body({"questions": {"a": object()}})
