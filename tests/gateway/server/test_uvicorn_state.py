"""What stands in for uvicorn's events, flow control and deque does as they do."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tailrace.gateway.server.uvicorn_state import Flag, Flow, Pipeline


async def test_a_flag_wakes_all_who_wait() -> None:
    """Those who wait when it is set go on, though it is cleared before they do; later ones wait again."""
    flag = Flag()
    waiting = [asyncio.create_task(flag.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    flag.set()
    flag.clear()
    await asyncio.gather(*waiting)
    later = asyncio.create_task(flag.wait())
    await asyncio.sleep(0)

    assert not later.done()
    flag.set()
    await later
    await flag.wait()


async def test_one_who_waits_no_more() -> None:
    """Who is cancelled leaves the others to be woken."""
    flag = Flag()
    first, second = (asyncio.create_task(flag.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    flag.set()
    await second


class Transport:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


async def test_flow() -> None:
    """The transport is told of changes only, and who drains waits while nothing can be written."""
    transport = Transport()
    flow = Flow(cast(Any, transport))
    flow.resume_reading()
    for _ in range(2):
        flow.pause_reading()
    for _ in range(2):
        flow.resume_reading()
    await flow.drain()
    flow.pause_writing()
    draining = asyncio.create_task(flow.drain())
    await asyncio.sleep(0)

    assert transport.told == ["pause", "resume"]
    assert flow.write_paused
    assert not draining.done()
    flow.resume_writing()
    await draining
    assert not flow.write_paused


def test_requests_in_a_pipeline_keep_their_order() -> None:
    """The first that came is the first that is taken."""
    pipeline = Pipeline()
    assert not pipeline
    for request in "abc":
        pipeline.appendleft(request)

    assert [pipeline.pop() for _ in range(3)] == ["a", "b", "c"]
