"""How the page reads runs: server-sent events by the letter, in whatever pieces, and the answers a cursor can get."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Route
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.events import of_run
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, say

ALONE = "delete window.SharedWorker;"
PARSE = """async (pieces) => {
  const { EventParser } = await import("/static/sse.js");
  const parser = new EventParser();
  const events = pieces.flatMap((piece) => parser.feed(piece));
  return { events: events.map(({ event, data, id }) => [event, data, id]), retry: parser.retry };
}"""
# As the standard has it (HTML, server-sent events): the text, and what it comes to.
TEXTS: dict[str, tuple[str, list[list[str]]]] = {
    "lines": ("data: a\ndata: b\ndata\n\n", [["message", "a\nb\n", ""]]),
    "spaces": ("data:x\n\ndata:  y\n\n", [["message", "x", ""], ["message", " y", ""]]),
    "names and ids": ("event: tail\nid: 7-x\ndata: 1\n\ndata: 2\n\n", [["tail", "1", "7-x"], ["message", "2", "7-x"]]),
    "comments": (": ping\n\n:\ndata: x\n: y\n\n", [["message", "x", ""]]),
    "endings": (
        "data: a\r\n\r\ndata: b\r\rdata: c\n\n",
        [["message", "a", ""], ["message", "b", ""], ["message", "c", ""]],
    ),
    "nothing": ("event: x\n\nid: 1\n\ndata: y", []),
    "a mark of order": ("\ufeffdata: x\n\n", [["message", "x", ""]]),
    "other marks": ("data: a\u2028b\u0085c\n\n", [["message", "a\u2028b\u0085c", ""]]),
    "unknown fields": ("data: x\nfield: y\nretry: no\n\n", [["message", "x", ""]]),
    "an id with NUL": ("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n", [["message", "a", "1"], ["message", "b", "1"]]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_events_are_parsed_whole_and_by_character(chat: Chat, name: str) -> None:
    """However they are cut, events come out the same."""
    text, expected = TEXTS[name]
    for pieces in ([text], list(text), [text[:3], "", text[3:]]):
        assert chat.page.evaluate(PARSE, pieces)["events"] == expected


def test_retry_is_heard(chat: Chat) -> None:
    """The server says how long to wait before the next try."""
    assert chat.page.evaluate(PARSE, ["retry: 612\n\n"]) == {"events": [], "retry": 612}


def answer(chat: Chat, *answers: Any) -> list[str]:
    """Has requests for events answered one after the other; returns the cursors that they had."""
    left = list(answers)
    cursors: list[str] = []

    def handle(route: Route) -> None:
        cursors.append(route.request.url.partition("after=")[2])
        give = left.pop(0) if len(left) > 1 else left[0]
        if callable(give):
            give(route)
        else:
            route.fulfill(status=give, headers={"Retry-After": "1"} if give == 503 else {}, body="{}")

    chat.page.route("**/runs/*/events?*", handle)
    return cursors


END = ("ended", {"outcome": "complete", "reason": "stop"})


@pytest.fixture
def alone(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> Chat:
    """A page that reads by itself, so that a test can answer it."""
    upstream.always(say("The whole answer."))
    return open_chat(gateway.url, script=ALONE, troubled=True)


def test_a_reset_forgets_all(alone: Chat) -> None:
    """What had come is replaced by what comes, and nothing stands there twice."""
    first = [("block", "<p>Old</p>"), ("tail", "<p>Old tail</p>")]
    second = [("reset", {"after": 0}), ("block", "<p>New</p>"), ("tail", "<p>tail</p>"), END]
    cursors = answer(alone, of_run(first), of_run(second))
    alone.ask("Q")
    alone.page.wait_for_function("() => document.querySelector('.answer .markdown').textContent === 'Newtail'")

    assert cursors == ["", "2-00000000"]


def test_a_busy_server_is_asked_again(alone: Chat) -> None:
    """503 and 500 pass: after a while it is asked again, from where it was."""
    cursors = answer(alone, of_run([("tail", "<p>A</p>")]), 503, 500, of_run([("x", {}), ("tail", "<p>A B</p>"), END]))
    alone.ask("Q")
    alone.page.wait_for_selector("#link", state="visible")
    alone.page.wait_for_function("() => document.querySelector('.answer .markdown').textContent === 'A B'")
    alone.page.wait_for_selector("#link", state="hidden")

    assert cursors == ["", "1-00000000", "1-00000000", "1-00000000"]


@pytest.mark.parametrize("status", [204, 400, 404, 410])
def test_c10_answers_after_which_nothing_comes(alone: Chat, status: int) -> None:
    """The page reads what is kept instead, and does not ask again."""
    cursors = answer(alone, of_run([("tail", "<p>The wh</p>")]), status)
    alone.ask("Q")
    alone.wait_for_text("The whole answer.")
    alone.wait_until_over()

    assert cursors == ["", "1-00000000"]


def test_a_reader_that_was_too_slow_comes_back(alone: Chat) -> None:
    """`lagged` is no ending: the page goes on from what it has."""
    cursors = answer(
        alone,
        of_run([("tail", "<p>A</p>"), ("lagged", {})]),
        of_run([("x", {}), ("x", {}), ("tail", "<p>A B</p>"), END]),
    )
    alone.ask("Q")
    alone.page.wait_for_function("() => document.querySelector('.answer .markdown').textContent === 'A B'")

    assert len(cursors) == 2


def test_an_answer_that_is_not_told_is_no_success(alone: Chat) -> None:
    """A stream that just closes is not the end of an answer."""
    answer(alone, of_run([("tail", "<p>Half</p>")]))
    alone.ask("Q")
    alone.wait_for_text("Half")
    with alone.page.expect_request("**/runs/*/events?*"):
        pass

    assert alone.answer.evaluate("answer => answer.classList.contains('going')")
    assert json.loads(alone.page.request.get(f"{alone.url}/conversations").text())["conversations"]
