"""Stop: the button and Esc, at any time, and what had come is kept."""

from __future__ import annotations

import time

import pytest
from tests.page.chat import Chat, request_of

from tailrace.testing import FakeOllama, done, hold, say

LIMIT = 0.2  # seconds from the click until the model server sees the connection close
TRIES = 5


def test_stop_by_the_button(chat: Chat, upstream: FakeOllama) -> None:
    """The button that sends stops while an answer comes; the text stays, with a mark and a way to go on."""
    upstream.script(say("Half an ", "answer"), hold())
    chat.ask("Tell me.")
    chat.wait_for_text("Half an answer")
    chat.page.click("#send")
    chat.wait_for_note("Stopped")

    assert request_of(upstream).wait_until_left()
    assert chat.text == "Half an answer"
    chat.answer.locator('[data-does="continue"]').wait_for()
    chat.wait_until_over()
    answer = chat.kept()["messages"][1]
    expected = ["interrupted", "cancelled", "Half an answer"]
    assert expected == [answer[name] for name in ("state", "outcome", "content")]


def test_stop_by_esc(chat: Chat, upstream: FakeOllama) -> None:
    """Esc stops from wherever the focus is."""
    upstream.script(say("One "), hold())
    chat.ask("Tell me.")
    chat.wait_for_text("One")
    chat.log.focus()
    chat.page.keyboard.press("Escape")
    chat.wait_for_note("Stopped")

    assert request_of(upstream).wait_until_left()


def test_stop_before_the_first_token(chat: Chat, upstream: FakeOllama) -> None:
    """An answer that has not begun can be stopped as well."""
    upstream.script(hold(), say("never"))
    chat.ask("Tell me.")
    record = request_of(upstream)
    assert chat.answer.locator(".wait").is_visible()
    chat.page.keyboard.press("Escape")

    assert record.wait_until_left()
    assert record.sent.steps == 0
    chat.wait_for_note("Stopped")
    assert chat.text == ""


def test_stop_while_the_question_is_on_its_way(chat: Chat, upstream: FakeOllama) -> None:
    """A stop that comes before the gateway has answered is done as soon as it has."""
    upstream.script(say("One "), hold())
    held = []
    chat.page.route("**/turns", lambda route: held.append(route))
    with chat.page.expect_request("**/turns"):
        chat.ask("Tell me.")
    chat.page.keyboard.press("Escape")
    chat.answer.locator(".wait", has_text="Stopping").wait_for()
    held[0].continue_()
    chat.wait_for_note("Stopped")
    chat.wait_until_over()

    assert upstream.wait_until_idle(60)  # the model was left, or was not asked at all
    assert [message["outcome"] for message in chat.kept()["messages"]] == [None, "cancelled"]


@pytest.mark.parametrize("begun", [True, False], ids=["answering", "before the first token"])
def test_stop_within_200_ms(chat: Chat, upstream: FakeOllama, begun: bool) -> None:
    """The model server sees the connection close within 200 ms of the click: at best, on a busy machine."""
    chat.page.evaluate(
        """document.querySelector("#send").addEventListener("click", () => { window.clicked = Date.now(); }, true)"""
    )
    took = []
    for number in range(1, TRIES + 1):
        upstream.script(*([say("One ")] if begun else []), hold(), done())
        chat.ask(f"Tell me {number}.")
        record = request_of(upstream, number)
        if begun:
            chat.wait_for_text("One")
        chat.page.click("#send.stop")
        assert record.wait_until_left()
        assert record.left_at is not None
        clicked = chat.page.evaluate("window.clicked") / 1000
        took.append(record.left_at + time.time() - time.monotonic() - clicked)
        chat.wait_until_over()

    assert min(took) <= LIMIT, took
