"""The queue of a real gateway: who comes in when, as the model server sees it, and as those see it who wait."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.gateway.serving import Answer, Gateway, serving
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, Record, done, hold, say, status

KEYS = ("--api-key", "alice:aaaaaaaa", "--api-key", "bob:bbbbbbbb")
ALICE, BOB = "aaaaaaaa", "bbbbbbbb"
FLOOD = 100


@contextlib.contextmanager
def queueing(*options: str) -> Iterator[Gateway]:
    """A gateway whose model server says one word of each answer, and ends it when told."""
    with serving(*KEYS, "--drain", "0", *options) as gateway:
        gateway.upstream.always(say("x"), hold(), done(), path="/api/chat")
        yield gateway


def ask(gateway: Gateway, key: str, message: str, *, path: str = "/runs", priority: str = "interactive") -> Answer:
    body = {"model": "m", "message": message, "linger": None}
    return gateway.call("POST", path, body, Authorization=f"Bearer {key}", X_Priority=priority)


def opened(gateway: Gateway, path: str, body: Any, *, priority: str = "interactive") -> Reader:
    """Asks on any wire, and reads when it wants to."""
    lines = f"Authorization: Bearer {BOB}\r\nX-Priority: {priority}\r\nConnection: close\r\n"
    return Reader(gateway.url, path, body, headers=lines)


def events(gateway: Gateway, key: str, run: str) -> Reader:
    lines = f"Authorization: Bearer {key}\r\nConnection: close\r\n"
    return Reader(gateway.url, f"{run}/events", method="GET", headers=lines)


def nth(gateway: Gateway, number: int) -> Record:
    """Waits for the model server's next request."""
    return gateway.upstream.wait_for_request(number, PATIENCE, path="/api/chat")


def said(record: Record) -> str:
    message = record.json["messages"][-1]["content"]
    assert isinstance(message, str)
    return message


def queue(gateway: Gateway) -> dict[str, Any]:
    told = gateway.call("GET", "/queue", Authorization=f"Bearer {BOB}").json["upstreams"]
    assert len(told) == 1
    return dict(told[0])


def waits(gateway: Gateway, count: int) -> dict[str, Any]:
    """Waits until so many wait."""
    while (told := queue(gateway))["waiting"] != count:
        pass
    return told


@pytest.mark.parametrize("places", [1, 2])
def test_a_flood_of_one_key_lets_another_through(places: int) -> None:
    """One key floods with 100 runs; another's single run is with the model server within two completions."""
    with queueing("--max-running", str(places), "--on-leave", "continue") as gateway:
        for number in range(FLOOD):
            assert ask(gateway, ALICE, f"flood {number}").status == 201
        nth(gateway, places)
        gateway.upstream.release()  # one of the flood is through
        nth(gateway, places + 1)
        single = ask(gateway, BOB, "single").headers["location"]
        for completions in (1, 2):
            gateway.upstream.release()
            nth(gateway, places + 1 + completions)
        with events(gateway, BOB, single) as reader:
            first = reader.next()
        records = [record for record in gateway.upstream.requests if record.path == "/api/chat"]

        assert "single" in [said(record) for record in records]
        assert (first.type, json.loads(first.data)["position"] <= 2) == ("queued", True)
        assert queue(gateway)["waiting"] == FLOOD + 1 - len(records)
        for record in records[-places:]:
            assert record.phase != "ended"


def test_the_queue_can_be_seen() -> None:
    """How many run and wait is told by ``/queue`` and ``/metrics``, and of each run by itself."""
    with queueing("--max-running", "1") as gateway:
        runs = [ask(gateway, ALICE, f"number {number}").headers["location"] for number in range(3)]
        nth(gateway, 1)
        told = waits(gateway, 2)
        metrics = gateway.call("GET", "/metrics", Authorization=f"Bearer {BOB}").body.decode()
        third = gateway.call("GET", runs[2], Authorization=f"Bearer {ALICE}").json

        assert told == {"url": gateway.upstream.url, "running": 1, "waiting": 2, "out": False}
        for line in (
            f'tailrace_queue_running{{upstream="{gateway.upstream.url}"}} 1',
            f'tailrace_queue_waiting{{upstream="{gateway.upstream.url}"}} 2',
            f'tailrace_upstream_out{{upstream="{gateway.upstream.url}"}} 0',
        ):
            assert line in metrics.splitlines()
        assert (third["state"], third["waiting"]) == ("queued", {"for": "queued", "position": 2})


def test_who_waits_hears_its_place() -> None:
    """Each move up is an event of the run, and then the answer comes."""
    with queueing("--max-running", "1", "--on-leave", "continue") as gateway:
        runs = [ask(gateway, ALICE, f"number {number}").headers["location"] for number in range(3)]
        nth(gateway, 1)
        with events(gateway, ALICE, runs[2]) as reader:
            for number in range(3):
                nth(gateway, number + 1)
                gateway.upstream.release()
            told = reader.all()

    places = [json.loads(event.data)["position"] for event in told if event.type == "queued"]
    assert places == [2, 1]
    assert [event.type for event in told if event.type != "queued"] == ["text_delta", "ended"]


def test_stopped_while_it_waits() -> None:
    """A run that is stopped in the queue never reaches the model server, and those behind it move up at once."""
    with queueing("--max-running", "1", "--on-leave", "continue") as gateway:
        runs = [ask(gateway, ALICE, f"number {number}").headers["location"] for number in range(3)]
        nth(gateway, 1)
        stopped = gateway.call("DELETE", runs[1], Authorization=f"Bearer {ALICE}").json
        with events(gateway, ALICE, runs[2]) as reader:
            gateway.upstream.release()
            nth(gateway, 2)
            gateway.upstream.release()
            told = reader.all()

        assert (stopped["outcome"], stopped["confirmed"]) == ("cancelled", False)
        assert [json.loads(event.data)["position"] for event in told if event.type == "queued"] == [2, 1]
        assert [said(record) for record in gateway.upstream.requests if record.path == "/api/chat"] == [
            "number 0",
            "number 2",
        ]
        assert queue(gateway)["running"] == 0


WIRES: dict[str, tuple[Any, bytes]] = {
    "/chat/stream": ({"model": "m", "message": "batch"}, b"event: queued"),
    "/v1/chat/completions": ({"model": "m", "messages": [{"role": "user", "content": "batch"}], "stream": True}, b""),
    "/api/chat": ({"model": "m", "messages": [{"role": "user", "content": "batch"}]}, b""),
    "/ai/chat": (
        {"id": "c", "model": "m", "messages": [{"role": "user", "parts": [{"type": "text", "text": "batch"}]}]},
        b"queued",
    ),
}


def test_interactive_before_batch_on_every_wire() -> None:
    """``X-Priority: batch`` counts wherever it is said: who waits himself is served first, however late he comes."""
    with ExitStack() as stack:
        gateway = stack.enter_context(queueing("--max-running", "1", "--on-leave", "continue"))
        ask(gateway, ALICE, "under way")
        nth(gateway, 1)
        readers = [stack.enter_context(opened(gateway, path, WIRES[path][0], priority="batch")) for path in WIRES]
        conversation = gateway.call("POST", "/conversations", {}, Authorization=f"Bearer {BOB}").headers["location"]
        turn = {"content": "batch", "model": "m"}
        gateway.call("POST", f"{conversation}/turns", turn, Authorization=f"Bearer {BOB}", X_Priority="batch")
        waits(gateway, len(WIRES) + 1)
        ask(gateway, BOB, "interactive")
        waits(gateway, len(WIRES) + 2)
        for number in range(len(WIRES) + 3):
            nth(gateway, number + 1)
            gateway.upstream.release()
        for reader in readers:
            reader.body()

        order = [said(record) for record in gateway.upstream.requests if record.path == "/api/chat"]
        assert order == ["under way", "interactive", *["batch"] * (len(WIRES) + 1)]


@pytest.mark.parametrize("path", [path for path, (_, mark) in WIRES.items() if mark])
def test_a_place_is_shown_where_the_wire_has_a_word_for_it(path: str) -> None:
    """On the tutorial's wire and the AI SDK's, while nothing else comes."""
    body, mark = WIRES[path]
    with queueing("--max-running", "1") as gateway:
        ask(gateway, ALICE, "under way")
        nth(gateway, 1)
        with opened(gateway, path, body) as reader:
            reader.until(mark)
            gateway.upstream.release()
            nth(gateway, 2)
            gateway.upstream.release()
            reader.body()


def test_a_full_queue() -> None:
    """503 with the time to come again, and nothing is left of who was refused; then there is room again."""
    with queueing("--max-running", "1", "--max-queued", "1", "--on-leave", "continue") as gateway:
        for number in range(2):
            assert ask(gateway, ALICE, f"number {number}").status == 201
        nth(gateway, 1)
        for path in ("/runs", "/chat/stream"):
            refused = ask(gateway, BOB, "refused", path=path)
            assert (refused.status, int(refused.headers["retry-after"]) > 0) == (503, True)
        for path, body in list(WIRES.items())[1:]:
            with opened(gateway, path, body[0]) as reader:
                assert reader.status == 503, path
        assert queue(gateway) == {"url": gateway.upstream.url, "running": 1, "waiting": 1, "out": False}
        gateway.upstream.release()
        nth(gateway, 2)
        assert ask(gateway, BOB, "in time").status == 201


def test_many_at_once_take_no_more_places_than_there_are() -> None:
    """Of requests that come in the same moment only so many are let in; the others get their status, not a run."""
    with ExitStack() as stack:
        gateway = stack.enter_context(queueing("--max-running", "1", "--max-queued", "3", "--on-leave", "continue"))
        asked = {"model": "m", "message": "hi", "linger": None}
        readers = [stack.enter_context(opened(gateway, "/runs", asked)) for _ in range(12)]
        statuses = sorted(reader.status for reader in readers)

        assert statuses == [201] * 4 + [503] * 8
        assert queue(gateway)["waiting"] == 3


def test_an_upstream_that_is_left_out_can_be_seen() -> None:
    """The first fails, the run goes to the second, and ``/queue`` says which one is left out."""
    with FakeOllama(models=["m"]) as second, serving("--upstream", second.url) as gateway:
        gateway.upstream.always(status(500, {"error": "broken"}), path="/api/chat")
        second.always(status(500, {"error": "broken"}), path="/api/chat")
        gateway.upstream.always(say("x"), done(), path="/api/generate")
        gateway.ended(gateway.call("POST", "/runs", {"model": "m", "message": "hi"}).headers["location"])
        told = gateway.call("GET", "/queue").json["upstreams"]

        assert [each["url"] for each in told] == [gateway.upstream.url, second.url]
        assert [each["out"] for each in told] == [True, True]
        assert b"tailrace_upstream_out" in gateway.call("GET", "/metrics").body


def test_embeddings_wait_their_turn() -> None:
    """What is no run waits as well, and is counted."""
    with queueing("--max-running", "1", "--max-queued", "0", "--on-leave", "continue") as gateway:
        run = ask(gateway, ALICE, "under way").headers["location"]
        nth(gateway, 1)
        for path in ("/api/embed", "/v1/embeddings"):
            with opened(gateway, path, {"model": "m", "input": "x"}) as reader:
                assert reader.status == 503, path
        gateway.upstream.release()
        with events(gateway, ALICE, run) as reader:
            reader.body()
        for path in ("/api/embed", "/v1/embeddings"):
            with opened(gateway, path, {"model": "m", "input": "x"}) as reader:
                assert reader.status == 200, path
