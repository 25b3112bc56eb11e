"""Direct writing to a connection: what is written at once, and when it goes uvicorn's own way instead."""

from __future__ import annotations

from typing import Any

import pytest

from tailrace.gateway.server.protocol import ConnectionWriter


class Cycle:
    """As much of uvicorn's as a direct writer looks at."""

    def __init__(self, *, chunked: bool | None = True) -> None:
        self.chunked_encoding = chunked
        self.transport = self.flow = self
        self.message_event = self
        self.more_body = self.disconnected = self.response_complete = self.woken = False
        self.resumed = 0
        self.written: list[bytes] = []

    def resume_reading(self) -> None:
        self.resumed += 1

    def set(self) -> None:
        self.woken = True

    def write(self, data: bytes) -> None:
        self.written.append(data)


def writer(cycle: Any) -> ConnectionWriter:
    return ConnectionWriter(cycle)


def test_a_piece_is_a_chunk() -> None:
    """Each piece is written at once, framed."""
    cycle = Cycle()
    push = writer(cycle)

    assert push(b"data: x\n\n")
    assert push(b"y" * 20)
    assert cycle.written == [b"9\r\ndata: x\n\n\r\n", b"14\r\n" + b"y" * 20 + b"\r\n"]


def test_while_the_client_takes_nothing() -> None:
    """Nothing is written while it is shut, and what comes after that is."""
    cycle = Cycle()
    push = writer(cycle)
    push.open = False

    assert not push(b"x")
    assert cycle.written == []
    push.open = True
    assert push(b"x")


def test_a_body_that_does_not_go_in_chunks() -> None:
    """It is never written to, also not after the client was slow for a while."""
    cycle = Cycle(chunked=False)
    push = writer(cycle)

    assert not push(b"x")
    push.open = True
    assert not push(b"x")
    assert cycle.written == []


def test_who_watches_is_told_once() -> None:
    """A client's leaving, to the last one who asked; and reading goes on, or nobody would see it."""
    cycle = Cycle()
    push = writer(cycle)
    told: list[str] = []

    assert push.watch(lambda: told.append("first"))
    assert push.watch(lambda: told.append("second"))
    push.lost()
    push.lost()

    assert told == ["second"]
    assert cycle.resumed == 2
    assert not push(b"x")


def test_who_watches_no_more() -> None:
    """It is told nothing, and nothing holds it."""
    push = writer(Cycle())
    told: list[str] = []
    push.watch(lambda: told.append("left"))
    push.watch(None)
    push.lost()

    assert told == []


def test_a_body_that_is_not_here_yet() -> None:
    """Then, and when the client has gone already, only `receive` tells."""
    cycle = Cycle()
    cycle.more_body = True
    assert not writer(cycle).watch(lambda: None)
    cycle.more_body, cycle.disconnected = False, True
    assert not writer(cycle).watch(lambda: None)


@pytest.mark.parametrize("complete", [False, True])
def test_the_request_itself_is_told(complete: bool) -> None:
    """uvicorn tells the last request on a connection, behind which may be one that is being answered."""
    cycle = Cycle()
    cycle.response_complete = complete
    writer(cycle).lost()

    assert cycle.disconnected is cycle.woken is not complete
