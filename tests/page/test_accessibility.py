"""For everybody: names, roles, order, and what screen readers are told."""

from __future__ import annotations

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway
from tests.page.looking import controls

from tailrace.testing import FakeOllama, done, hold, say, think, tool_call

NAME = """() => {
  const at = document.activeElement;
  return at === document.body ? "" : at.id || at.dataset.does || at.className || at.localName;
}"""
OUTLINE = """() => {
  const style = getComputedStyle(document.activeElement);
  const around = document.activeElement.closest(".composer, .search, .editor");
  const aroundStyle = around && getComputedStyle(around);
  return style.outlineStyle !== "none" || aroundStyle?.boxShadow !== "none" || aroundStyle?.outlineStyle !== "none";
}"""


@pytest.fixture
def full(chat: Chat, upstream: FakeOllama) -> Chat:
    """A page with all that messages can have."""
    upstream.script(
        think("Hm."), tool_call("weather", {}), say("```python\nx\n```\n\n[link](https://example.org) end.")
    )
    chat.answered("Q", "end.")
    return chat


def test_every_control_has_a_name(full: Chat) -> None:
    """Whatever can be used says what it does, in each dialog as well."""
    assert [control for control in controls(full.page) if not control["name"]] == []
    for opener in ("#open-settings", "#open-tuning", "#open-help"):
        full.page.click(opener)
        assert [control for control in controls(full.page) if not control["name"]] == []
        full.page.keyboard.press("Escape")


def test_landmarks_roles_and_headings(full: Chat) -> None:
    """The parts of the page are marked as what they are, and messages can be gone through by their headings."""
    page = full.page
    for role, name in (("navigation", "Conversations"), ("log", "Conversation"), ("textbox", "Write a message")):
        assert page.get_by_role(role, name=name, exact=True).count() == 1  # type: ignore[arg-type]  # a role
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("search").count() == 1
    assert page.get_by_role("combobox", name="Model").count() == 1
    assert page.get_by_role("heading", level=1).inner_text() == "Q"
    assert page.locator("#log").get_by_role("heading", level=2).all_text_contents() == ["Question", "Answer"]
    assert page.get_by_role("article").count() == 2
    assert page.locator(".conversation[aria-current=page]").count() == 1


def test_focus_order(full: Chat) -> None:
    """Tab goes through all of it in the order in which it stands there, and where it is can be seen."""
    page = full.page
    page.locator("#skip").focus()
    names: list[str] = []
    while (name := page.evaluate(NAME)) and name not in names[:1]:
        assert page.evaluate(OUTLINE), name
        names.append(name)
        page.keyboard.press("Tab")
    order = ["skip", "new", "search", "conversation", "open-settings", "toggle-sidebar", "model", "open-tuning", "log"]
    order += ["edit", "copy-code", "copy", "regenerate", "question", "send"]
    places = [names.index(name) for name in order if name in names]

    assert [name for name in order if name not in names] == []
    assert places == sorted(places), names


def test_the_skip_link(chat: Chat) -> None:
    """The first stop leads to where one writes."""
    assert chat.page.evaluate("document.querySelector('a, button, input, textarea, select, [tabindex]').id") == "skip"
    chat.page.locator("#skip").press("Enter")
    chat.wait_for_focus("#question")


def test_dialogs_hold_the_focus_and_give_it_back(chat: Chat) -> None:
    """A dialog is modal, is named by its title, and returns the focus to what opened it."""
    for opener, title in (("#open-settings", "Settings"), ("#open-tuning", "Parameters"), ("#open-help", "Keys")):
        chat.page.locator(opener).press("Enter")
        dialog = chat.page.get_by_role("dialog", name=title)
        dialog.wait_for()
        assert dialog.evaluate("dialog => dialog.matches(':modal') && dialog.contains(document.activeElement)")
        chat.page.keyboard.press("Escape")
        chat.wait_for_focus(opener)


def test_tokens_are_not_read_out_but_the_answer_is(chat: Chat, upstream: FakeOllama) -> None:
    """The log is busy and silent while an answer comes; at its end a hidden region has all of it, once."""
    upstream.script(say("First words. "), hold(), say("Last words."))
    chat.page.evaluate(
        """() => {
          window.spoken = [];
          new MutationObserver((records) => {
            for (const { addedNodes } of records) for (const node of addedNodes) window.spoken.push(node.textContent);
          }).observe(document.querySelector("#spoken"), { childList: true });
        }"""
    )
    chat.ask("Q")
    chat.wait_for_text("First words.")
    log = chat.page.locator("#log")
    assert log.get_attribute("role") == "log"
    assert log.get_attribute("aria-live") == "off"
    assert log.get_attribute("aria-busy") == "true"
    assert chat.page.evaluate("window.spoken") == []
    upstream.release()
    chat.wait_for_spoken("Last words.")
    chat.wait_until_over()
    chat.page.wait_for_selector("#log[aria-busy=false]")

    assert chat.page.locator("#spoken").get_attribute("aria-live") == "polite"
    assert chat.page.evaluate("window.spoken") == ["First words. Last words.\nThe answer is complete."]


def test_sentences_can_be_read_out_as_they_come(chat: Chat, upstream: FakeOllama) -> None:
    """Whole sentences, a few seconds apart, and each of them once."""
    upstream.script(say("First sentence. Second sent"), hold(), say("ence. Third"), hold(), say(" one."))
    chat.page.click("#open-settings")
    chat.page.select_option("#pref-announce", "sentences")
    chat.page.keyboard.press("Escape")
    chat.page.clock.install()
    chat.ask("Q")
    chat.wait_for_text("Second sent")
    chat.page.clock.run_for(5_000)
    chat.wait_for_spoken("First sentence.")
    upstream.release()
    chat.wait_for_text("Third")
    chat.page.clock.run_for(5_000)
    chat.wait_for_spoken("Second sentence.")
    upstream.release()
    chat.wait_for_text("Third one.")
    chat.page.clock.run_for(5_000)
    chat.wait_for_spoken("The answer is complete.")

    assert chat.page.locator("#spoken p").all_text_contents() == [
        "First sentence.",
        "Second sentence.",
        "Third one.\nThe answer is complete.",
    ]


def test_only_the_end_can_be_told(chat: Chat, upstream: FakeOllama) -> None:
    """Who reads by themselves is told that it is complete, or how else it ended."""
    chat.page.click("#open-settings")
    chat.page.select_option("#pref-announce", "end")
    chat.page.keyboard.press("Escape")
    upstream.script(say("One."), done("length"))
    chat.ask("Q")
    chat.wait_for_spoken("Cut off by the token limit or a full context")

    assert "One." not in (chat.page.locator("#spoken").text_content() or "")


def test_versions_and_running_are_told(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> None:
    """Which version one sees, and which conversation is being answered, is said and not only drawn."""
    chat = open_chat(gateway.url)
    upstream.script(say("One."))
    chat.answered("Q", "One.")
    upstream.script(say("Two "), hold())
    chat.do("regenerate")
    chat.wait_for_text("Two")

    assert chat.page.get_by_role("group", name="Version 2 of 2").count() == 1
    chat.page.wait_for_selector(".conversation:has-text('being answered')")
    assert chat.page.get_by_role("button", name="Stop").count() == 1
