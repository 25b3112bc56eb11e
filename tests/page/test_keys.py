"""Keys: everything can be done by them."""

from __future__ import annotations

from tests.page.chat import Chat

from tailrace.testing import FakeOllama, hold, say


def test_enter_sends_and_shift_enter_breaks_the_line(chat: Chat, upstream: FakeOllama) -> None:
    """Enter, Shift+Enter; Ctrl+Enter sends always. Nothing is sent that is empty."""
    upstream.script(say("One."))
    chat.field.press("Enter")
    chat.field.fill("   ")
    chat.field.press("Enter")
    assert chat.messages.count() == 0
    chat.field.fill("a")
    chat.field.press("Shift+Enter")
    chat.page.keyboard.type("b")
    chat.field.press("Enter")
    chat.wait_for_text("One.")

    assert chat.branch()[0] == "a\nb"
    assert chat.field.input_value() == ""


def test_arrow_up_edits_the_last_question(chat: Chat, upstream: FakeOllama) -> None:
    """In an empty field; in one with text it moves in the text, as it should."""
    upstream.script(say("One."))
    chat.answered("A question", "One.")
    chat.field.fill("text")
    chat.field.press("ArrowUp")
    assert chat.page.locator(".editor-text").count() == 0
    chat.field.fill("")
    chat.field.press("ArrowUp")
    chat.wait_for_focus(".editor-text")
    assert chat.page.locator(".editor-text").input_value() == "A question"
    upstream.script(say("Two."))
    chat.page.keyboard.type(" more")
    chat.page.keyboard.press("Enter")
    chat.wait_for_text("Two.")

    assert chat.branch()[0] == "A question more"


def test_ctrl_k_searches(chat: Chat, upstream: FakeOllama) -> None:
    """Ctrl+K goes to the search, from where arrows and Enter lead into what was found; Esc empties it."""
    upstream.script(say("About reeds."))
    chat.answered("Q", "About reeds.")
    chat.page.keyboard.press("Control+K")
    chat.wait_for_focus("#search")
    chat.page.keyboard.type("reeds")
    chat.page.wait_for_selector(".snippet mark")
    chat.page.keyboard.press("ArrowDown")
    chat.wait_for_focus(".conversation")
    chat.page.keyboard.press("Control+K")
    chat.page.keyboard.press("Escape")
    chat.page.wait_for_selector(".snippet", state="detached")

    assert chat.page.locator("#search").input_value() == ""


def test_ctrl_k_opens_a_closed_sidebar(chat: Chat) -> None:
    """The search is found also when the list was put away."""
    chat.page.click("#toggle-sidebar")
    chat.page.wait_for_selector("#sidebar", state="hidden")
    chat.page.keyboard.press("Control+K")
    chat.wait_for_focus("#search")


def test_ctrl_shift_o_begins_anew(chat: Chat, upstream: FakeOllama) -> None:
    """A new conversation, with the focus where one writes; the browser's way back leads back."""
    upstream.script(say("One."))
    chat.answered("Q", "One.")
    path = f"/c/{chat.conversation}"
    chat.log.focus()
    chat.page.keyboard.press("Control+Shift+O")
    chat.page.wait_for_selector("#welcome", state="visible")
    chat.wait_for_focus("#question")
    assert chat.page.evaluate("location.pathname") == "/"
    chat.page.go_back()
    chat.wait_for_text("One.")

    assert chat.page.evaluate("location.pathname") == path


def test_ctrl_slash_helps(chat: Chat) -> None:
    """The list of keys, which Esc closes; each key that is listed works, see the other tests here."""
    chat.page.keyboard.press("Control+/")
    dialog = chat.page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    listed = [row.replace("\n", "") for row in dialog.locator("dt").all_inner_texts()]
    assert listed == ["Enter", "CtrlEnter", "ShiftEnter", "Esc", "↑", "CtrlK", "CtrlShiftO", "Ctrl/"]
    chat.page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_esc_closes_what_is_open_before_it_stops(chat: Chat, upstream: FakeOllama) -> None:
    """The innermost first: a menu, a dialog, an editor; the answer only when nothing else is open."""
    upstream.script(say("One "), hold(), say("two."))
    chat.ask("Q")
    chat.wait_for_text("One")
    chat.page.keyboard.press("Control+/")
    chat.page.keyboard.press("Escape")
    chat.page.wait_for_selector("#help", state="hidden")
    chat.page.locator(".conversation-item").first.hover()
    chat.page.locator(".conversation-item .icon-button").first.click()
    chat.page.keyboard.press("Escape")
    chat.page.wait_for_selector(".menu", state="detached")
    chat.field.focus()
    chat.field.press("ArrowUp")
    chat.wait_for_focus(".editor-text")
    chat.page.keyboard.press("Escape")
    assert chat.page.locator(".editor-text").count() == 0
    assert chat.page.locator("#send.stop").count() == 1
    upstream.release()
    chat.wait_for_text("One two.")


def test_a_whole_conversation_by_keys(chat: Chat, upstream: FakeOllama) -> None:
    """Ask, go to the answer's buttons, answer again, and back to the first version, without a mouse."""
    upstream.script(say("One."))
    upstream.script(say("Two."))
    chat.page.keyboard.type("Q")
    chat.page.keyboard.press("Enter")
    chat.wait_for_text("One.")
    chat.wait_until_over()
    for _ in range(6):
        chat.page.keyboard.press("Shift+Tab")
        if chat.page.evaluate("document.activeElement.dataset.does") == "regenerate":
            break
    chat.page.keyboard.press("Enter")
    chat.wait_for_text("Two.")
    chat.wait_until_over()
    chat.answer.locator('[data-step="previous"]').focus()
    chat.page.keyboard.press("Enter")
    chat.wait_for_text("One.")
