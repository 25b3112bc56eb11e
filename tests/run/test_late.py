"""Reports of waiting that come after the first content: they are none, so they neither count nor put off a limit."""

from __future__ import annotations

import asyncio

from tailrace.events import Ended, Event, Loading, Outcome, Prefill, Queued, TextDelta
from tailrace.run.run import Exchange, Report, Run, Take


class Late:
    """A server that goes on reporting while it speaks."""

    confirms = 0.0

    async def open(self, _report: Report) -> Exchange:
        return self

    async def relay(self, take: Take) -> None:
        batches: list[list[Event]] = [
            [Loading(), TextDelta("a")],
            [Prefill(1, 2)],
            [Queued(), TextDelta("b"), Loading()],
            [Prefill(2, 2), Ended(Outcome.COMPLETE)],
        ]
        for batch in batches:
            take(batch)

    def half_close(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    async def finish(self) -> None:
        pass


async def test_late_reports_are_no_content() -> None:
    """They are not in the log, and the times are those of the content alone."""
    run = Run(Late().open)
    run.start(asyncio.get_running_loop())
    await run.log.changed.wait_async(lambda: run.log.sealed)

    assert list(run.log.read(0)) == [Loading(), TextDelta("a"), TextDelta("b"), Ended(Outcome.COMPLETE)]
    assert len(run.times) == run.metrics().output_tokens == 2
