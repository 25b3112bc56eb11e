"""A server that wants a key: the page asks for it, and brings it with all that it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.page.conftest import Open
from tests.page.gateway import Gateway
from tests.page.looking import controls, low_contrast

from tailrace.testing import FakeOllama, hold, say

KEY = "open-sesame-0123456789"


@pytest.fixture(scope="module")
def locked(upstream_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with a key."""
    url = f"http://127.0.0.1:{upstream_port}"
    with Gateway(url, tmp_path_factory.mktemp("locked"), "--api-key", KEY) as running:
        yield running


@pytest.mark.parametrize("script", ["", "delete window.SharedWorker;"], ids=["shared worker", "alone"])
def test_the_key_is_asked_for(open_chat: Open, locked: Gateway, upstream: FakeOllama, script: str) -> None:
    """A wrong one is said to be wrong; with the right one all works, and a reload does not ask again."""
    upstream.script(say("One "), hold(), say("two."))
    chat = open_chat(locked.url, troubled=True, script=script)
    dialog = chat.page.get_by_role("dialog", name="This server wants a key")
    dialog.wait_for()
    assert [control for control in controls(chat.page) if not control["name"]] == []
    assert low_contrast(chat.page) == []
    chat.page.fill("#key", "wrong-0123456789abcd")
    chat.page.keyboard.press("Enter")
    chat.page.wait_for_selector("#wrong-key", state="visible")
    chat.page.fill("#key", KEY)
    chat.page.keyboard.press("Enter")
    dialog.wait_for(state="hidden")
    chat.page.wait_for_function("() => document.querySelector('#model').value === 'm:latest'")
    chat.ask("Q")
    chat.wait_for_text("One")
    chat.page.reload()
    chat.wait_for_text("One")
    upstream.release()
    chat.wait_for_text("One two.")
    chat.wait_until_over()
    with chat.page.expect_download() as download:
        chat.menu("export_markdown")

    assert "One two." in Path(download.value.path()).read_text(encoding="utf-8")
    assert dialog.is_hidden()
    assert [url for url in chat.seen.urls if KEY in url] == []
