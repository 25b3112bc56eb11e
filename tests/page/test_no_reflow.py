"""No flicker, no reflow: what is finished is never touched again, and what a reader does with it is left alone."""

from __future__ import annotations

from tests.page.chat import Chat, pieces

from tailrace.testing import FakeOllama, hold, say

FIRST = "# A title\n\nA *first* paragraph.\n\n```python\nx = 1\n```\n\n"
REST = "1. one\n2. two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> a quote\n\nThe last words."

# Watches what is finished so far: nothing in it may change, go, or move.
WATCH = """() => {
  const body = document.querySelector(".answer .markdown");
  window.nodes = [...body.querySelectorAll("h1, pre, p, code, em")].filter((node) => !node.closest("p:last-child"));
  window.places = window.nodes.map((node) => node.offsetTop);
  window.changes = [];
  const inside = (node) => window.nodes.some((finished) => finished.contains(node));
  new MutationObserver((records) => {
    for (const record of records) {
      const gone = [...record.removedNodes].some(inside);
      if (gone || inside(record.target)) window.changes.push(`${record.type} in ${record.target.nodeName}`);
    }
  }).observe(body, { subtree: true, childList: true, characterData: true, attributes: true });
}"""
UNTOUCHED = """() => ({
  changes: window.changes,
  connected: window.nodes.every((node) => node.isConnected),
  places: window.nodes.every((node, index) => node.offsetTop === window.places[index]),
  count: window.nodes.length,
})"""


def test_finished_blocks_keep_their_identity_to_the_end(chat: Chat, upstream: FakeOllama) -> None:
    """The nodes of what is finished stay the same ones in the same places, through the end of an answer."""
    upstream.script(say(*pieces(FIRST + "Then "), "more"), hold(), say(*pieces(REST, 2)))
    chat.ask("Q")
    chat.wait_for_text("Then more")
    chat.page.evaluate(WATCH)
    upstream.release()
    chat.wait_for_text("The last words.")
    chat.wait_until_over()
    chat.page.wait_for_function("() => document.querySelector('.figures').textContent.includes('tok/s')")

    expected = {"changes": [], "connected": True, "places": True, "count": 5}
    assert expected == chat.page.evaluate(UNTOUCHED)


def test_a_selection_survives(chat: Chat, upstream: FakeOllama) -> None:
    """What somebody has selected stays selected: in what is finished, and in the paragraph that grows."""
    upstream.script(
        say("Some words ", "that stand.\n\nAnd some that ", "grow"), hold("a"), say(" on"), hold("b"), say(".\n\nx")
    )
    chat.ask("Q")
    chat.wait_for_text("that grow")
    chat.page.evaluate(
        """() => {
          const [first, last] = document.querySelectorAll(".answer .markdown p");
          const range = document.createRange();
          range.setStart(first.firstChild, 5);
          range.setEnd(last.firstChild, 8);
          document.getSelection().removeAllRanges();
          document.getSelection().addRange(range);
        }"""
    )
    expected = "words that stand.\n\nAnd some"
    assert expected == chat.page.evaluate("String(document.getSelection())")
    upstream.release("a")
    chat.wait_for_text("grow on")
    assert expected == chat.page.evaluate("String(document.getSelection())")
    upstream.release("b")
    chat.wait_for_text("x")
    chat.wait_until_over()

    assert expected == chat.page.evaluate("String(document.getSelection())")


def test_an_open_menu_and_the_focus_survive(chat: Chat, upstream: FakeOllama) -> None:
    """A menu that is open and the place of the focus in it are left alone while an answer comes and ends."""
    upstream.script(say("One "), hold(), say("two."))
    chat.ask("Q")
    chat.wait_for_text("One")
    chat.page.locator(".conversation-item").first.hover()
    chat.page.locator(".conversation-item .icon-button").first.click()
    chat.page.keyboard.press("ArrowDown")
    chat.wait_for_focus('[data-does="export_markdown"]')
    upstream.release()
    chat.wait_for_text("two.")
    chat.wait_until_over()

    assert chat.page.locator(".menu").is_visible()
    chat.wait_for_focus('[data-does="export_markdown"]')


def test_the_focus_never_moves_on_its_own(chat: Chat, upstream: FakeOllama) -> None:
    """Wherever somebody is, they stay there while an answer begins, comes and ends."""
    upstream.script(say("One."))
    upstream.script(hold("begin"), say("Two "), hold("end"), say("three."))
    chat.answered("Q", "One.")
    chat.ask("R")
    copy = chat.messages.nth(1).locator('[data-does="copy"]')
    copy.focus()
    for gate, text in (("begin", "Two"), ("end", "three.")):
        upstream.release(gate)
        chat.wait_for_text(text)
    chat.wait_until_over()

    assert copy.evaluate("button => button === document.activeElement")


def test_code_can_be_copied_while_it_comes(chat: Chat, upstream: FakeOllama) -> None:
    """The button of a piece of code that is still open stays the same button, and copies what there is."""
    upstream.script(say("```python\nx = ", "1\n"), hold(), say("y = 2\n```\n\nDone."))
    chat.ask("Q")
    chat.wait_for_text("x = 1")
    button = chat.answer.locator(".copy-code").element_handle()
    assert button is not None
    upstream.release()
    chat.wait_for_text("Done.")

    assert button.evaluate("button => button.isConnected")
