"""The model and its parameters: chosen on the page, kept with the conversation, sent with each question."""

from __future__ import annotations

import json
from typing import Any

from tests.page.chat import Chat, asked, request_of
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, say
from tailrace.testing.records import Record

FIELDS = {"temperature": "0.2", "top_p": "0.9", "num_ctx": "4096", "num_predict": "128", "seed": "7"}


def body(record: Record) -> Any:
    return json.loads(record.body)


def set_all(chat: Chat) -> None:
    """Fills in all there is."""
    chat.page.click("#open-tuning")
    chat.page.fill("#system", "You are brief.")
    chat.page.select_option("#think", "false")
    for name, value in FIELDS.items():
        chat.page.fill(f"#{name}", value)
    chat.page.locator("#seed").blur()
    chat.page.keyboard.press("Escape")


def test_parameters_of_a_new_conversation(chat: Chat, upstream: FakeOllama) -> None:
    """What is set before the first question is sent with it, and is there again when the page is loaded anew."""
    upstream.script(say("One."))
    set_all(chat)
    chat.answered("Q", "One.")
    sent = body(request_of(upstream))

    assert sent["options"] == {"temperature": 0.2, "top_p": 0.9, "num_ctx": 4096, "num_predict": 128, "seed": 7}
    assert sent["think"] is False
    assert asked(request_of(upstream)) == [("system", "You are brief."), ("user", "Q")]
    chat.page.reload()
    chat.wait_for_text("One.")
    chat.page.click("#open-tuning")
    assert {name: chat.page.input_value(f"#{name}") for name in FIELDS} == FIELDS
    assert chat.page.input_value("#system") == "You are brief."
    assert chat.page.input_value("#think") == "false"


def test_parameters_can_be_changed_and_taken_back(chat: Chat, upstream: FakeOllama) -> None:
    """From the next answer on; "back to the defaults" leaves it all to the model."""
    for text in ("One.", "Two.", "Three."):
        upstream.script(say(text))
    chat.answered("Q", "One.")
    with chat.page.expect_response(lambda response: '"seed":7' in (response.request.post_data or "")):
        set_all(chat)
    chat.answered("R", "Two.")
    chat.page.click("#open-tuning")
    with chat.page.expect_response(lambda response: response.request.method == "PATCH"):
        chat.page.get_by_role("button", name="Back to the defaults").click()
    chat.page.keyboard.press("Escape")
    chat.answered("S", "Three.")

    assert [body(request_of(upstream, number)).get("options") for number in (1, 3)] == [None, None]
    assert body(request_of(upstream, 2))["options"]["seed"] == 7
    assert asked(request_of(upstream, 3))[0] == ("user", "Q")


def test_what_is_no_value_is_not_sent(chat: Chat, upstream: FakeOllama) -> None:
    """A number out of its range is marked, and left out."""
    upstream.script(say("One."))
    chat.page.click("#open-tuning")
    chat.page.fill("#top_p", "7")
    chat.page.fill("#seed", "3")
    chat.page.locator("#seed").blur()
    assert chat.page.locator("#top_p:invalid").count() == 1
    chat.page.keyboard.press("Escape")
    chat.answered("Q", "One.")

    assert body(request_of(upstream))["options"] == {"seed": 3}


def test_the_model_is_picked(chat: Chat, upstream: FakeOllama) -> None:
    """The upstream's models are there; the one picked answers, here and in the next conversation."""
    upstream.script(say("One."))
    upstream.script(say("Two."))
    picker = chat.page.get_by_role("combobox", name="Model")
    picker.locator("option").nth(1).wait_for(state="attached")  # the models are asked for when the page is there
    assert picker.locator("option").all_inner_texts() == ["m:latest", "other:latest"]
    picker.select_option("other:latest")
    chat.answered("Q", "One.")
    chat.page.click("#new")
    assert picker.input_value() == "other:latest"
    chat.answered("R", "Two.")

    assert [body(request_of(upstream, number))["model"] for number in (1, 2)] == ["other:latest", "other:latest"]
    assert chat.answer.locator(".model-name").inner_text() == "other:latest"


def test_no_model_and_no_server(open_chat: Open, own_gateway: Gateway, upstream: FakeOllama) -> None:
    """A model server that is not there is said, with what to do; the page can be used as soon as it is."""
    upstream.stop()
    chat = open_chat(own_gateway.url, troubled=True)
    chat.page.wait_for_selector(".toast")
    chat.field.fill("Q")
    chat.field.press("Enter")
    chat.page.wait_for_selector(".note.failed, .toast >> nth=1")
