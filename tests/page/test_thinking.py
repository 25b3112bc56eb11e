"""Thinking has a block of its own: open while the model thinks, folded when it answers, as the reader chose."""

from __future__ import annotations

from tests.page.chat import Chat

from tailrace.testing import FakeOllama, hold, say, think, tool_call

OPEN = "document.querySelector('.thinking').open"


def test_open_while_thinking_folded_when_the_answer_starts(chat: Chat, upstream: FakeOllama) -> None:
    """The thoughts are seen as they come, and make room for the answer."""
    upstream.script(think("Let me ", "think."), hold(), say("The answer."))
    chat.ask("Q")
    chat.page.wait_for_selector(".thought:has-text('Let me think.')", state="visible")
    assert chat.answer.locator("summary").inner_text() == "Thinking …"
    upstream.release()
    chat.wait_for_text("The answer.")
    chat.page.wait_for_function(f"() => !{OPEN}")

    assert chat.answer.locator(".thought").is_hidden()
    assert chat.text == "The answer."


def test_what_the_reader_folds_stays_folded(chat: Chat, upstream: FakeOllama) -> None:
    """Who folds the thoughts while they come is not shown more of them."""
    upstream.script(think("One "), hold(), think("two."), hold(), say("Answer."))
    chat.ask("Q")
    chat.page.wait_for_selector(".thought:has-text('One')", state="visible")
    chat.answer.locator("summary").click()
    upstream.release()
    chat.page.wait_for_function("() => document.querySelector('.thought').textContent === 'One two.'")

    assert not chat.page.evaluate(OPEN)


def test_what_the_reader_opens_stays_open(chat: Chat, upstream: FakeOllama) -> None:
    """Who opens the thoughts by a key while the answer comes keeps them open to its end."""
    upstream.script(think("Hm."), say("One "), hold(), say("two."))
    chat.ask("Q")
    chat.wait_for_text("One")
    chat.page.wait_for_function(f"() => !{OPEN}")
    chat.answer.locator("summary").focus()
    chat.page.keyboard.press("Enter")
    upstream.release()
    chat.wait_for_text("two.")
    chat.wait_until_over()

    assert chat.page.evaluate(OPEN)


def test_thoughts_are_text(chat: Chat, upstream: FakeOllama) -> None:
    """Nothing in them is HTML."""
    upstream.script(think("<b>bold</b> <script>alert(1)</script>"), say("x"))
    chat.answered("Q", "x")

    assert chat.answer.locator(".thought").text_content() == "<b>bold</b> <script>alert(1)</script>"
    assert chat.answer.locator(".thought *").count() == 0


def test_tool_calls_are_shown(chat: Chat, upstream: FakeOllama) -> None:
    """A tool that the model asks for is shown with its arguments, at once and when the page is loaded anew."""
    upstream.script(tool_call("weather", {"city": "成都"}), say("Let me look."))
    for again in (False, True):
        if again:
            chat.page.reload()
            chat.wait_for_text("Let me look.")
        else:
            chat.answered("Q", "Let me look.")
        call = chat.answer.locator(".call")
        assert call.locator("summary code").inner_text() == "weather"
        call.locator("summary").click()
        assert '"city": "成都"' in call.locator("pre").inner_text()
