"""The page on a real model: the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway


@pytest.fixture(scope="module")
def gateway(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway on the embedded engine."""
    with Gateway("embedded:", tmp_path_factory.mktemp("gateway"), home=home) as running:
        yield running


@pytest.fixture
def chat(open_chat: Open, gateway: Gateway) -> Chat:
    """A page on it, with answers that are short and always the same."""
    chat = open_chat(gateway.url)
    chat.page.click("#open-tuning")
    for name, value in (("temperature", "0"), ("seed", "1")):
        chat.page.fill(f"#{name}", value)
    chat.page.fill("#num_predict", "40")
    chat.page.locator("#num_predict").blur()
    chat.page.keyboard.press("Escape")
    return chat


def test_a_real_answer(chat: Chat) -> None:
    """Asked, waited for, shown as it comes, and with the engine's own figures at its end."""
    chat.page.evaluate(
        """() => {
          window.waits = new Set();
          window.lengths = new Set();
          new MutationObserver(() => {
            const answer = [...document.querySelectorAll(".answer")].at(-1);
            if (!answer) return;
            const wait = answer.querySelector(".wait");
            if (wait.checkVisibility()) window.waits.add(wait.textContent);
            window.lengths.add(answer.querySelector(".markdown").textContent.length);
          }).observe(document.querySelector("#messages"), { subtree: true, childList: true, characterData: true });
        }"""
    )
    chat.ask("Write two sentences about rivers.")
    chat.wait_until_over()
    figures = chat.answer.locator(".figures").text_content() or ""
    kept = chat.kept()["messages"][1]

    assert kept["state"] == "complete"
    assert len(chat.page.evaluate("[...window.waits]")) > 0
    assert len(chat.page.evaluate("[...window.lengths]")) > 5  # it came bit by bit
    assert "tok/s" in figures
    assert "~" not in figures
    assert chat.answer.locator(".model-name").inner_text() == "smollm2:135m"


def test_a_real_answer_is_stopped_and_goes_on(chat: Chat) -> None:
    """Stopped in the middle it keeps what it had said, and continues from there, through a reload."""
    chat.page.click("#open-tuning")
    chat.page.fill("#num_predict", "400")
    chat.page.locator("#num_predict").blur()
    chat.page.keyboard.press("Escape")
    chat.ask("Tell me a long story about a mill.")
    chat.page.wait_for_function("() => document.querySelector('.answer .markdown').textContent.length > 40")
    chat.page.keyboard.press("Escape")
    chat.wait_for_note("Stopped")
    chat.wait_until_over()
    before = chat.kept()["messages"][1]["content"]
    chat.do("continue")
    chat.page.wait_for_function(
        "before => document.querySelector('.answer .markdown').textContent.length > before + 20", arg=len(before)
    )
    chat.page.reload()
    chat.page.wait_for_function(
        "before => document.querySelector('.answer .markdown')?.textContent.length > before", arg=len(before)
    )
    chat.page.keyboard.press("Escape")
    chat.wait_until_over()

    assert chat.kept()["messages"][1]["content"].startswith(before)
