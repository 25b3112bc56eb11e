"""Reload, closed tabs, lost networks, servers that stop: the text is that of a run that was never cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser import Browser
from tests.page.chat import Chat, pieces, request_of
from tests.page.conftest import Open
from tests.page.gateway import Gateway
from tests.page.line import Line

from tailrace.testing import FakeOllama, hold, say, think, tool_call

TEXT = "".join(f"Paragraph **{number}** 的文字，with `code`.\n\n" for number in range(40))
ONCE = "".join(f"Paragraph {number} 的文字，with code." for number in range(40))
ALONE = "delete window.SharedWorker;"
EVENTS = "/events?"


@pytest.fixture
def line(gateway: Gateway) -> Iterator[Line]:
    """A network to the gateway."""
    with Line(gateway.port) as network:
        yield network


@pytest.fixture(params=["shared worker", "alone"])
def way(request: pytest.FixtureRequest) -> str:
    """What the page runs first: with a shared worker, and in a browser that has none."""
    return ALONE if request.param == "alone" else ""


def words(chat: Chat) -> str:
    return chat.text.replace("\n", "")


def assert_whole(chat: Chat, upstream: FakeOllama) -> None:
    """The text on the page and the one that is kept are what the model said, once."""
    assert words(chat) == ONCE
    assert chat.kept()["messages"][-1]["content"] == TEXT
    assert len([record for record in upstream.requests if record.path == "/api/chat"]) == 1


def test_c3_refresh_in_the_middle(open_chat: Open, gateway: Gateway, upstream: FakeOllama, way: str) -> None:
    """Loaded anew again and again, the page shows the answer from its first word, and all of it in the end."""
    parts = pieces(TEXT, 7)
    cuts = [0, 1, 40, 41, 90, len(parts)]
    steps = [step for at, to in itertools.pairwise(cuts) for step in (say(*parts[at:to]), hold())]
    upstream.script(*steps)
    chat = open_chat(gateway.url, script=way)
    chat.ask("Q")
    chat.wait_for_text("Par")
    for _ in cuts[1:]:
        chat.page.reload()
        chat.wait_for_text("Par")
        assert ONCE.startswith(words(chat))
        upstream.release()
    chat.wait_for_text("Paragraph 39 的文字，with code.")
    chat.wait_until_over()

    assert_whole(chat, upstream)


def test_c17_reload_while_thinking(chat: Chat, upstream: FakeOllama) -> None:
    """The thoughts so far are there again, open, and go on; no answer of before is flashed."""
    upstream.script(say("The old answer."))
    chat.answered("Q", "The old answer.")
    upstream.script(think("One ", "two "), hold(), think("three."), say("The new answer."))
    chat.ask("R")
    chat.page.wait_for_selector(".thought:has-text('One two')", state="visible")
    chat.page.add_init_script(
        """document.addEventListener("DOMContentLoaded", () => {
          window.flashed = new Set();
          new MutationObserver(() => {
            const last = [...document.querySelectorAll(".message")].at(-1);
            if (last?.matches(".answer")) window.flashed.add(last.querySelector(".markdown").textContent);
          }).observe(document.body, { subtree: true, childList: true, characterData: true });
        });"""
    )
    chat.page.reload()
    chat.page.wait_for_selector(".thought:has-text('One two')", state="visible")
    assert chat.answer.locator(".thought").text_content() == "One two "
    upstream.release()
    chat.wait_for_text("The new answer.")
    chat.wait_until_over()

    assert chat.answer.locator(".thought").text_content() == "One two three."
    assert all("The new answer.".startswith(text) for text in chat.page.evaluate("[...window.flashed]"))


def test_c17_reload_during_a_tool_call(chat: Chat, upstream: FakeOllama) -> None:
    """A tool call that has come is there again, once, and the answer goes on."""
    upstream.script(tool_call("weather", {"city": "Oslo"}), hold(), say("Let me look."))
    chat.ask("Q")
    chat.answer.locator(".call").wait_for()
    chat.page.reload()
    chat.answer.locator(".call").wait_for()
    upstream.release()
    chat.wait_for_text("Let me look.")
    chat.wait_until_over()

    assert chat.answer.locator(".call").count() == 1


def test_a_closed_tab_loses_nothing(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> None:
    """What comes while no tab is open is there in the next one."""
    parts = pieces(TEXT, 9)
    upstream.script(say(*parts[:20]), hold(), say(*parts[20:]))
    chat = open_chat(gateway.url)
    chat.ask("Q")
    chat.wait_for_text("Par")
    path = f"/c/{chat.conversation}"
    context = chat.page.context
    chat.page.close()
    upstream.release()
    assert request_of(upstream).wait_until_ended(60)
    chat.page = context.new_page()
    chat.open(path)
    chat.wait_for_text("Paragraph 39 的文字，with code.")

    assert_whole(chat, upstream)


def test_the_network_is_lost_and_comes_back(open_chat: Open, line: Line, upstream: FakeOllama, way: str) -> None:
    """While it is away the page says so and tries again; then it goes on, with no gap and nothing twice."""
    parts = pieces(TEXT, 9)
    upstream.script(say(*parts[:30]), hold(), say(*parts[30:60]), hold(), say(*parts[60:]))
    chat = open_chat(line.url, script=way, troubled=True)
    chat.ask("Q")
    chat.wait_for_text("Par")
    line.cut()
    chat.page.wait_for_selector("#link", state="visible")
    upstream.release()
    before = words(chat)
    line.mend()
    chat.page.wait_for_selector("#link", state="hidden")
    chat.page.wait_for_function(
        "before => document.querySelector('.answer .markdown').textContent.length > before", arg=len(before)
    )
    line.drop()
    upstream.release()
    chat.wait_for_text("Paragraph 39 的文字，with code.")
    chat.wait_until_over()

    assert_whole(chat, upstream)


def test_try_now(open_chat: Open, line: Line, upstream: FakeOllama) -> None:
    """Who does not want to wait can have it tried at once."""
    upstream.script(say("One "), hold(), say("two."))
    chat = open_chat(line.url, troubled=True)
    chat.ask("Q")
    chat.wait_for_text("One")
    line.cut()
    chat.page.wait_for_selector("#link", state="visible")
    line.mend()
    chat.page.evaluate("document.querySelector('#try-now').click()")  # it may have come back by itself already
    chat.page.wait_for_selector("#link", state="hidden")
    upstream.release()
    chat.wait_for_text("One two.")


def test_a_question_that_cannot_be_sent_is_not_lost(open_chat: Open, line: Line, upstream: FakeOllama) -> None:
    """Without a network the question goes back into the field, and can be sent when there is one again."""
    upstream.script(say("One."))
    chat = open_chat(line.url, troubled=True)
    chat.answered("First", "One.")
    line.cut()
    chat.ask("Second")
    chat.page.wait_for_function("() => document.querySelector('#question').value === 'Second'")
    assert chat.branch() == ["First", "One."]
    line.mend()
    chat.page.wait_for_selector("#link", state="hidden")
    upstream.script(say("Two."))
    chat.field.press("Control+Enter")
    chat.wait_for_text("Two.")
    chat.wait_until_over()

    assert chat.branch() == ["First", "One.", "Second", "Two."]


@pytest.mark.parametrize("shown", [True, False], ids=["at the end", "while it is away"])
def test_a_restarted_server(own_gateway: Gateway, open_chat: Open, upstream: FakeOllama, way: str, shown: bool) -> None:
    """A server that dies in mid-answer and comes back: what had come is there, marked, and can be continued."""
    upstream.script(say("Half ", "an answer"), hold())
    chat = open_chat(own_gateway.url, script=way, troubled=True)
    chat.ask("Q")
    chat.wait_for_text("Half an answer")
    while chat.kept()["messages"][1]["content"] != "Half an answer":
        pass
    own_gateway.kill()
    chat.page.wait_for_selector("#link", state="visible")
    assert chat.text == "Half an answer"
    own_gateway.start()
    if not shown:
        chat.page.reload()
    chat.wait_for_note("the server was stopped")
    assert chat.page.locator("#link").is_hidden()
    assert chat.text == "Half an answer"
    upstream.script(say(", and the rest."))
    chat.do("continue")
    chat.wait_for_text("Half an answer, and the rest.")
    chat.wait_until_over()

    assert chat.kept()["messages"][1]["state"] == "complete"


def test_a_server_that_is_asked_to_stop(own_gateway: Gateway, open_chat: Open, upstream: FakeOllama) -> None:
    """Its last word reaches the page: the answer did not end by itself."""
    upstream.script(say("Half"), hold())
    chat = open_chat(own_gateway.url, troubled=True)
    chat.ask("Q")
    chat.wait_for_text("Half")
    own_gateway.process.terminate()
    chat.wait_for_note("the server was stopped")

    assert chat.text == "Half"


def test_c10_an_expired_run(open_chat: Open, upstream: FakeOllama, tmp_path: Path) -> None:
    """A run that the server no longer keeps when the page comes back: shown as it was kept, and not asked for again."""
    upstream.script(say("So ", "far"), hold(), say(", and to the end."))
    with Gateway(upstream.url, tmp_path, "--keep", "0") as gateway, Line(gateway.port) as line:
        chat = open_chat(line.url, script=ALONE, troubled=True)
        statuses: list[int] = []
        chat.page.on("response", lambda response: statuses.append(response.status) if EVENTS in response.url else None)
        chat.ask("Q")
        chat.wait_for_text("So far")
        run = chat.kept()["messages"][1]["run"]
        line.cut()
        chat.page.wait_for_selector("#link", state="visible")
        upstream.release()
        while chat.page.request.get(f"{gateway.url}/runs/{run}").status != 404:
            pass  # it ends, and is gone
        line.mend()
        chat.wait_for_text("So far, and to the end.")
        chat.wait_until_over()
        chat.page.wait_for_selector("#link", state="hidden")
        assert statuses == [200, 404]
        chat.page.reload()
        chat.wait_for_text("So far, and to the end.")

        assert chat.answer.locator(".note").is_hidden()
        assert statuses == [200, 404]


@pytest.mark.parametrize("length", [1, 12])
def test_t2_a_server_that_sleeps(open_chat: Open, own_gateway: Gateway, upstream: FakeOllama, length: int) -> None:
    """A server that stands still is no answer that has ended: what comes after it wakes is the rest of it."""
    upstream.script(say("Before."), hold(), say(*[f" And {number}." for number in range(length)]))
    chat = open_chat(own_gateway.url, troubled=True)
    chat.ask("Q")
    chat.wait_for_text("Before.")
    own_gateway.freeze()
    upstream.release()
    chat.page.wait_for_function(  # the page's own clock goes on
        "before => document.querySelector('.figures').textContent !== before",
        arg=chat.answer.locator(".figures").text_content(),
    )
    assert chat.answer.evaluate("answer => answer.classList.contains('going')")
    assert chat.text == "Before."
    own_gateway.thaw()
    chat.wait_for_text(f"And {length - 1}.")
    chat.wait_until_over()

    assert chat.kept()["messages"][1]["state"] == "complete"
    assert chat.text == "Before." + "".join(f" And {number}." for number in range(length))


def test_t2_a_connection_that_is_dead_without_a_word(
    open_chat: Open, own_gateway: Gateway, upstream: FakeOllama
) -> None:
    """A connection over which nothing comes, not even a ping, for too long is given up, and said to be lost."""
    upstream.script(say("Before."), hold(), say(" After."))
    chat = open_chat(own_gateway.url, script=ALONE, troubled=True)
    chat.page.clock.install()
    chat.ask("Q")
    chat.wait_for_text("Before.")
    own_gateway.freeze()
    chat.page.clock.run_for(46_000)
    chat.page.wait_for_selector("#link", state="visible")
    assert chat.answer.evaluate("answer => answer.classList.contains('going')")
    own_gateway.thaw()
    upstream.release()
    chat.page.clock.resume()
    chat.wait_for_text("Before. After.")
    chat.page.wait_for_selector("#link", state="hidden")


def test_t2_a_browser_that_sleeps(open_chat: Open, gateway: Gateway, upstream: FakeOllama, browser: Browser) -> None:
    """A page that was frozen while an answer came and ended shows all of it when it wakes."""
    upstream.script(say("Before."), hold(), say(" After."))
    chat = open_chat(gateway.url)
    chat.ask("Q")
    chat.wait_for_text("Before.")
    session = chat.page.context.new_cdp_session(chat.page)
    session.send("Page.setWebLifecycleState", {"state": "frozen"})
    upstream.release()
    assert request_of(upstream).wait_until_ended(60)
    session.send("Page.setWebLifecycleState", {"state": "active"})
    chat.wait_for_text("Before. After.")
    chat.wait_until_over()
