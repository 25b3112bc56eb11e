"""Runs over HTTP: started, described, read, resumed, shared and stopped, as docs/gateway.md says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.serving import Gateway, numbers, said, serving
from tests.web.reader import PATIENCE, Reader, text

from tailrace.testing import Step, done, error, hold, say, slow_load, stall, think, tool_call
from tailrace.testing.records import Phase


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway whose runs wait for readers as long as they like."""
    with serving("--on-leave", "continue") as gateway:
        yield gateway
        assert gateway.call("GET", "/runs?state=running").json == {"runs": []}
        assert gateway.upstream.wait_until_idle(PATIENCE)


# -- starting --------------------------------------------------------------------------------------------------------


def test_run_is_created_and_described(gateway: Gateway) -> None:
    """201, a Location, and the run as JSON; at its end its state, text, figures and the number of its last event."""
    path, record = gateway.start(think("Hm."), say("Hel", "lo"), tool_call("add", {"a": 1}), done())
    run = gateway.ended(path)

    assert record.json["messages"] == [{"role": "user", "content": "hi"}]
    assert path == f"/runs/{run['id']}"
    assert (run["state"], run["outcome"], run["model"]) == ("ended", "complete", "m")
    assert run["reply"]["text"] == "Hello"
    assert run["reply"]["thinking"] == "Hm."
    assert [call["name"] for call in run["reply"]["tool_calls"]] == ["add"]
    assert run["events"] >= 5
    assert run["metrics"]["output_tokens"] > 0
    assert run["error"] is None
    assert run["created"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"message": "hi"}, [{"role": "user", "content": "hi"}]),
        ({"messages": [{"role": "user", "content": "hi"}]}, [{"role": "user", "content": "hi"}]),
        (
            {"messages": [{"role": "user", "content": "a"}], "message": "b", "system": "s"},
            [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        ),
    ],
)
def test_forms_of_a_body(gateway: Gateway, body: dict[str, Any], sent: list[dict[str, Any]]) -> None:
    """A message, messages, both, and a system prompt in front of them."""
    asked = gateway.asked
    gateway.upstream.script(say("x"), path="/api/chat")
    path = gateway.call("POST", "/runs", {"model": "m", **body}).headers["location"]
    gateway.ended(path)

    assert gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat").json["messages"] == sent


def test_all_of_a_request_reaches_the_model(gateway: Gateway) -> None:
    """Options, think, format, tools and keep_alive are sent on."""
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    more: dict[str, Any] = {
        "options": {"seed": 1},
        "think": True,
        "format": "json",
        "tools": [tool],
        "keep_alive": "5m",
    }
    path, record = gateway.start(say("x"), **more)
    gateway.ended(path)

    assert record.json["options"] == {"seed": 1}
    assert record.json["think"] is True
    assert record.json["format"] == "json"
    assert record.json["tools"][0]["function"]["name"] == "f"
    assert record.json["keep_alive"] == "5m"


def test_prompt_is_completed(gateway: Gateway) -> None:
    """A prompt is a completion: it goes to /api/generate."""
    gateway.upstream.script(say("on it goes"), path="/api/generate")
    path = gateway.call("POST", "/runs", {"prompt": "And", "model": "m"}).headers["location"]

    assert gateway.ended(path)["reply"]["text"] == "on it goes"


def test_no_model_is_the_upstreams_default(gateway: Gateway) -> None:
    """Where none is named, the upstream's default is meant."""
    path, record = gateway.start(say("x"), model="")
    gateway.ended(path)

    assert record.json["model"] == "m:latest"


def test_unknown_model(gateway: Gateway) -> None:
    """A run of an unknown model has failed, with the reason; on the tutorial's route it is told in the stream."""
    run = gateway.ended(gateway.call("POST", "/runs", {"message": "hi", "model": "none"}).headers["location"])
    with Reader(gateway.url, body={"message": "hi", "model": "none"}) as reader:
        events = reader.all()

    assert (run["state"], run["outcome"]) == ("ended", "failed")
    assert run["error"]["type"] == "ModelNotFoundError"
    assert run["error"]["status"] == 404
    assert reader.status == 200
    assert json.loads(events[0].data)["error"]["type"] == "ModelNotFoundError"
    assert [event.type for event in events] == ["message", "ended"]


def test_lists_of_runs(gateway: Gateway) -> None:
    """The newest first, without what they said; by state, and no more than asked for."""
    first = gateway.start(say("one"))[0]
    gateway.ended(first)
    second, _ = gateway.start(say("two"), hold())
    try:
        listed = gateway.call("GET", "/runs?limit=2").json["runs"]
        running = gateway.call("GET", "/runs?state=running").json["runs"]
        ended = gateway.call("GET", "/runs?state=ended&limit=1").json["runs"]
    finally:
        gateway.call("DELETE", second)

    assert [f"/runs/{run['id']}" for run in listed] == [second, first]
    assert [f"/runs/{run['id']}" for run in running] == [second]
    assert [f"/runs/{run['id']}" for run in ended] == [first]
    assert not any("reply" in run for run in listed)


def test_what_a_run_waits_for(gateway: Gateway) -> None:
    """While the model is loaded the run says so; while it speaks it waits for nothing."""
    path, record = gateway.start(slow_load(), say("x"), hold())
    with gateway.read(f"{path}/events") as reader:
        assert record.wait_until_phase("loading", timeout=PATIENCE)
        waiting = gateway.call("GET", path).json
        gateway.upstream.release("load")
        reader.until(b"text_delta")
        speaking = gateway.call("GET", path).json
        gateway.call("DELETE", path)

    assert waiting["state"] == "waiting"
    assert speaking["state"] == "streaming"
    assert speaking["waiting"] is None
    assert speaking["readers"] == 1


# -- reading ---------------------------------------------------------------------------------------------------------


def test_wire_of_runs(gateway: Gateway) -> None:
    """Each event comes by its own name, with its number and the run's mark, and its fields as JSON."""
    path, _ = gateway.start(think("Hm."), say("Hel", "lo"), tool_call("add", {"a": 1}), done())
    with gateway.read(f"{path}/events") as reader:
        events = reader.all()

    assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reader.headers["cache-control"] == "no-cache, no-transform"
    assert reader.headers["x-accel-buffering"] == "no"
    assert reader.raw.startswith(b"retry: ")
    assert b"\n: tailrace\n\n" in reader.raw
    assert [*range(1, len(events) + 1)] == numbers(events)
    assert {event.id.partition("-")[2] for event in events} == {path.removeprefix("/runs/run_")[:8]}
    names = [event.type for event in events]
    assert [name for name in names if name != "prefill"] == [
        "thinking_delta",
        "text_delta",
        "text_delta",
        "tool_call",
        "ended",
    ]
    assert json.loads(events[-1].data)["outcome"] == "complete"
    assert json.loads(events[-1].data)["metrics"]["output_tokens"] > 0


def test_started_on_the_tutorials_route_and_read_as_a_run(gateway: Gateway) -> None:
    """A run is read wherever it was started; a reader that comes late gets all of it."""
    reader, _ = gateway.chat(say("Hel"), hold(), say("lo"))
    with reader:
        reader.until(b'"Hel"')
        with gateway.read(f"{reader.run}/events") as other:
            other.until(b'"Hel"')
            gateway.upstream.release()
            assert said(other.all()) == "Hello"
        assert text(reader.all()) == "Hello"


def test_two_readers_get_all_of_it(gateway: Gateway) -> None:
    """Two readers of one run are both sent everything, each once."""
    path, _ = gateway.start(hold(), *[say(f"{number} ") for number in range(200)])
    readers = [gateway.read(f"{path}/events") for _ in range(2)]
    for reader in readers:
        reader.until(b": tailrace")
    gateway.upstream.release()
    events = [reader.all() for reader in readers]
    for reader in readers:
        reader.leave()

    assert said(events[0]) == "".join(f"{number} " for number in range(200))
    assert events[0] == events[1]


def test_what_is_there_without_waiting(gateway: Gateway) -> None:
    """``follow=false`` gives what there is and ends, also in the midst of an answer; then only what is new."""
    path, _ = gateway.start(say("Hel"), hold(), say("lo"))
    with gateway.read(f"{path}/events") as following:
        following.until(b'"Hel"')
        with gateway.read(f"{path}/events?follow=false") as reader:
            first = reader.all()
        with gateway.read(f"{path}/events?follow=false", first[-1].id) as reader:
            second = reader.all()
        gateway.upstream.release()
        following.all()
    with gateway.read(f"{path}/events?follow=false", first[-1].id) as reader:
        third = reader.all()

    assert said(first) == "Hel"
    assert second == []
    assert said(third) == "lo"
    assert third[-1].type == "ended"


# -- C9: cursors -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(gateway: Gateway) -> str:
    """The path of a run that has ended after four events or more."""
    path, _ = gateway.start(say("a", "b", "c"))
    gateway.ended(path)
    return path


def _events(gateway: Gateway, path: str, query: str = "", headers: str = "") -> Reader:
    return Reader(gateway.url, f"{path}/events{query}", method="GET", headers=headers)


@pytest.mark.parametrize("query", ["", "?after=0", "?after=", "?after=%20"])
def test_c9_no_cursor_is_the_start(gateway: Gateway, ended: str, query: str) -> None:
    """None, an empty one, or 0: from the start."""
    with _events(gateway, ended, query) as reader:
        assert said(reader.all()) == "abc"


def test_c9_each_id_brings_what_came_after_it(gateway: Gateway, ended: str) -> None:
    """An id, or its number alone, as a header or in the query: exactly what came after it; after the last one 204."""
    with _events(gateway, ended) as reader:
        events = reader.all()
    for place, event in enumerate(events, 1):
        number = event.id.partition("-")[0]
        for query, headers in (
            ("", f"Last-Event-ID: {event.id}\r\n"),
            (f"?after={event.id}", ""),
            (f"?after={number}", ""),
            ("?after=1", f"Last-Event-ID: {event.id}\r\n"),  # an EventSource comes back to its first address
        ):
            with _events(gateway, ended, query, headers) as reader:
                assert events[place:] == reader.all()
                assert reader.status == (200 if place < len(events) else 204)


@pytest.mark.parametrize(
    "cursor", ["x", "-1", "1.5", "+1", "1e3", "0x1", "10" * 20, str(10**30), "1-", "1-xyz", "1 2", "1-3fa9c2d1"]
)
def test_c9_what_is_no_cursor_is_refused(gateway: Gateway, ended: str, cursor: str) -> None:
    """Text, negative and endless numbers, and the id of another run's event: 400, and why."""
    with _events(gateway, ended, headers=f"Last-Event-ID: {cursor}\r\n") as reader:
        problem = reader.json

    assert reader.status == 400
    assert reader.headers["content-type"] == "application/problem+json"
    assert problem["status"] == 400
    assert "event" in problem["detail"]


@pytest.mark.parametrize("query", ["?after=1%0d%0aX: y", "?after=%00", "?after=1%0a", "?after=%E6%B0%B4", "?after=%FF"])
def test_c9_cursor_with_line_ends_or_other_letters_is_refused(gateway: Gateway, ended: str, query: str) -> None:
    """CR, LF, NUL and what is no ASCII: 400, and none of it in the answer's head."""
    with _events(gateway, ended, query.replace(" ", "%20")) as reader:
        assert reader.status == 400
        assert "x" not in reader.headers


def test_c9_header_of_other_bytes_is_refused(gateway: Gateway, ended: str) -> None:
    """Bytes that are no ASCII in the header are no cursor."""
    with _events(gateway, ended, headers="Last-Event-ID: \xe9\r\n") as reader:
        assert reader.status == 400


def test_c9_two_cursors_are_refused(gateway: Gateway, ended: str) -> None:
    """Two headers, or the parameter twice: nobody knows which is meant."""
    for query, headers in (("", "Last-Event-ID: 1\r\nLast-Event-ID: 2\r\n"), ("?after=1&after=2", "")):
        with _events(gateway, ended, query, headers) as reader:
            assert reader.status == 400
            assert "several" in reader.json["detail"]


def test_c9_cursor_ahead_is_a_reset(gateway: Gateway, ended: str) -> None:
    """An id that the log does not have yet, of one that was lost: a reset, then everything."""
    mark = ended.removeprefix("/runs/run_")[:8]
    for cursor in ("99", f"99-{mark}"):
        with _events(gateway, ended, headers=f"Last-Event-ID: {cursor}\r\n") as reader:
            events = reader.all()
        assert events[0].type == "reset"
        assert json.loads(events[0].data) == {"after": 0}
        assert said(events) == "abc"


def test_c9_cursor_ahead_of_a_run_that_goes_on(gateway: Gateway) -> None:
    """The same while it goes on: a reset, what there is, and then what comes."""
    path, _ = gateway.start(say("Hel"), hold(), say("lo"))
    with gateway.read(f"{path}/events", "50") as reader:
        assert reader.next().type == "reset"
        gateway.upstream.release()
        assert said(reader.all()) == "Hello"


def test_c9_unknown_run(gateway: Gateway) -> None:
    """A run that there is not: 404 on all of its paths."""
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/events?render=html")):
        answer = gateway.call(method, f"/runs/run_0{path}")
        assert answer.status == 404
        assert answer.json["title"] == "Not found"


@pytest.mark.parametrize("query", ["?follow=maybe", "?render=pdf"])
def test_unknown_ways_of_reading_are_refused(gateway: Gateway, ended: str, query: str) -> None:
    """What is neither true nor false, and a form that there is not: 400."""
    assert gateway.call("GET", f"{ended}/events{query}").status == 400


@pytest.mark.parametrize("query", ["state=done", "limit=0", "limit=x", "limit=1001", "limit=-1", "limit=%C2%B2"])
def test_unknown_lists_are_refused(gateway: Gateway, query: str) -> None:
    """States and limits that there are not: 400."""
    assert gateway.call("GET", f"/runs?{query}").status == 400


# -- C11: one key, one generation ------------------------------------------------------------------------------------


def test_c11_same_key_twice_joins(gateway: Gateway) -> None:
    """A repeated request joins the run of the first; the same key with another body or query is refused."""
    path, _ = gateway.start(say("once"), key="c11-twice")
    asked = gateway.asked
    again = gateway.call("POST", "/runs", {"message": "hi", "model": "m"}, Idempotency_Key="c11-twice")
    other = gateway.call("POST", "/runs", {"message": "ho", "model": "m"}, Idempotency_Key="c11-twice")
    query = gateway.call("POST", "/runs?system=x", {"message": "hi", "model": "m"}, Idempotency_Key="c11-twice")
    gateway.ended(path)

    assert (again.status, again.headers["location"]) == (200, path)
    assert (other.status, query.status) == (422, 422)
    assert asked == gateway.asked


def test_c11_same_key_at_once_is_one_generation(gateway: Gateway) -> None:
    """Twenty requests with one key at once, none of which names a model: one run, one request to the model."""
    asked = gateway.asked
    gateway.upstream.script(say("once"), hold(), path="/api/chat")
    answers: list[tuple[int, str]] = []
    gate = threading.Barrier(20)

    def post() -> None:
        gate.wait(PATIENCE)
        answer = gateway.call("POST", "/runs", {"message": "hi"}, Idempotency_Key="c11-at-once")
        answers.append((answer.status, answer.headers["location"]))

    threads = [threading.Thread(target=post) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
    gateway.upstream.release()
    gateway.ended(answers[0][1])

    assert sorted(status for status, _ in answers) == [200] * 19 + [201]
    assert len({location for _, location in answers}) == 1
    assert asked + 1 == gateway.asked


def test_c11_a_hundred_tabs_on_one_run(gateway: Gateway) -> None:
    """A hundred readers of one run: one generation, and each gets exactly all of it."""
    asked = gateway.asked
    path, _ = gateway.start(hold(), *[say(f"{number} ") for number in range(50)])
    tabs = [gateway.read(f"{path}/events") for _ in range(100)]
    for tab in tabs:
        tab.until(b": tailrace")
    gateway.upstream.release()
    texts = {said(tab.all()) for tab in tabs}
    for tab in tabs:
        tab.leave()

    assert texts == {"".join(f"{number} " for number in range(50))}
    assert asked + 1 == gateway.asked


@pytest.mark.parametrize("key", ["x" * 256, "\xe9"])
def test_c11_what_is_no_key_is_refused(gateway: Gateway, key: str) -> None:
    """A key that is too long, or no ASCII: 400."""
    assert gateway.call("POST", "/runs", {"message": "hi", "model": "m"}, Idempotency_Key=key).status == 400


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "phase", "reached"),
    [
        ([slow_load(), say("x")], "loading", b""),
        ([hold(), say("x")], "holding", b""),
        ([say("x"), stall()], "stalling", b'"x"'),
        ([think("x"), hold()], "holding", b'"x"'),
    ],
)
def test_stop_in_every_phase(gateway: Gateway, script: list[Step], phase: Phase, reached: bytes) -> None:
    """A stop answers when the model server has seen us go, whatever it was doing; readers get the ending."""
    path, record = gateway.start(*script)
    with gateway.read(f"{path}/events") as reader:
        assert record.wait_until_phase(phase, timeout=PATIENCE)
        reader.until(reached)
        answer = gateway.call("DELETE", path)
        assert record.wait_until_left(PATIENCE)
        events = reader.all()

    assert answer.status == 200
    assert answer.json["outcome"] == "cancelled"
    assert answer.json["seconds"] >= 0
    assert events[-1].type == "ended"
    assert json.loads(events[-1].data)["outcome"] == "cancelled"


def test_stop_while_queued() -> None:
    """A run that waits for its turn is stopped at once, and never sent."""
    with serving("--max-running", "1") as gateway:
        first, _ = gateway.start(say("x"), hold())
        second = gateway.call("POST", "/runs", {"message": "hi", "model": "m"}).headers["location"]
        with gateway.read(f"{second}/events") as reader:
            queued = reader.next()
            waiting = gateway.call("GET", second).json
            answer = gateway.call("DELETE", second)
            events = reader.all()
        gateway.call("DELETE", first)

        assert queued.type == "queued"
        assert waiting["state"] == "queued"
        assert waiting["waiting"] == {"for": "queued", "position": 1}
        assert answer.json["outcome"] == "cancelled"
        assert [event.type for event in events] == ["ended"]
        assert gateway.asked == 1


def test_stop_is_idempotent(gateway: Gateway, ended: str) -> None:
    """To stop an ended run tells how it ended; twice at once stops once."""
    path, record = gateway.start(say("x"), stall())
    outcomes: list[str] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(gateway.call("DELETE", path).json["outcome"])) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert record.wait_until_left(PATIENCE)
    assert outcomes == ["cancelled"] * 5
    assert gateway.call("DELETE", ended).json["outcome"] == "complete"


def test_failure_in_the_midst_is_told(gateway: Gateway) -> None:
    """What had come stays, the run has failed, and readers are told why."""
    path, _ = gateway.start(say("half"), error("out of memory"))
    with gateway.read(f"{path}/events") as reader:
        events = reader.all()
    run = gateway.call("GET", path).json

    assert json.loads(events[-1].data)["error"]["message"] == "out of memory"
    assert (run["outcome"], run["reply"]["text"]) == ("failed", "half")
    assert run["error"]["message"] == "out of memory"


# -- leaving ---------------------------------------------------------------------------------------------------------


def test_reader_of_the_tutorials_route_takes_the_model_along(gateway: Gateway) -> None:
    """Its reader cannot come back, so that the model stops when it leaves, also before its first word."""
    for script in ([hold(), say("x")], [say("x"), stall()]):
        reader, record = gateway.chat(*script)
        path = reader.run
        reader.leave()
        assert record.wait_until_left(PATIENCE)
        assert gateway.ended(path)["outcome"] == "abandoned"


def test_reader_that_says_linger_can_come_back(gateway: Gateway) -> None:
    """With ``linger`` the model goes on, and the reader resumes exactly."""
    reader, record = gateway.chat(say("Hel"), hold(), say("lo"), body={"message": "hi", "model": "m", "linger": 60})
    reader.until(b'"Hel"')
    last = reader.next().id
    path = reader.run
    reader.leave()
    gateway.upstream.release()
    assert record.wait_until_ended(PATIENCE)
    with gateway.read(f"{path}/events", last) as again:
        assert said(again.all()) == "lo"


def test_runs_linger_as_the_server_was_told() -> None:
    """A run that nobody reads ends as abandoned after its time; a request's own ``linger`` goes before."""
    with serving("--on-leave", "cancel") as gateway:
        gateway.upstream.always(say("x"), stall())
        asked = {"message": "hi", "model": "m"}
        short = gateway.call("POST", "/runs", asked).headers["location"]
        long = gateway.call("POST", "/runs", {**asked, "linger": None}).headers["location"]

        assert gateway.ended(short)["outcome"] == "abandoned"
        assert gateway.call("GET", long).json["outcome"] is None
        gateway.call("DELETE", long)
