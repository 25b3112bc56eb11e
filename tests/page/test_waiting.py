"""The wait for the first word is visible: what it waits for, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.events import of_run
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, FakeOpenAI, chunk, hold, say


def test_waiting_for_the_model(chat: Chat, upstream: FakeOllama) -> None:
    """As soon as the question is sent there is a line that says so and counts the seconds, until the first word."""
    upstream.script(hold(), say("One."))
    chat.ask("Q")
    wait = chat.answer.locator(".wait")
    wait.wait_for()
    chat.page.wait_for_function("() => / 1 s$/.test(document.querySelector('.wait').textContent)")
    upstream.release()
    chat.wait_for_text("One.")

    assert wait.is_hidden()


def test_reading_the_prompt(open_chat: Open, tmp_path: Path) -> None:
    """A server that tells how far it has read the prompt: 41 %."""
    with FakeOpenAI("llamacpp", models=["m"]) as server:
        progress = {
            "object": "chat.completion.chunk",
            "choices": [],
            "prompt_progress": {"processed": 41, "total": 100},
        }
        server.script(chunk(progress), hold(), say("One."))
        with Gateway(f"openai:{server.base_url}", tmp_path) as gateway:
            chat = open_chat(gateway.url)
            chat.ask("Q")
            chat.answer.locator(".wait", has_text="Reading the prompt 41 %").wait_for()
            server.release()
            chat.wait_for_text("One.")


# What the wire of runs says, and what the page makes of it.
WAITS = {
    "queued": ({"position": 3}, "Queued, number 3 · 0 s"),
    "queued without a number": ({}, "Queued · 0 s"),
    "loading": ({"model": "big"}, "Loading big · 0 s"),
    "prefill": ({}, "Reading the prompt · 0 s"),
}


@pytest.mark.parametrize("what", WAITS)
def test_each_thing_that_is_waited_for(open_chat: Open, gateway: Gateway, upstream: FakeOllama, what: str) -> None:
    """A place in the queue, a model that is loaded, a prompt that is read: each is said in words."""
    data, words = WAITS[what]
    upstream.script(hold(), say("x"))
    chat = open_chat(gateway.url, script="delete window.SharedWorker;")
    chat.page.route("**/runs/*/events?*", of_run([(what.partition(" ")[0], data)]))
    chat.ask("Q")
    chat.answer.locator(".wait", has_text=words).wait_for()


def test_a_place_in_the_queue(open_chat: Open, upstream: FakeOllama, tmp_path: Path) -> None:
    """The gateway's own queue, before a model that answers one at a time."""
    upstream.script(say("One "), hold(), say("two."))
    upstream.script(say("Three."))
    with Gateway(upstream.url, tmp_path, "--max-running", "1") as gateway:
        first, second = open_chat(gateway.url), open_chat(gateway.url)
        first.ask("Q")
        first.wait_for_text("One")
        second.ask("R")
        second.answer.locator(".wait", has_text="Queued").wait_for()
        upstream.release()
        second.wait_for_text("Three.")
