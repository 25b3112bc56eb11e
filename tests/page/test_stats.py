"""The figures: live and ours, marked `~`; at the end the server's where it tells them."""

from __future__ import annotations

import re

from tests.page.chat import Chat

from tailrace.testing import FakeOllama, done, fin, hold, say

LIVE = re.compile(r"~[\d.]+ tok/s · first [\d.]+ s · ~4 tok · [\d.]+ s")


def figures(chat: Chat) -> str:
    return (chat.answer.locator(".figures").text_content() or "").replace("\u00a0", " ")


def test_figures_while_it_comes_and_the_servers_at_the_end(chat: Chat, upstream: FakeOllama) -> None:
    """Tokens a second, the first one, how many and how long; ours are marked, the server's are not."""
    upstream.script(say("a ", "b ", "c ", "d "), hold(), say("e"), done(eval_count=1234, eval_duration=30_000_000_000))
    chat.ask("Q")
    chat.wait_for_text("d")
    chat.page.wait_for_function(
        "() => /^~[\\d.]+.tok.s . first/.test(document.querySelector('.answer .figures').textContent)"
    )
    assert LIVE.fullmatch(figures(chat)), figures(chat)
    upstream.release()
    chat.wait_for_text("e")
    chat.wait_until_over()

    assert re.fullmatch(r"41\.1 tok/s · first [\d.]+ s · 1,234 tok · [\d.]+ s", figures(chat)), figures(chat)
    assert chat.answer.locator(".model-name").inner_text() == "m:latest"


def test_the_time_goes_on_while_nothing_comes(chat: Chat, upstream: FakeOllama) -> None:
    """The clock of an answer runs, also between tokens."""
    upstream.script(say("a"), hold())
    chat.ask("Q")
    chat.wait_for_text("a")
    before = figures(chat)
    chat.page.wait_for_function(
        "before => document.querySelector('.answer .figures').textContent.replaceAll('\\u00a0', ' ') !== before",
        arg=before,
    )


def test_our_figures_where_the_server_told_none(chat: Chat, upstream: FakeOllama) -> None:
    """An answer that broke off has our counts, and they stay marked, also when the page is loaded anew."""
    upstream.script(say("a ", "b ", "c"), fin())
    chat.ask("Q")
    chat.wait_for_note("Interrupted")
    chat.wait_until_over()
    assert "~3 tok" in figures(chat)
    chat.page.reload()
    chat.wait_for_text("a b c")

    assert "~3 tok" in figures(chat)


def test_figures_are_kept(chat: Chat, upstream: FakeOllama) -> None:
    """They are there again when the conversation is opened again."""
    upstream.script(say("a"), done(eval_count=99, eval_duration=1_000_000_000))
    chat.answered("Q", "a")
    before = figures(chat)
    chat.page.reload()
    chat.wait_for_text("a")

    assert before == figures(chat)
    assert "99.0 tok/s" in before
