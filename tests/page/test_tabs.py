"""Many tabs: a browser opens six connections to a server, for all of them."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page
from tests.browser import Seen
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, hold, say
from tailrace.testing.records import Record
from tailrace.testing.steps import Step

TABS = 8
HIDDEN = "Object.defineProperty(document, 'hidden', { get: () => true });"


class Tab(Chat):
    """A further tab of a browser that has one."""

    def __init__(self, first: Chat, page: Page) -> None:
        seen = Seen(page)
        super().__init__(seen, first.url)


def wait_for_readers(chat: Chat, count: int) -> None:
    """Waits until the gateway counts so many readers of runs."""
    while f"\ntailrace_readers {count}.0\n" not in chat.page.request.get(f"{chat.url}/metrics").text():
        pass


@pytest.fixture
def tabs(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> list[Chat]:
    """Tabs of one browser, each with a new conversation."""
    first = open_chat(gateway.url)
    return [first, *(Tab(first, first.page.context.new_page()).open() for _ in range(TABS - 1))]


def answer_by_name(record: Record) -> list[Step]:
    """An answer that names its question, in two parts."""
    question = json.loads(record.body)["messages"][-1]["content"]
    return [say(f"Begin {question}."), hold(), say(f" End {question}.")]


def test_c12_eight_tabs_with_an_answer_each(tabs: list[Chat], upstream: FakeOllama) -> None:
    """All begin and all end, and meanwhile each tab can still ask the server for something."""
    upstream.respond(answer_by_name)
    for number, tab in enumerate(tabs):
        tab.ask(f"Q{number}")
    for number, tab in enumerate(tabs):
        tab.wait_for_text(f"Begin Q{number}.")
    for tab in tabs:
        assert tab.page.evaluate("async () => (await fetch('/healthz')).status") == 200
    upstream.release(count=TABS)
    for number, tab in enumerate(tabs):
        tab.wait_for_text(f"Begin Q{number}. End Q{number}.")
        tab.wait_until_over()

    assert [tab.seen.complaints for tab in tabs] == [[]] * TABS


def test_c12_eight_tabs_on_one_answer(tabs: list[Chat], upstream: FakeOllama) -> None:
    """One answer is generated once and read once, and all tabs show all of it."""
    upstream.script(say("Begin."), hold(), say(" End."))
    tabs[0].ask("Q")
    tabs[0].wait_for_text("Begin.")
    for tab in tabs[1:]:
        tab.open(f"/c/{tabs[0].conversation}")
        tab.wait_for_text("Begin.")
    wait_for_readers(tabs[0], 1)
    upstream.release()
    for tab in tabs:
        tab.wait_for_text("Begin. End.")
        tab.wait_until_over()

    assert len([record for record in upstream.requests if record.path == "/api/chat"]) == 1


def test_c12_without_a_shared_worker(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> None:
    """A browser that has none follows from each tab itself, and those that nobody looks at only ask now and then."""
    script = "delete window.SharedWorker;"
    first = open_chat(gateway.url, script=script)
    tabs: list[Chat] = [first]
    for _ in range(TABS - 1):
        page = first.page.context.new_page()
        page.add_init_script(script + HIDDEN)
        tabs.append(Tab(first, page).open())
    upstream.respond(answer_by_name)
    for number, tab in enumerate(tabs):
        tab.ask(f"Q{number}")
        tab.page.wait_for_selector("#send.stop")
    for number, tab in enumerate(tabs):
        tab.wait_for_text(f"Begin Q{number}.")
    upstream.release(count=TABS)
    for number, tab in enumerate(tabs):
        tab.wait_for_text(f"Begin Q{number}. End Q{number}.")
        tab.wait_until_over()


@pytest.fixture
def two(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> tuple[Chat, Chat]:
    """Two tabs of one browser on one conversation."""
    first = open_chat(gateway.url)
    upstream.script(say("One."))
    first.answered("Q", "One.")
    return first, Tab(first, first.page.context.new_page()).open(f"/c/{first.conversation}")


def test_another_tab_sees_what_is_asked_here(two: tuple[Chat, Chat], upstream: FakeOllama) -> None:
    """A question that one tab asks is in the other at once, and its answer comes in both."""
    first, second = two
    second.wait_for_text("One.")
    upstream.script(say("Two "), hold(), say("three."))
    first.ask("R")
    second.wait_for_text("Two")
    upstream.release()
    for tab in two:
        tab.wait_for_text("Two three.")
        tab.wait_until_over()

    assert second.branch() == ["Q", "One.", "R", "Two three."]


def test_another_tab_can_stop_it(two: tuple[Chat, Chat], upstream: FakeOllama) -> None:
    """Stop works from wherever the answer is seen."""
    first, second = two
    upstream.script(say("Two "), hold())
    first.ask("R")
    second.wait_for_text("Two")
    second.page.keyboard.press("Escape")
    for tab in two:
        tab.wait_for_note("Stopped")


def test_an_answer_goes_on_while_another_conversation_is_shown(
    open_chat: Open, upstream: FakeOllama, empty_gateway: Gateway
) -> None:
    """Who looks at something else meanwhile is still a reader: the list shows that it goes on, and nothing is lost."""
    upstream.script(say("Begin."), hold(), say(" End."))
    chat = open_chat(empty_gateway.url)
    chat.ask("Q")
    chat.wait_for_text("Begin.")
    chat.page.keyboard.press("Control+Shift+O")
    chat.page.wait_for_selector("#welcome", state="visible")
    assert chat.page.locator(".running-mark").count() == 1
    wait_for_readers(chat, 1)
    upstream.release()
    chat.page.wait_for_selector(".running-mark", state="detached")
    chat.page.click(".conversation")
    chat.wait_for_text("Begin. End.")


def test_the_worker_lets_go_of_closed_tabs(open_chat: Open, upstream: FakeOllama, empty_gateway: Gateway) -> None:
    """When the last tab that shows an answer is closed, nobody reads it any more."""
    upstream.script(say("Begin."), hold())
    chat = open_chat(empty_gateway.url)
    other = Tab(chat, chat.page.context.new_page()).open()
    chat.ask("Q")
    chat.wait_for_text("Begin.")
    chat.page.close()
    wait_for_readers(other, 0)
