"""C21: finished texts as HTML, within bounds: how much at once, whose turn it is, and for whom nothing is done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tailrace.gateway.app import create_app
from tailrace.gateway.endpoints import render
from tailrace.gateway.scheduling.turns import Turns, finished
from tailrace.gateway.settings import Settings
from tailrace.protocols.problems import ProblemError
from tailrace.render.html import HtmlStream

APP = create_app(Settings(upstreams=("http://127.0.0.1:1",), page=False))


class Client:
    """A client of the application, without a network between them."""

    def __init__(self, texts: list[str], address: str = "10.0.0.1") -> None:
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/render",
            "raw_path": b"/render",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": (address, 1),
            "server": ("127.0.0.1", 80),
        }
        self._body = json.dumps({"texts": texts}).encode()
        self._asked = False
        self.gone = asyncio.Event()
        self.status = 0
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"")

    async def ask(self) -> Any:
        """Asks; returns the answer, if somebody is there to take one."""
        await APP(self.scope, self.receive, self.send)
        return json.loads(self.body) if self.body else None


async def test_c21_slices_make_the_html_of_the_whole() -> None:
    """Texts longer than a slice, of which the last one is cut in the midst of a word, and short ones."""
    texts = ["# a\n\n" + "- ```b\n  c\n" * 500, "", "*x*", "[l]: /later\n\n[l] " * 700]
    streams = [HtmlStream() for _ in texts]
    expected = ["".join([*each.feed(text), *each.finish()]) for each, text in zip(streams, texts, strict=True)]

    assert (await Client(texts).ask())["html"] == expected


@pytest.mark.parametrize("texts", [["x" * 500_001], ["x" * 250_001] * 2, [""] * 1001], ids=["long", "together", "many"])
async def test_c21_too_much_at_once(texts: list[str]) -> None:
    """It is refused, with the limit in words."""
    client = Client(texts)
    told = await client.ask()

    assert client.status == 413
    assert "1,000" in told["detail"] or "500,000" in told["detail"]


async def test_c21_nothing_is_done_for_who_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work without an end stops when its client leaves, and others' goes on."""
    client = Client(["x"])
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(render._Work, "advance", lambda _self: loop.call_soon_threadsafe(client.gone.set) and False)

    assert await client.ask() is None  # which would not return otherwise

    monkeypatch.undo()
    assert (await Client(["*x*"]).ask())["html"] == ["<p><em>x</em></p>"]


async def test_c21_more_requests_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has eight at once, and all together 32: more are told to come again."""
    monkeypatch.setattr(render._Work, "advance", lambda _self: False)
    crowd = [Client(["x"], f"10.0.{number // 9}.1") for number in range(40)]
    asking = [asyncio.ensure_future(each.ask()) for each in crowd]
    refused = [each async for each in _refused(crowd, 8)]
    for each in crowd:
        each.gone.set()
    await asyncio.gather(*asking, return_exceptions=True)

    assert sorted(each.status for each in refused) == [429] * 3 + [503] * 5


async def _refused(crowd: list[Client], count: int) -> AsyncIterator[Client]:
    while sum(each.status > 0 for each in crowd) < count:
        await asyncio.sleep(0)
    for each in crowd:
        if each.status:
            yield each


async def test_c21_clients_take_turns() -> None:
    """A client's second piece of work waits until another client has had a turn."""
    turns, order = Turns("texts"), []

    async def work(client: str, name: str) -> None:
        with turns.place(client):
            for _ in range(2):
                async with turns.turn(client):
                    order.append(name)
                    await asyncio.sleep(0)

    await asyncio.gather(work("a", "a1"), work("a", "a2"), work("a", "a3"), work("b", "b1"))

    assert order.index("b1") < order.index("a3")
    assert sorted(order) == sorted(["a1", "a2", "a3", "b1"] * 2)
    with turns.place("a"):  # all of them have left
        pass


async def test_c21_a_turn_is_over_when_its_work_is() -> None:
    """Who is cancelled in a turn keeps it until the thread is done."""
    begun, end = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await end.wait()

    task = asyncio.ensure_future(finished(work()))
    await begun.wait()
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_c21_as_many_at_once_as_there_may_be() -> None:
    """Two of three have their turn; the third gets it when one of them is done."""
    turns, here = Turns("searches", working=2), 0
    most = 0

    async def work(client: str) -> None:
        nonlocal here, most
        async with turns.turn(client):
            here += 1
            most = max(most, here)
            await asyncio.sleep(0)
            here -= 1

    await asyncio.gather(*(work(client) for client in "abc"))

    assert (most, here) == (2, 0)


def test_c21_who_has_too_many_is_told_so() -> None:
    """Each refusal says when to come again."""
    turns = Turns("texts to render", most=1, each=1)
    refused = pytest.raises(ProblemError, match="too many texts to render at once")
    with turns.place("a"), refused as caught, turns.place("b"):
        pass

    assert caught.value.headers == {"Retry-After": "1"}
