"""Reports of waiting that come after the first content: they are none, so they neither count nor put off a limit."""

from __future__ import annotations

from tests.run.spoken import COMPLETE, spoken, until_ended

from tailrace.events import Loading, Prefill, Queued, TextDelta


async def test_late_reports_are_no_content() -> None:
    """They are not in the log, and the times are those of the content alone."""
    run, model = spoken()
    model.say(Loading(), "a")
    model.say(Prefill(1, 2))
    model.say(Queued(), "b", Loading())
    model.say(Prefill(2, 2), COMPLETE)
    await until_ended(run)

    assert list(run.log.read(0)) == [Loading(), TextDelta("a"), TextDelta("b"), COMPLETE]
    assert len(run.times) == run.metrics().output_tokens == 2
