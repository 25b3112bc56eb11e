"""``?render=html``: a front end shows the HTML of the whole text, wherever it was cut off, in few enough frames."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.serving import Gateway, serving
from tests.render.documents import CHINESE, ENGLISH
from tests.web.cutting import CuttingProxy, after_blocks
from tests.web.reader import Reader
from tests.web.test_rendered import Page, whole

from tailrace.protocols.sse import SSEDecoder
from tailrace.testing import hold, say, think, tool_call

TEXT = ENGLISH + "\n\n" + CHINESE
PIECES = [TEXT[at : at + 37] for at in range(0, len(TEXT), 37)]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway whose runs wait for readers as long as they like."""
    with serving("--on-leave", "continue") as gateway:
        yield gateway


def _html(gateway: Gateway, path: str, url: str = "", last: str = "", **more: Any) -> Reader:
    headers = f"Last-Event-ID: {last}\r\n" if last else ""
    return Reader(url or gateway.url, f"{path}/events?render=html", method="GET", headers=headers, **more)


def test_page_is_that_of_the_whole_text(gateway: Gateway) -> None:
    """Blocks and the last tail are the HTML of the whole; other events come as they do without."""
    path, _ = gateway.start(think("Hm."), say(*PIECES), tool_call("add", {"a": 1}))
    page = Page()
    with _html(gateway, path) as reader:
        events = reader.all()
    page.take(events)

    assert whole(TEXT) == page.html
    assert [name for name, _ in page.others if name != "prefill"] == ["thinking_delta", "tool_call", "ended"]
    assert events[-1].type == "ended"
    assert events[-2].type == "tail"


def test_page_is_the_same_when_cut_off_after_every_event(gateway: Gateway) -> None:
    """A proxy cuts after each event of an answer under way, and of one that has ended; the page comes out the same."""
    path, _ = gateway.start(*[step for piece in PIECES[:25] for step in (say(piece), hold())])
    page = Page()
    cuts = [after_blocks(count) for count in (2, 1, 2, 2, 1) * 6]  # more than two may be long in coming
    with CuttingProxy(gateway.server.port, cuts) as proxy:
        released = 0
        while not page.others or page.others[-1][0] != "ended":
            with _html(gateway, path, proxy.url, page.last) as reader:
                if released < 25:
                    gateway.upstream.release()
                    released += 1
                _read(reader, page)

    assert whole("".join(PIECES[:25])) == page.html


def _read(reader: Reader, page: Page) -> None:
    decoder = SSEDecoder()
    decoder.last_event_id = page.last
    try:
        while data := reader.more():
            page.take(decoder.feed(data))
    except (AssertionError, OSError):
        pass  # cut off


def test_frames_are_paced_and_the_ending_is_not_late(gateway: Gateway) -> None:
    """A fast answer makes no more frames than twenty a second, and the one who asked has it all at once at its end."""
    count = 400
    path, _ = gateway.start(hold(), say(*["word "] * count, every=0.002))
    with _html(gateway, path) as reader:
        reader.until(b": tailrace")
        began = time.monotonic()
        gateway.upstream.release()
        events = reader.all()
        took = time.monotonic() - began
    tails = [event for event in events if event.type == "tail"]

    assert whole("word " * count) == tails[-1].text
    # The first comes at once, and so does the last.
    assert 1 <= len(tails) <= 2 + took / 0.05


def test_frames_without_following(gateway: Gateway) -> None:
    """A reader that asks now and then gets what is new, and the tail that replaces the one before."""
    path, _ = gateway.start(say("One\n\ntw"), hold(), say("o\n\nthree"))
    page = Page()
    with gateway.read(f"{path}/events") as plain:
        plain.until(b"tw")
        with Reader(gateway.url, f"{path}/events?render=html&follow=false", method="GET") as reader:
            page.take(reader.all())
        assert page.html == "<p>One</p><p>tw</p>"
        gateway.upstream.release()
        plain.all()
    with Reader(gateway.url, f"{path}/events?render=html&follow=false&after={page.last}", method="GET") as reader:
        page.take(reader.all())

    assert page.html == "<p>One</p><p>two</p><p>three</p>"


def test_a_slow_reader_gets_it_all(gateway: Gateway) -> None:
    """A reader whose buffers are small gets the same page from a long answer that has ended."""
    path, _ = gateway.start(say(*[TEXT] * 100))
    gateway.ended(path)
    page = Page()
    with _html(gateway, path, rcvbuf=4096) as reader:
        page.take(reader.all())

    assert whole(TEXT * 100) == page.html


def test_hostile_text_is_text(gateway: Gateway) -> None:
    """Markup, scripts, addresses that run, and line ends of every kind: none of it becomes more than text."""
    hostile = (
        "<script>alert(1)</script>\r[x](javascript:alert(1))\r\n\r\n"
        "![i](http://elsewhere/p.png)\u2028<img src=x onerror=y>"
    )
    path, _ = gateway.start(say(*hostile), say("\n\ndata: x\nevent: ended\nid: 9\n"))
    page = Page()
    with _html(gateway, path) as reader:
        page.take(reader.all())

    assert "<script" not in page.html
    assert "<img" not in page.html
    assert 'href="javascript' not in page.html
    assert [name for name, _ in page.others if name != "prefill"] == ["ended"]


def test_finished_texts_are_rendered_together(gateway: Gateway) -> None:
    """``POST /render`` gives the HTML of each text."""
    answer = gateway.call("POST", "/render", {"texts": [TEXT, "*x*", ""]})

    assert answer.json["html"] == [whole(TEXT), "<p><em>x</em></p>", ""]


def test_health_answers_while_much_is_rendered(gateway: Gateway) -> None:
    """Readers that come late to a long answer, and texts of megabytes, do not keep others waiting."""
    path, _ = gateway.start(say(*[TEXT] * 60))
    gateway.ended(path)
    long = json.dumps({"texts": [TEXT * 100]}).encode()
    with Reader(gateway.url, "/render", long) as rendering, _html(gateway, path) as reader:
        gateway.call("GET", "/healthz")
        assert not rendering._seen  # the text takes longer than the question whether all is well
        assert rendering.status == 200
        rendering.body()
        reader.all()


def test_continued_answer_is_rendered_from_its_beginning(gateway: Gateway) -> None:
    """A run that goes on with an answer shows all of the message: a code block that was cut goes on where it was."""
    made = gateway.call("POST", "/conversations", {"model": "m"}).json["id"]
    gateway.upstream.script(say("```python\nx =", " 1"), hold(), path="/api/chat")
    turn = gateway.call("POST", f"/conversations/{made}/turns", {"content": "hi"}).json
    with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
        reader.until(b'" 1"')
        gateway.call("DELETE", f"/runs/{turn['run']['id']}")
        reader.all()
    gateway.upstream.script(say("\ny = 2\n```\n\nDone."), path="/api/chat")
    path = f"/conversations/{made}"
    again = gateway.call("POST", f"{path}/turns", {"continue": turn["answer"]["id"]}).json
    page = Page()
    with _html(gateway, f"/runs/{again['run']['id']}") as reader:
        page.take(reader.all())

    assert again["answer"]["base"] == "```python\nx = 1"
    assert whole("```python\nx = 1\ny = 2\n```\n\nDone.") == page.html
