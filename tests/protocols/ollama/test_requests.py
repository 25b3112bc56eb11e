"""Requests to Ollama's API: what is taken, and what is refused with which status and text."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from tailrace.protocols.ollama import requests
from tailrace.protocols.ollama.requests import ChatBody, EmbedBody, GenerateBody, NamedBody, OllamaAPIError


def refusal(body: bytes, kind: type = GenerateBody) -> tuple[int, str]:
    """The status and the text that a body is refused with, decoded and checked as a run's is."""
    with pytest.raises(OllamaAPIError) as caught:
        requests.check_run(requests.decode(body, kind))
    return caught.value.status, caught.value.text


# ---- bodies ----


def test_a_body_and_what_this_version_does_not_know() -> None:
    """A body is read twice over: as its kind, and with the fields that its kind does not have."""
    told = {"model": "m", "messages": [{"role": "user", "content": "hi", "new": 1}], "newer": [2]}

    body, given = requests.read(json.dumps(told).encode(), ChatBody)

    assert (body.model, [(message.role, message.content) for message in body.messages or ()]) == ("m", [("user", "hi")])
    assert given == told


def test_the_older_name_of_a_model() -> None:
    """`name` is the older word for `model`, which goes before it."""
    bodies = [{"model": "a"}, {"name": "b"}, {"model": "a", "name": "b"}, {}]

    called = [requests.decode(json.dumps(body).encode(), NamedBody).called() for body in bodies]

    assert called == ["a", "b", "a", ""]


@pytest.mark.parametrize("body", [b"", b" \r\n\t"], ids=["empty", "blank"])
def test_no_body(body: bytes) -> None:
    """A request without a body is told so."""
    assert refusal(body) == (400, "missing request body")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "Input data was truncated"),
        (b"[]", "Expected `object`, got `array`"),
        (b'{"model":1}', "Expected `str`, got `int` - at `$.model`"),
        (b'{"context":[1,"2"]}', "Expected `int`, got `str` - at `$.context[1]`"),
        (b'{"prompt":"\xff"}', "invalid"),
        (b'{"prompt":"\\ud83d, and more"}', "surrogate"),
        (b'{"format":' + b"[" * 100_000, "recursion"),
    ],
    ids=["cut", "array", "type", "place", "utf-8", "surrogate", "deep"],
)
def test_a_body_that_is_none(body: bytes, text: str) -> None:
    """What cannot be read is a bad request, which says where the mistake is."""
    status, told = refusal(body)

    assert status == 400
    assert text in told


def test_every_cut_of_a_body_is_refused() -> None:
    """A body that was cut off is never taken for a whole one, wherever that was."""
    body = json.dumps({"model": "m", "prompt": "春", "options": {"top_k": 1}}, ensure_ascii=False).encode()
    requests.check_run(requests.decode(body, GenerateBody))

    assert {refusal(body[:end])[0] for end in range(len(body))} == {400}


def test_wrong_types_for_embeddings() -> None:
    """The text to embed is one or many."""
    assert requests.decode(b'{"input":"a"}', EmbedBody).input == "a"
    assert requests.decode(b'{"input":["a","b"]}', EmbedBody).input == ["a", "b"]
    assert refusal(b'{"input":[1]}', EmbedBody)[0] == 400


# ---- options and keep_alive ----


def test_options() -> None:
    """Options get their type; null is not set, and what is not known stays as it is."""
    given = {"top_k": 5.0, "top_p": 1, "seed": None, "use_mmap": True, "stop": ["a"], "newer": {"x": 1}}

    options = requests.options(given)

    assert options == {"top_k": 5, "top_p": 1.0, "use_mmap": True, "stop": ["a"], "newer": {"x": 1}}
    assert [type(options[name]) for name in ("top_k", "top_p")] == [int, float]
    assert requests.options(None) == {}


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("top_k", "1", "be of type integer"),
        ("top_k", True, "be of type integer"),
        ("seed", math.nan, "be of type integer"),
        ("seed", 1e300, "be of type integer"),
        ("top_p", [], "be of type float32"),
        ("top_p", False, "be of type float32"),
        ("use_mmap", 1, "be of type boolean"),
        ("stop", "x", "be of type array"),
        ("stop", ["x", 1], "be of an array of strings"),
    ],
)
def test_options_of_the_wrong_type(name: str, value: Any, must: str) -> None:
    """An option of another type is refused as Ollama refuses it."""
    with pytest.raises(OllamaAPIError) as caught:
        requests.options({name: value})

    assert (caught.value.status, caught.value.text) == (500, f'option "{name}" must {must}')


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 300.0),
        (0, 0.0),
        (1.5, 1.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("+90s", 90.0),
        ("250ms", 0.25),
        ("0", 0.0),
        (-1, math.inf),
        ("-1m", math.inf),
        (1e12, math.inf),
    ],
)
def test_keep_alive(value: object, seconds: float) -> None:
    """A model is kept for seconds, or one of Go's durations; what is negative or far away is for ever."""
    assert requests.keep_alive(value, 300.0) == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("-1", 'time: missing unit in duration "-1"'),
        ("300", 'time: missing unit in duration "300"'),
        ("", 'time: invalid duration ""'),
        ("5 m", 'time: invalid duration "5 m"'),
        ("x" * 50, f'time: invalid duration "{"x" * 40}"'),
        (True, "keep_alive must be a number of seconds or a duration such as 5m"),
        ([], "keep_alive must be a number of seconds or a duration such as 5m"),
    ],
)
def test_keep_alive_that_is_none(value: object, text: str) -> None:
    """Anything else is a bad request, in the words of Go."""
    with pytest.raises(OllamaAPIError) as caught:
        requests.keep_alive(value, 300.0)

    assert (caught.value.status, caught.value.text) == (400, text)


@pytest.mark.parametrize("value", ["1" * 300_000, "1" * 300_000 + "x", "1." * 150_000 + "h", "1h" * 150_000 + "x"])
def test_keep_alive_of_great_length(value: str) -> None:
    """A text that is no duration is refused after one look at each of its characters: several took hours."""
    with pytest.raises(OllamaAPIError):
        requests.keep_alive(value, 300.0)


# ---- runs ----


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"top_logprobs": 0},
        {"top_logprobs": 20},
        {"think": True},
        {"think": "high"},
        {"format": ""},
        {"format": "json"},
        {"format": {"type": "object"}},
        {"raw": True, "prompt": "x"},
        {"raw": False, "system": "s"},
    ],
    ids=json.dumps,
)
def test_runs_that_are_taken(body: dict[str, Any]) -> None:
    """What Ollama takes is taken."""
    requests.check_run(requests.decode(json.dumps(body).encode(), GenerateBody))


RAW = "raw mode does not support template, system, or context"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"top_logprobs": -1}, 400, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
        (
            {"think": "hard"},
            400,
            'invalid think value: "hard" (must be "high", "medium", "low", "max", true, or false)',
        ),
        ({"format": "xml"}, 500, """invalid format: 'xml'; expected "json" or a valid JSON Schema object"""),
        ({"format": [1]}, 500, """invalid format: '[1]'; expected "json" or a valid JSON Schema object"""),
        ({"raw": True, "template": "t"}, 400, RAW),
        ({"raw": True, "system": "s"}, 400, RAW),
        ({"raw": True, "context": [1]}, 400, RAW),
    ],
)
def test_runs_that_are_refused(body: dict[str, Any], status: int, text: str) -> None:
    """What no model can do is refused before one is looked at, with Ollama's status and text."""
    assert refusal(json.dumps(body).encode()) == (status, text)


# ---- images ----


def test_images() -> None:
    """Images are base64, which may be broken into lines as mail breaks it."""
    plain = base64.b64encode(bytes(100)).decode()

    assert requests.base64_of([plain, f"{plain[:60]}\r\n{plain[60:]}\n"]) == [plain, plain]


@pytest.mark.parametrize("image", ["data:image/png;base64,AAAA", "/etc/passwd.png", "AAA", "é"])
def test_images_that_are_none(image: str) -> None:
    """A URL, or the name of a file, is no image."""
    with pytest.raises(OllamaAPIError) as caught:
        requests.base64_of(["AAAA", image])

    assert (caught.value.status, caught.value.text) == (400, "illegal base64 data in images")
