"""Copying: an answer as Markdown, a piece of code as it is, and said aloud, also where a page has no clipboard."""

from __future__ import annotations

import pytest
from tests.page.chat import Chat, pieces
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, hold, say

ANSWER = "**Look:**\n\n```python\ndef f(x):\n    return x\n```\n\n1. one\n2. two\n"
# A page over plain HTTP in a local network has no `navigator.clipboard`.
WITHOUT = "Object.defineProperty(navigator, 'clipboard', { value: undefined });"


@pytest.fixture(params=["clipboard", "plain HTTP"])
def chat(request: pytest.FixtureRequest, open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> Chat:
    """The page, with a clipboard and without one."""
    if request.param == "clipboard":
        return open_chat(gateway.url, permissions=["clipboard-read", "clipboard-write"])
    return open_chat(gateway.url, script=WITHOUT)


def pasted(chat: Chat) -> str:
    """What the clipboard has, as pasting it shows."""
    chat.field.fill("")
    chat.field.press("Control+V")
    return chat.field.input_value()


def test_an_answer_is_copied_as_markdown(chat: Chat, upstream: FakeOllama) -> None:
    """What one pastes is the Markdown that the model wrote; the button shows it, and screen readers hear it."""
    upstream.script(say(*pieces(ANSWER)))
    chat.answered("Q", "two")
    chat.do("copy")
    chat.wait_for_spoken("Copied")

    assert chat.answer.locator('[data-does="copy"].done').is_visible()
    chat.wait_for_focus('[data-does="copy"]')
    assert pasted(chat) == ANSWER


def test_code_is_copied_without_anything_else(chat: Chat, upstream: FakeOllama) -> None:
    """What one pastes is the code alone: no numbers, no name of its language."""
    upstream.script(say(*pieces(ANSWER)))
    chat.answered("Q", "two")
    button = chat.answer.locator(".copy-code")
    button.focus()
    button.press("Enter")
    chat.answer.locator(".copy-code", has_text="Copied").wait_for()
    chat.wait_for_spoken("Copied")

    assert pasted(chat) == "def f(x):\n    return x\n"


def test_a_long_piece_of_code_is_copied_whole(chat: Chat, upstream: FakeOllama) -> None:
    """Code so long that it comes in several blocks is one piece to whoever copies it."""
    code = "".join(f"line_{number} = {number}\n" for number in range(600))
    upstream.script(say(*pieces(f"```python\n{code}```\n\nDone.", 500)))
    chat.answered("Q", "Done.")
    assert chat.answer.locator("pre.joined").count() > 0
    assert chat.answer.locator(".copy-code").count() == 1
    chat.answer.locator(".copy-code").click()
    chat.wait_for_spoken("Copied")

    assert pasted(chat) == code


def test_an_answer_under_way_is_copied_as_far_as_it_is(chat: Chat, upstream: FakeOllama) -> None:
    """Copying does not wait for the end."""
    upstream.script(say("**So** ", "far"), hold(), say(" and no further"))
    chat.ask("Q")
    chat.wait_for_text("So far")
    chat.do("copy")
    chat.wait_for_spoken("Copied")

    assert pasted(chat) == "**So** far"


def test_a_question_is_copied(chat: Chat, upstream: FakeOllama) -> None:
    """A question too, with its lines."""
    upstream.script(say("Yes."))
    chat.answered("First\n  second", "Yes.")
    chat.messages.nth(0).hover()
    chat.messages.nth(0).get_by_role("button", name="Copy the question").click()
    chat.wait_for_spoken("Copied")

    assert pasted(chat) == "First\n  second"
