"""Input methods: Enter that chooses a character never sends."""

from __future__ import annotations

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, say

# What browsers tell of an Enter that belongs to an input method: that it composes, or the code 229.
COMPOSING = {
    "isComposing": "{ key: 'Enter', isComposing: true }",
    "keyCode 229": "{ key: 'Enter', keyCode: 229 }",
    "Process": "{ key: 'Process', keyCode: 229, code: 'Enter' }",
}


def press(chat: Chat, selector: str, how: str) -> bool:
    """Dispatches a key; returns whether the page let the browser have it."""
    return bool(
        chat.page.evaluate(
            f"""selector => document.querySelector(selector).dispatchEvent(
              new KeyboardEvent("keydown", {{ bubbles: true, cancelable: true, ...{how} }}))""",
            selector,
        )
    )


@pytest.mark.parametrize("how", COMPOSING)
def test_enter_while_composing_never_sends(chat: Chat, how: str) -> None:
    """The text stays in the field, and the input method gets its key."""
    chat.field.fill("nihao")
    assert press(chat, "#question", COMPOSING[how])

    assert chat.field.input_value() == "nihao"
    assert chat.messages.count() == 0
    assert not press(chat, "#question", "{ key: 'Enter' }")  # the same key by itself is taken


def test_a_real_composition(chat: Chat, upstream: FakeOllama) -> None:
    """Through the browser's own input method interface: composed text is sent only by the Enter that follows it."""
    upstream.script(say("好。"))
    session = chat.page.context.new_cdp_session(chat.page)
    chat.field.focus()
    session.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    session.send(
        "Input.dispatchKeyEvent",
        {"type": "rawKeyDown", "key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229},
    )
    assert chat.messages.count() == 0
    session.send("Input.insertText", {"text": "你好"})
    assert chat.field.input_value() == "你好"
    chat.field.press("Enter")
    chat.wait_for_text("好。")

    assert chat.branch()[0] == "你好"


@pytest.mark.parametrize("how", COMPOSING)
def test_esc_and_enter_of_an_input_method_in_other_fields(chat: Chat, upstream: FakeOllama, how: str) -> None:
    """In the editor of a question and in a new title as well."""
    upstream.script(say("One."))
    chat.answered("Q", "One.")
    chat.do("edit", 0)
    assert press(chat, ".editor-text", COMPOSING[how])
    assert press(chat, ".editor-text", COMPOSING[how].replace("Enter", "Escape"))
    assert chat.page.locator(".editor-text").is_visible()
    chat.page.locator(".editor-text").press("Escape")
    chat.menu("rename")
    assert press(chat, ".rename", COMPOSING[how])
    assert chat.page.locator(".rename").is_visible()


def test_enter_on_a_phone_starts_a_new_line(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> None:
    """Where there is no other way to write one; the button sends. It can be set."""
    upstream.script(say("One."))
    chat = open_chat(gateway.url, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    chat.field.fill("a")
    chat.field.press("Enter")
    chat.page.keyboard.type("b")
    assert chat.field.input_value() == "a\nb"
    chat.page.tap("#send")
    chat.wait_for_text("One.")

    assert chat.branch()[0] == "a\nb"


@pytest.mark.parametrize(("choice", "sends"), [("send", "Enter"), ("newline", "Control+Enter")])
def test_which_key_sends_can_be_chosen(chat: Chat, upstream: FakeOllama, choice: str, sends: str) -> None:
    """Enter sends and Shift+Enter breaks the line, or Enter breaks it and Ctrl+Enter sends."""
    upstream.script(say("One."))
    chat.page.click("#open-settings")
    chat.page.select_option("#pref-enter", choice)
    chat.page.keyboard.press("Escape")
    chat.field.fill("a")
    chat.field.press("Shift+Enter" if choice == "send" else "Enter")
    chat.page.keyboard.type("b")
    chat.field.press(sends)
    chat.wait_for_text("One.")

    assert chat.branch()[0] == "a\nb"
