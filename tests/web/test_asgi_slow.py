"""Readers that read slowly, or not at all: bounded memory, let go after a time, nobody else disturbed (C4)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from tests.web.asgi_servers import SERVERS, Served, serving
from tests.web.reader import PATIENCE, Reader, text

from tailrace.testing import hold, say, stall

MEGABYTE = 1 << 20
PIECE, PIECES = "x" * 4000, 3000
"""More than all the buffers between two sockets take: those of the system grow to some megabytes."""


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """An application that waits two seconds for who takes nothing, under each server."""
    with serving(request.param, SEND_TIMEOUT="2") as served:
        yield served


def test_c4_a_reader_that_never_reads(served: Served) -> None:
    """Who takes nothing is let go, and the model with it; the connection ends, without a proper end."""
    reader, record = served.ask(say(*[PIECE] * PIECES), stall(), path="/linger", body=_asking(0), rcvbuf=4096)
    with reader:
        assert record.wait_until_left(PATIENCE)
        raw = b""
        while data := reader.sock.recv(65536):
            raw += data

    assert b'"content":"xxx' in raw
    assert b"event: ended" not in raw
    assert not raw.endswith(b"\r\n0\r\n\r\n")


def test_c4_the_other_reader_is_unaffected(served: Served) -> None:
    """Beside one that takes nothing, another gets everything; and the slow one gets it all when it comes back."""
    reader, record = served.ask(hold(), say(*[PIECE] * PIECES), hold(), say("end"), path="/linger", body=_asking(None))
    with reader, served.read(reader.run, rcvbuf=4096) as slow:
        reader.until(b": tailrace\n")
        served.upstream.release()
        before = 0
        while before < len(PIECE) * PIECES:
            before += len(text([reader.next()]))
        served.upstream.release()
        assert text(reader.all()) == "end"
        assert _resumed(served, slow, reader.run) == PIECE * PIECES + "end"

    assert record.wait_until_ended(PATIENCE)
    assert record.completed


def test_c4_memory_is_bounded() -> None:
    """Readers that take nothing cost what buffers hold, not what the model says: the answer is kept once for all."""
    with serving("uvicorn-httptools", SEND_TIMEOUT="60") as served:
        reader, _ = served.ask(hold(), say(*[PIECE] * PIECES), hold(), path="/linger", body=_asking(None))
        with reader, contextlib.ExitStack() as stack:
            for _ in range(20):
                idle = stack.enter_context(served.read(reader.run, rcvbuf=4096))
                idle.until(b": tailrace\n")
            before = served.server.memory()
            served.upstream.release()
            seen = 0
            while seen < len(PIECE) * PIECES:
                seen += len(text([reader.next()]))
            grown = served.server.memory() - before

    assert grown < 2 * len(PIECE) * PIECES + 20 * 4 * MEGABYTE


def _asking(linger: float | None) -> dict[str, object]:
    return {"message": "hi", "model": "m", "linger": linger}


def _resumed(served: Served, slow: Reader, run: str) -> str:
    """Reads a reader out that was let go, and what it missed when it comes back; returns the answer."""
    try:
        events = slow.all()
    except (AssertionError, OSError):  # the connection ends in the middle, as it must
        events, slow.events = slow.events, []
    with served.read(run, slow.decoder.last_event_id) as again:
        return text(events) + text(again.all())
