"""Pushing to a connection: what is written at once, and when it goes uvicorn's own way instead."""

from __future__ import annotations

from typing import Any

from tailrace.gateway.protocol import Pusher


class Cycle:
    """As much of uvicorn's as a pusher looks at."""

    def __init__(self, *, chunked: bool | None = True) -> None:
        self.chunked_encoding = chunked
        self.transport = self
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def pusher(cycle: Any) -> Pusher:
    return Pusher(cycle)


def test_a_piece_is_a_chunk() -> None:
    """Each piece is written at once, framed."""
    cycle = Cycle()
    push = pusher(cycle)

    assert push(b"data: x\n\n")
    assert push(b"y" * 20)
    assert cycle.written == [b"9\r\ndata: x\n\n\r\n", b"14\r\n" + b"y" * 20 + b"\r\n"]


def test_while_the_client_takes_nothing() -> None:
    """Nothing is written while it is shut, and what comes after that is."""
    cycle = Cycle()
    push = pusher(cycle)
    push.open = False

    assert not push(b"x")
    assert cycle.written == []
    push.open = True
    assert push(b"x")


def test_a_body_that_does_not_go_in_chunks() -> None:
    """It is never written to, also not after the client was slow for a while."""
    cycle = Cycle(chunked=False)
    push = pusher(cycle)

    assert not push(b"x")
    push.open = True
    assert not push(b"x")
    assert cycle.written == []
