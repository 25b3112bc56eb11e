"""Live partial values: what JSON says while it comes, and tool calls as their arguments come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace import AsyncClient, Client, PartialCall, PartialJSON, errors
from tailrace.testing import FakeOllama, FakeOpenAI, done, hold, rst, say, tool_call, tool_fragment

USER = [{"role": "user", "content": "hi"}]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_the_value_grows() -> None:
    """Strings that have not ended are shown as far as they are."""
    growing = PartialJSON()
    seen = []
    for piece in ('{"city": "Os', "lo", '", "n": [1', ", 2", "]}"):
        growing.feed(piece)
        seen.append(growing.value)

    assert seen[0] == {"city": "Os"}
    assert seen[1] == {"city": "Oslo"}
    assert growing.finish() == seen[-1] == {"city": "Oslo", "n": [1, 2]}


@given(JSON, st.integers(1, 7), st.booleans())
def test_any_json_in_any_pieces(value: Any, size: int, ascii: bool) -> None:
    """However it is cut, nothing raises on the way, and the whole is the value."""
    text = json.dumps(value, ensure_ascii=ascii)
    growing = PartialJSON()
    for at in range(0, len(text), size):
        growing.feed(text[at : at + size])

    assert growing.finish() == value


@pytest.mark.parametrize("count", [2_000, 8_000])
def test_x15_the_cost_is_linear(count: int) -> None:
    """Many small pieces of a long text cost some passes over it, and no more for a longer one."""
    growing = PartialJSON()
    text = json.dumps([{"number": number, "text": "x" * 10} for number in range(count)])
    for at in range(0, len(text), 4):
        growing.feed(text[at : at + 4])

    assert growing.work < 24 * len(text)


def test_what_is_no_json() -> None:
    """Nothing raises before the end, which says so."""
    growing = PartialJSON()
    growing.feed("Sure! Here")
    assert growing.value is None
    with pytest.raises(errors.ProtocolError, match="not JSON"):
        growing.finish()


def test_a_stream_of_values() -> None:
    """`stream.partial()` yields each state once, the whole last."""
    with FakeOllama(models=["m"]) as server:
        server.script(say('{"name": "Ad'), hold(), say('a", "born": 1815}'))
        values = []
        for value in Client(server.url).chat("m", USER, stream=True, format="json").partial():
            values.append(value)
            if len(values) == 1:
                server.release()

    assert values == [{"name": "Ad"}, {"name": "Ada", "born": 1815}]


async def test_a_stream_of_values_for_asyncio() -> None:
    """The same for asyncio."""
    with FakeOllama(models=["m"]) as server:
        server.script(say('{"name": "Ada"', "}"))
        stream = await AsyncClient(server.url).chat("m", USER, stream=True, format="json")
        values = [value async for value in stream.partial()]

    assert values[-1] == {"name": "Ada"}


def test_an_answer_that_breaks_off() -> None:
    """The last state is shown, and then the error is raised; it is never taken for the whole."""
    with FakeOllama(models=["m"]) as server:
        server.script(say('{"name": "Ad'), rst())
        values = Client(server.url).chat("m", USER, stream=True).partial()
        assert next(values) == {"name": "Ad"}
        with pytest.raises(errors.TruncatedError):
            next(values)


def test_an_answer_that_is_no_json() -> None:
    """The end says so."""
    with FakeOllama(models=["m"]) as server:
        server.script(say("Hello"))
        with pytest.raises(errors.ProtocolError, match="not JSON"):
            list(Client(server.url).chat("m", USER, stream=True).partial())


def test_tool_calls_as_they_come() -> None:
    """Calls that interleave are told apart, and each comes complete at last."""
    with FakeOpenAI() as server:
        server.script(
            tool_fragment(0, '{"city', name="weather", id="a"),
            tool_fragment(1, "{}", name="time", id="b"),
            tool_fragment(0, '": "Os'),
            tool_fragment(0, 'lo"}'),
            done(),
        )
        calls = list(Client(f"openai:{server.url}/v1").chat("m", USER, stream=True).tool_calls())

    assert calls[-2:] == [
        PartialCall(name="weather", arguments={"city": "Oslo"}, index=0, id="a", complete=True),
        PartialCall(name="time", arguments={}, index=1, id="b", complete=True),
    ]
    assert PartialCall(name="weather", arguments={"city": "Os"}, index=0, id="a") in calls


def test_tool_calls_of_a_server_that_sends_them_whole() -> None:
    """They come complete only."""
    with FakeOllama(models=["m"]) as server:
        server.script(tool_call("f", {"x": 1}), done())
        calls = list(Client(server.url).chat("m", USER, stream=True).tool_calls())

    assert [(call.name, call.arguments, call.complete) for call in calls] == [("f", {"x": 1}, True)]
