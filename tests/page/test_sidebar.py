"""The list of conversations: found, renamed, deleted and brought back, exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, say

TITLES = "[...document.querySelectorAll('.conversation-title')].map(({ textContent }) => textContent)"


@pytest.fixture
def chat(open_chat: Open, empty_gateway: Gateway, upstream: FakeOllama) -> Chat:
    """A page with two conversations, the second of which is shown."""
    upstream.script(say("About **herons**."))
    upstream.script(say("About otters."))
    chat = open_chat(empty_gateway.url, accept_downloads=True)
    chat.answered("First question", "About herons.")
    chat.page.click("#new")
    chat.answered("Second question", "About otters.")
    wait_for_titles(chat, ["Second question", "First question"])
    return chat


def wait_for_titles(chat: Chat, titles: list[str]) -> None:
    """Waits until the list is this one."""
    chat.page.wait_for_function(f"titles => JSON.stringify({TITLES}) === JSON.stringify(titles)", arg=titles)


def test_conversations_are_listed_and_opened(chat: Chat) -> None:
    """The one changed last is first; a press opens one, at an address of its own that can be loaded."""
    assert chat.page.locator("h2:has-text('Today')").count() == 1
    chat.page.locator(".conversation").nth(1).click()
    chat.wait_for_text("About herons.")
    assert chat.page.title() == "First question · tailrace"
    chat.page.reload()
    chat.wait_for_text("About herons.")

    assert chat.branch() == ["First question", "About herons."]
    assert chat.page.locator(".conversation[aria-current=page]").inner_text() == "First question"


def test_search(chat: Chat) -> None:
    """Titles and messages are searched, and where it was found is shown and marked."""
    chat.page.fill("#search", "HERON")
    wait_for_titles(chat, ["First question"])
    assert chat.page.locator(".snippet mark").inner_text().lower() == "heron"
    chat.page.fill("#search", "nothing like it")
    chat.page.wait_for_selector("#no-conversations", state="visible")
    chat.page.fill("#search", "")
    wait_for_titles(chat, ["Second question", "First question"])


def test_rename(chat: Chat) -> None:
    """Enter takes the new title, Esc leaves the old one; the page's title follows."""
    chat.menu("rename")
    chat.page.locator(".rename").fill("Otters")
    chat.page.locator(".rename").press("Enter")
    wait_for_titles(chat, ["Otters", "First question"])
    assert chat.page.locator("#title").inner_text() == "Otters"
    chat.menu("rename", 1)
    chat.page.locator(".rename").fill("Never")
    chat.page.locator(".rename").press("Escape")
    wait_for_titles(chat, ["Otters", "First question"])
    while chat.kept()["title"] != "Otters":
        pass
    chat.page.reload()
    chat.page.wait_for_function(f"() => {TITLES}.includes('Otters')")


def test_delete_and_undo(chat: Chat) -> None:
    """What is deleted can be brought back for a while; the page goes on with a new conversation."""
    chat.menu("delete", 1)
    wait_for_titles(chat, ["Second question"])
    assert "“First question” is deleted." in chat.page.locator("#toasts").inner_text()
    chat.page.get_by_role("button", name="Undo").click()
    wait_for_titles(chat, ["Second question", "First question"])
    path = chat.conversation
    chat.menu("delete", 0)
    chat.page.wait_for_selector("#welcome", state="visible")
    with chat.page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        chat.page.get_by_role("button", name="Dismiss").click()

    assert deleted.value.status == 204
    assert chat.page.request.get(f"{chat.url}/conversations/{path}").status == 404


def test_a_deletion_that_nobody_undid_is_done_when_the_page_closes(chat: Chat) -> None:
    """To close the tab is no way to bring something back."""
    path = chat.conversation
    chat.menu("delete", 0)
    wait_for_titles(chat, ["First question"])
    context = chat.page.context
    chat.page.close(run_before_unload=False)
    chat.page = context.new_page()
    while chat.page.request.get(f"{chat.url}/conversations/{path}").status != 404:
        pass


@pytest.mark.parametrize("kind", ["markdown", "json"])
def test_export(chat: Chat, kind: str, tmp_path: Path) -> None:
    """As Markdown to be read, or as JSON with the whole tree."""
    with chat.page.expect_download() as download:
        chat.menu(f"export_{kind}", 1)
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    text = path.read_text(encoding="utf-8")

    if kind == "markdown":
        assert path.suffix == ".md"
        assert "About **herons**." in text
    else:
        assert path.suffix == ".json"
        assert json.loads(text)["messages"][1]["content"] == "About **herons**."


def test_the_menu_by_keys(chat: Chat) -> None:
    """Arrows go round in it, and Esc closes it and gives the focus back."""
    button = chat.page.locator(".conversation-item .icon-button").first
    button.focus()
    chat.page.keyboard.press("Enter")
    for key, entry in (
        ("ArrowDown", "export_markdown"),
        ("End", "delete"),
        ("ArrowDown", "rename"),
        ("ArrowUp", "delete"),
    ):
        chat.page.keyboard.press(key)
        chat.wait_for_focus(f'[role=menuitem][data-does="{entry}"]')
    chat.page.keyboard.press("Escape")

    assert button.evaluate("button => button === document.activeElement")
    assert button.get_attribute("aria-expanded") == "false"


def test_a_conversation_that_is_gone(chat: Chat) -> None:
    """An address that leads nowhere says so, and begins a new conversation."""
    chat.page.goto(f"{chat.url}/c/conv_{'0' * 32}")
    chat.page.wait_for_selector(".toast:has-text('no such conversation')")
    chat.page.wait_for_selector("#welcome", state="visible")
    chat.seen.complaints.clear()  # the browser itself complains of the 404

    assert chat.page.evaluate("location.pathname") == "/"


def test_more_than_a_page(chat: Chat) -> None:
    """A long list comes in parts."""
    for number in range(60):
        answer = chat.page.request.post(f"{chat.url}/conversations", data={"title": f"Conversation {number}"})
        assert answer.status == 201
    chat.page.reload()
    chat.page.wait_for_function(f"() => {TITLES}.length === 50")
    chat.page.get_by_role("button", name="Show more").click()
    chat.page.wait_for_function(f"() => {TITLES}.length === 62")

    assert chat.page.locator("#more").is_hidden()


def test_drafts_are_kept(chat: Chat) -> None:
    """What was not sent yet stays with its conversation, through another one and a reload."""
    chat.field.fill("half a thought")
    chat.page.locator(".conversation").nth(1).click()
    chat.wait_for_text("About herons.")
    assert chat.field.input_value() == ""
    chat.page.go_back()
    chat.wait_for_text("About otters.")
    assert chat.field.input_value() == "half a thought"
    chat.page.reload()
    chat.wait_for_text("About otters.")

    assert chat.field.input_value() == "half a thought"
