"""Limits: what is kept of runs, how many there may be, and what readers are told who come too late."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from tests.gateway.serving import Gateway, said, serving
from tests.web.reader import PATIENCE, Reader, text

from tailrace.testing import hold, say, stall


@pytest.fixture(scope="module")
def small() -> Iterator[Gateway]:
    """A gateway that keeps thirty-two kilobytes of a run."""
    with serving("--run-bytes", "32K", "--on-leave", "continue") as gateway:
        yield gateway


def test_cursor_of_what_is_no_longer_kept(small: Gateway) -> None:
    """410, with the first id that is kept, all that was generated, and where to read on; which then is exact."""
    words = [f"{number} " for number in range(3000)]
    path, _ = small.start(hold(), say(*words), hold(), say("end"))
    with small.read(f"{path}/events") as follower:
        small.upstream.release()
        follower.until(b'"2999 "')
        for query in ("", "?after=1", "?render=html", "?after=9999"):
            late = small.call("GET", f"{path}/events{query}")
            assert late.status == 410
            problem = late.json
            assert problem["reply"]["text"] == "".join(words)
            assert int(problem["oldest"].partition("-")[0]) > 1
        with small.read(f"{path}/events", problem["after"]) as reader:
            small.upstream.release()
            assert problem["reply"]["text"] + said(reader.all()) == "".join(words) + "end"
        assert said(follower.all()) == "".join(words) + "end"
    run = small.call("GET", path).json

    assert run["first"] > 1
    assert run["reply"]["text"] == "".join(words) + "end"
    assert small.call("GET", f"{path}/events?after={run['events']}").status == 204


def test_reader_that_is_slower_than_the_log() -> None:
    """It has what its connection took, then is told that it lagged; where it was is no longer kept: 410."""
    with serving("--run-bytes", "1M", "--on-leave", "continue") as gateway:
        path, _ = gateway.start(hold(), say(*[f"{number:09} " for number in range(60_000)]), hold())
        with gateway.read(f"{path}/events") as reader, gateway.read(f"{path}/events", rcvbuf=4096) as slow:
            slow.until(b": tailrace")
            gateway.upstream.release()
            while gateway.call("GET", path).json["events"] < 60_000:
                pass
            events = slow.all()
            reader.leave()
        late = gateway.call("GET", f"{path}/events?after={events[-2].id}")
        gateway.call("DELETE", path)

    assert events[-1].type == "lagged"
    assert said(events) == "".join(f"{number:09} " for number in range(len(events) - 1))
    assert late.status == 410
    assert late.json["reply"]["text"].startswith(said(events))


def test_answer_larger_than_a_run_may_keep(small: Gateway) -> None:
    """It ends as failed, and says why; the model stops, and the reader has what came before."""
    path, record = small.start(hold(), say(*["x" * 1000] * 40, every=0.005), stall())
    with small.read(f"{path}/events") as reader:
        small.upstream.release()
        events = reader.all()
    ended = json.loads(events[-1].data)

    assert ended["outcome"] == "failed"
    assert "larger than" in ended["error"]["message"]
    assert record.wait_until_left(PATIENCE)
    assert 1000 <= len(said(events)) < 40_000


def test_too_many_runs_at_once() -> None:
    """The one too many is 503 with Retry-After; when one has ended there is room again; readers are always let in."""
    with serving("--max-runs", "2", "--on-leave", "continue") as gateway:
        paths = [gateway.start(say("x"), stall())[0] for _ in range(2)]
        refused = gateway.call("POST", "/runs", {"message": "hi", "model": "m"})
        streamed = gateway.call("POST", "/chat/stream", {"message": "hi", "model": "m"})
        made = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
        turn = gateway.call("POST", f"{made}/turns", {"content": "hi"})
        with gateway.read(f"{paths[0]}/events") as reader:
            reader.until(b'"x"')
        gateway.call("DELETE", paths[0])
        again, _ = gateway.start(say("y"))

        assert (refused.status, streamed.status, turn.status) == (503, 503, 503)
        assert refused.headers["retry-after"] == "1"
        assert refused.json["detail"] == "too many runs at once"
        assert gateway.call("GET", made).json["messages"] == []
        assert gateway.ended(again)["outcome"] == "complete"
        gateway.call("DELETE", paths[1])


def test_runs_at_once_are_never_more_than_may_be() -> None:
    """Fifty requests at once, none of which names a model: exactly as many as there is room for."""
    with serving("--max-runs", "3", "--on-leave", "continue") as gateway:
        gateway.upstream.always(say("x"), stall())
        readers = [Reader(gateway.url, "/runs", {"message": "hi"}) for _ in range(50)]
        statuses = [reader.status for reader in readers]
        for reader in readers:
            reader.leave()
        for run in gateway.call("GET", "/runs").json["runs"]:
            gateway.call("DELETE", f"/runs/{run['id']}")

        assert sorted(statuses) == [201] * 3 + [503] * 47


def test_ended_runs_are_forgotten_after_a_while() -> None:
    """After its time a run is 404, also for who has its key; who reads it then reads it to its end."""
    with serving("--keep", "0", "--on-leave", "continue") as gateway:
        path, _ = gateway.start(say("Hel"), hold(), say("lo"), key="kept")
        with gateway.read(f"{path}/events") as reader:
            reader.until(b'"Hel"')
            gateway.upstream.release()
            events = reader.all()
        answers = [gateway.call(*call).status for call in (("GET", path), ("GET", f"{path}/events"), ("DELETE", path))]
        again, _ = gateway.start(say("x"), key="kept")

        assert said(events) == "Hello"
        assert answers == [404, 404, 404]
        assert again != path


def test_logs_of_all_runs_are_bounded() -> None:
    """The oldest that have ended go first; when those that go on fill it alone, no more are taken."""
    with serving("--log-bytes", "256K", "--on-leave", "continue") as gateway:
        ended = [gateway.start(say("x" * 60_000))[0] for _ in range(6)]
        for path in ended[::-1]:
            with gateway.read(f"{path}/events") as reader:
                if reader.status == 200:
                    reader.body()
        kept = [gateway.call("GET", path).status for path in ended]
        running = [gateway.start(say("y" * 100_000), stall())[0] for _ in range(2)]
        for path in running:
            with gateway.read(f"{path}/events") as reader:
                reader.until(b"yyy")
        third, _ = gateway.start(say("y" * 100_000), stall())
        with gateway.read(f"{third}/events") as reader:
            reader.until(b"yyy")
        while (full := gateway.call("POST", "/runs", {"message": "hi", "model": "m"})).status == 201:
            gateway.call("DELETE", full.headers["location"])  # the sum is a moment old
        gone = [gateway.call("GET", path).status for path in ended]
        for path in [*running, third]:
            gateway.call("DELETE", path)

        assert kept[0] == 404
        assert kept[-1] == 200
        assert kept == sorted(kept, reverse=True)
        assert gone == [404] * 6
        assert full.status == 503
        assert "full" in full.json["detail"]


def test_c4_a_reader_that_never_reads_is_let_go() -> None:
    """It is told nothing more, its connection ends, memory stays bounded; the other reader is unaffected."""
    piece, pieces = "x" * 4000, 2000
    with serving("--send-timeout", "1", "--on-leave", "continue") as gateway:
        path, _ = gateway.start(hold(), *[say(piece)] * pieces, hold(), say("end"))
        with contextlib.ExitStack() as readers:
            reader = readers.enter_context(gateway.read(f"{path}/events"))
            idle = [readers.enter_context(gateway.read(f"{path}/events", rcvbuf=4096)) for _ in range(20)]
            for one in idle:
                one.until(b": tailrace")
            before = gateway.memory()
            gateway.upstream.release()
            left = pieces
            while left:
                event = reader.next()
                if event.type == "text_delta":  # the wait before the first one may be told as well
                    assert said([event]) == piece
                    left -= 1
            grown = gateway.memory() - before
            while gateway.call("GET", path).json["readers"] > 1:
                pass
            gateway.upstream.release()
            assert said(reader.all()) == "end"
            for one in idle:
                raw = b""
                while data := one.sock.recv(65536):
                    raw += data
                assert b"ended" not in raw

        # The answer once, and for each idle reader what one send and the buffers of its connection hold.
        assert grown < 3 * len(piece) * pieces + 20 * (4 << 20)


def test_pings_in_silences() -> None:
    """While nothing comes, a comment, as often as was said; a reader whose pings are off gets none."""
    with serving("--ping", "0.2") as gateway:
        reader, _ = gateway.chat(say("Hel"), hold(), say("lo"))
        with reader:
            reader.until(b"Hel")
            reader.until(b": ping\n\n: ping\n\n")
            gateway.upstream.release()
            assert text(reader.all()) == "Hello"
