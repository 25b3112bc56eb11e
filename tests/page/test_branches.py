"""Regenerate, edit, continue: messages are a tree, and no branch of it is ever lost."""

from __future__ import annotations

from playwright.sync_api import Route
from tests.page.chat import Chat, asked, request_of

from tailrace.testing import FakeOllama, fin, hold, say, status

COUNT = ".branches .count"


def test_regenerate_and_versions(chat: Chat, upstream: FakeOllama) -> None:
    """Answering again adds a version; `‹ 2/3 ›` goes between them, and the focus stays on its button."""
    for number in (1, 2, 3):
        upstream.script(say(f"Answer {number}."))
    chat.answered("Q", "Answer 1.")
    for number in (2, 3):
        chat.do("regenerate")
        chat.wait_for_text(f"Answer {number}.")
        chat.wait_until_over()
    assert chat.answer.locator(COUNT).inner_text() == "3/3"
    chat.step("previous")
    chat.wait_for_text("Answer 2.")

    assert chat.branch() == ["Q", "Answer 2."]
    assert chat.answer.locator(COUNT).inner_text() == "2/3"
    chat.wait_for_focus('[data-step="previous"]')
    assert asked(request_of(upstream, 3)) == [("user", "Q")]


def test_the_version_that_is_shown_is_shown_again(chat: Chat, upstream: FakeOllama) -> None:
    """Which branch one sees is kept with the conversation."""
    upstream.script(say("First."))
    upstream.script(say("Second."))
    chat.answered("Q", "First.")
    chat.do("regenerate")
    chat.wait_for_text("Second.")
    chat.wait_until_over()
    with chat.page.expect_response(lambda response: response.request.method == "PATCH"):
        chat.step("previous")
    chat.page.reload()
    chat.wait_for_text("First.")

    assert chat.branch() == ["Q", "First."]


def test_edit_keeps_the_old_branch(chat: Chat, upstream: FakeOllama) -> None:
    """Editing a question in the middle adds a branch with its answer; the old one is whole and a step away."""
    for text in ("One.", "Two.", "New one."):
        upstream.script(say(text))
    chat.answered("First?", "One.")
    chat.answered("Second?", "Two.")
    chat.do("edit", 0)
    chat.page.locator(".editor-text").fill("First, changed?")
    chat.page.locator(".editor-text").press("Enter")
    chat.wait_for_text("New one.")
    chat.wait_until_over()
    assert chat.branch() == ["First, changed?", "New one."]
    chat.step("previous", 0)
    chat.wait_for_text("Two.")

    assert chat.branch() == ["First?", "One.", "Second?", "Two."]
    assert asked(request_of(upstream, 3)) == [("user", "First, changed?")]


def test_edit_can_be_called_off(chat: Chat, upstream: FakeOllama) -> None:
    """Esc and Cancel leave the question as it was, send nothing, and give the focus back."""
    upstream.script(say("One."))
    chat.answered("First?", "One.")
    for key, button in (("Escape", None), ("", "Cancel")):
        chat.do("edit", 0)
        chat.page.locator(".editor-text").fill("Another")
        if button is None:
            chat.page.locator(".editor-text").press(key)
        else:
            chat.page.get_by_role("button", name=button).press("Enter")
        chat.wait_for_focus('[data-does="edit"]')

    assert chat.branch() == ["First?", "One."]
    assert len(chat.kept()["messages"]) == 2


def test_continue_goes_on_in_the_same_answer(chat: Chat, upstream: FakeOllama) -> None:
    """Continue adds to what was there, in the middle of a sentence and of a block of code, and shows it as one."""
    upstream.script(say("Look:\n\n```python\nfor x in ", "range("), hold())
    chat.ask("Q")
    chat.wait_for_text("range(")
    chat.page.keyboard.press("Escape")
    chat.wait_for_note("Stopped")
    chat.wait_until_over()
    upstream.script(say("3):\n    print(x)\n```\n\nThat ", "is all."))
    chat.do("continue")
    chat.wait_for_text("is all.")
    chat.wait_until_over()

    assert chat.answer.locator("pre code").inner_text() == "for x in range(3):\n    print(x)\n"
    assert chat.page.locator(".answer").count() == 1
    answer = chat.kept()["messages"][1]
    assert answer["content"] == "Look:\n\n```python\nfor x in range(3):\n    print(x)\n```\n\nThat is all."
    assert answer["state"] == "complete"
    assert asked(request_of(upstream, 2))[:2] == [("user", "Q"), ("assistant", "Look:\n\n```python\nfor x in range(")]
    html = chat.answer.locator(".markdown").inner_html()
    chat.page.reload()
    chat.wait_for_text("is all.")
    assert chat.answer.locator(".markdown").inner_html() == html


def test_an_answer_that_broke_off_can_go_on(chat: Chat, upstream: FakeOllama) -> None:
    """A server that merely stops sending leaves an interrupted answer, never a complete one."""
    upstream.script(say("The answer is "), fin())
    chat.ask("Q")
    chat.wait_for_note("Interrupted")
    chat.wait_until_over()
    upstream.script(say("42."))
    chat.do("continue")
    chat.wait_for_text("The answer is 42.")


def test_a_failed_answer_can_be_tried_again(chat: Chat, upstream: FakeOllama) -> None:
    """An error before the first word is shown with what the server said of it, and a way to try again."""
    upstream.script(status(500, {"error": "the model runner has stopped"}))
    chat.ask("Q")
    chat.wait_for_note("the model runner has stopped")
    chat.wait_until_over()
    upstream.script(say("Now."))
    chat.do("try_again")
    chat.wait_for_text("Now.")
    chat.wait_until_over()

    assert chat.answer.locator(COUNT).inner_text() == "2/2"


def test_questions_follow_the_branch(chat: Chat, upstream: FakeOllama) -> None:
    """What the model is sent is the branch that is shown, and nothing of the others."""
    for text in ("A1.", "A2.", "B."):
        upstream.script(say(text))
    chat.answered("A", "A1.")
    chat.do("regenerate")
    chat.wait_for_text("A2.")
    chat.wait_until_over()
    chat.step("previous")
    chat.wait_for_text("A1.")
    chat.answered("B", "B.")

    assert asked(request_of(upstream, 3)) == [("user", "A"), ("assistant", "A1."), ("user", "B")]


def test_a_question_does_not_vanish_while_it_is_sent(chat: Chat, upstream: FakeOllama) -> None:
    """What is read of the conversation before the server knows of a question is not taken for all there is."""
    upstream.script(say("One."))
    upstream.script(say("Two."))
    chat.answered("Q", "One.")
    held: list[Route] = []
    chat.page.route("**/conversations/conv_*", lambda route: held.append(route))
    with chat.page.expect_request("**/conversations/conv_*"):  # as another tab has it read, or the answer's end
        chat.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    chat.page.evaluate(
        """() => {
          window.seen = new Set();
          new MutationObserver(() => window.seen.add(document.querySelectorAll(".question").length))
            .observe(document.querySelector("#messages"), { subtree: true, childList: true });
        }"""
    )
    response = held[0].fetch()
    chat.ask("R")
    chat.wait_for_text("Two.")
    held[0].fulfill(response=response)
    chat.page.unroute("**/conversations/conv_*")
    chat.wait_until_over()

    assert chat.page.evaluate("[...window.seen]") == [2]
    assert chat.branch() == ["Q", "One.", "R", "Two."]
