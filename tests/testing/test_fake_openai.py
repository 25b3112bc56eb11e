"""FakeOpenAI: the manners of four servers."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from tests.testing.rawclient import CHAT, RawClient, events, lines

from tailrace.testing import (
    FakeOpenAI,
    done,
    error,
    fin,
    half_line,
    hold,
    ping,
    prompt_progress,
    queue,
    say,
    think,
    tool_call,
    tool_fragment,
)

USER: list[Any] = [{"role": "user", "content": "hi"}]


def stream(server: FakeOpenAI, **more: Any) -> bytes:
    with RawClient(server.url) as client:
        client.chat("/v1/chat/completions", **({"stream": True} | more))
        return client.response()[2]


def deltas(body: bytes) -> list[Any]:
    return [event["choices"][0]["delta"] for event in events(body)[:-1]]


@pytest.mark.parametrize(
    ("dialect", "first"),
    [
        ("openai", [{"role": "assistant", "content": ""}, {"reasoning_content": "t"}, {"content": "a"}]),
        ("llamacpp", [{"role": "assistant", "content": None}, {"reasoning_content": "t"}, {"content": "a"}]),
        ("vllm", [{"role": "assistant", "content": ""}, {"reasoning_content": "t"}, {"content": "a"}]),
        ("ollama", [{"role": "assistant", "content": "", "reasoning": "t"}, {"content": "a"}]),
    ],
)
def test_dialects(dialect: Any, first: list[Any]) -> None:
    """Each dialect opens, thinks and ends in its own way, and the stream ends with [DONE]."""
    with FakeOpenAI(dialect) as server:
        body = stream(server.script(think("t"), say("a")))

    assert [*first, {}] == deltas(body)
    assert events(body)[-1] == "[DONE]"
    assert events(body)[-2]["choices"][0]["finish_reason"] == "stop"


def test_usage() -> None:
    """Usage comes in a chunk of its own, and only when asked for."""
    with FakeOpenAI() as server:
        server.always(say("a", "b"), done(prompt_eval_count=5))
        without = events(stream(server))
        with_usage = events(stream(server, stream_options={"include_usage": True}))

    assert not any("usage" in event for event in without[:-1])
    assert [event["usage"] for event in with_usage[:-2]] == [None, None, None, None]
    assert with_usage[-2]["choices"] == []
    assert with_usage[-2]["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def test_llamacpp_extras() -> None:
    """llama.cpp's head comes before the first token; progress if asked for, pings, timings where they belong."""
    with FakeOpenAI("llamacpp") as server:
        server.always(queue(), hold(), prompt_progress(128, 256), ping(), say("a"))
        with RawClient(server.url) as client:
            client.chat("/v1/chat/completions", stream=True, return_progress=True)
            record = server.wait_for_request()
            assert record.wait_until_phase("queued")
            assert record.sent.bytes == 0
            server.release("queue")
            head = client.until(b"\r\n\r\n")
            assert record.wait_until_phase("holding")
            server.release()
            body = b"".join(client.chunks())
        server.release("queue")
        server.release()
        plain = stream(server, stream_options={"include_usage": True})

    assert b"X-Accel-Buffering: no" in head
    assert {key: value for key, value in events(body)[0]["prompt_progress"].items() if key != "time_ms"} == {
        "total": 256,
        "cache": 0,
        "processed": 128,
    }
    assert b"\n\n:\n\n" in body
    assert "timings" in events(body)[-2]
    assert b"prompt_progress" not in plain
    assert ["usage" in event for event in events(plain)[:-1]] == ["timings" in event for event in events(plain)[:-1]]


def test_tool_call_fragments() -> None:
    """Arguments come in fragments by index; the head of a call has its id and name."""
    with FakeOpenAI() as server:
        body = stream(server.script(tool_call("f", {"x": 1}, id="c1", fragments=3), tool_call("g", "not json")))

    calls = [delta["tool_calls"][0] for delta in deltas(body) if "tool_calls" in delta]
    assert calls[0] == {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert "".join(c["function"]["arguments"] for c in calls if c["index"] == 0) == '{"x":1}'
    assert sum(1 for c in calls if c["index"] == 0) == 4
    assert "".join(c["function"]["arguments"] for c in calls if c["index"] == 1) == "not json"
    assert events(body)[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_tool_calls_of_llamacpp_and_ollama() -> None:
    """llama.cpp's first fragment holds a brace; Ollama sends a call whole."""
    with FakeOpenAI("llamacpp") as server:
        first = deltas(stream(server.script(tool_call("f", {"x": 1}))))[1]["tool_calls"][0]
    with FakeOpenAI("ollama") as server:
        whole = deltas(stream(server.script(tool_call("f", {"x": 1}))))[0]["tool_calls"][0]

    assert (first["function"]["arguments"], len(first["id"])) == ("{", 32)
    assert whole["function"]["arguments"] == '{"x":1}'


def test_interleaved_fragments() -> None:
    """tool_fragment() lets two calls interleave (U31)."""
    with FakeOpenAI() as server:
        script = [tool_fragment(0, "{", name="f", id="a"), tool_fragment(1, "[", name="g", id="b")]
        body = stream(server.script(*script, think("hm"), tool_fragment(0, "}"), tool_fragment(1, "]"), done()))

    calls = [delta["tool_calls"][0] for delta in deltas(body) if "tool_calls" in delta]
    assert [c["index"] for c in calls] == [0, 1, 0, 1]
    assert calls[3] == {"index": 1, "function": {"arguments": "]"}}


def test_errors() -> None:
    """An error event ends the stream without [DONE]; Ollama's swallows it."""
    with FakeOpenAI() as server:
        plain = stream(server.script(say("a"), error("boom", code="overloaded")))
    with FakeOpenAI("ollama") as server:
        swallowed = stream(server.script(say("a"), error("boom")))
    with FakeOpenAI("llamacpp") as server:
        third = stream(server.script(error("boom")))

    expected = {"message": "boom", "type": "server_error", "param": None, "code": "overloaded"}
    assert expected == events(plain)[-1]["error"]
    last = events(swallowed)[-1]
    assert (last["model"], last["choices"][0]["delta"]["content"]) == ("", "")
    assert events(third)[-1]["error"] == {"code": 500, "message": "boom", "type": "server_error"}


def test_endings_that_are_none() -> None:
    """No finish chunk, no [DONE], half an event: all end the body well."""
    with FakeOpenAI() as server:
        cut_off = stream(server.script(say("a"), fin()))
        no_marker = stream(server.script(say("a"), done(marker=False)))
        no_reason = stream(server.script(say("a"), done(None)))
        half = stream(server.script(half_line(), fin()))

    assert b"[DONE]" not in cut_off + no_marker
    assert events(no_marker)[-1]["choices"][0]["finish_reason"] == "stop"
    assert [event["choices"][0]["finish_reason"] for event in events(no_reason)[:-1]] == [None, None]
    assert (half.count(b"data: "), half.endswith(b"\n\n")) == (2, False)


def test_not_streamed_completions_and_models() -> None:
    """The endpoints without a stream have OpenAI's shapes."""
    with FakeOpenAI(models=["m"]) as server, RawClient(server.url) as client:
        server.always(think("t"), say("a", "b"), tool_call("f", {"x": 1}), done(eval_count=4))
        client.chat("/v1/chat/completions")
        (chat,) = lines(client.response()[2])
        server.always(say("a", "b"))
        client.send("POST", "/v1/completions", {"model": "m", "prompt": "p"})
        (text,) = lines(client.response()[2])
        client.send("POST", "/v1/completions", {"model": "m", "prompt": "p", "stream": True})
        texts = [event["choices"][0]["text"] for event in events(client.response()[2])[:-1]]
        client.send("POST", "/v1/chat/completions", CHAT | {"model": "x"})
        unknown = client.response()
        client.send("POST", "/v1/chat/completions", b"{")
        bad = client.response()

    assert (chat["object"], chat["choices"][0]["finish_reason"]) == ("chat.completion", "tool_calls")
    message = chat["choices"][0]["message"]
    assert (
        message["content"],
        message["reasoning_content"],
        message["tool_calls"][0]["function"]["arguments"],
    ) == ("ab", "t", '{"x":1}')
    assert chat["usage"]["completion_tokens"] == 4
    assert (text["choices"][0]["text"], texts) == ("ab", ["a", "b", ""])
    assert (unknown[0], lines(unknown[2])[0]["error"]["code"]) == (404, "model_not_found")
    assert bad[0] == 400


def test_with_the_openai_client() -> None:
    """The real client understands streams, models, embeddings, and the key is asked for."""
    with FakeOpenAI(api_key="sk-1", models=["m"]) as server:
        with openai.OpenAI(base_url=server.base_url, api_key="sk-1", max_retries=0) as client:
            server.script(say("a", "b"), tool_call("f", {"x": 1}))
            with client.chat.completions.create(model="m", messages=USER, stream=True) as chunks:
                got = list(chunks)
            assert "".join(c.choices[0].delta.content or "" for c in got) == "ab"
            assert got[-1].choices[0].finish_reason == "tool_calls"
            assert [m.id for m in client.models.list()] == ["m"]
            assert client.models.retrieve("m").id == "m"
            vector = client.embeddings.create(model="m", input="a").data[0].embedding
            assert round(sum(x * x for x in vector), 5) == 1.0
            server.script(say("a"), error("boom"))
            with (
                pytest.raises(openai.APIError, match="boom"),
                client.chat.completions.create(model="m", messages=USER, stream=True) as chunks,
            ):
                list(chunks)
        with (
            openai.OpenAI(base_url=server.base_url, api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()


def test_health() -> None:
    """llama.cpp and vLLM have a health check, and it needs no key."""
    with FakeOpenAI("llamacpp", api_key="k") as server, RawClient(server.url) as client:
        client.send("GET", "/health")
        assert client.response()[::2] == (200, b'{"status":"ok"}')
    with FakeOpenAI("vllm") as server, RawClient(server.url) as client:
        client.send("GET", "/health")
        assert client.response()[::2] == (200, b"")
    with FakeOpenAI() as server, RawClient(server.url) as client:
        client.send("GET", "/health")
        assert client.response()[0] == 404


def test_unknown_dialect() -> None:
    """A dialect that does not exist is refused by name."""
    with pytest.raises(ValueError, match="llamacpp"):
        FakeOpenAI("lamacpp")  # type: ignore[arg-type]
