"""Cancel through the client on the embedded engine: in every phase the engine itself says that it has stopped."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backends.embedded.client import ENDLESS, MODEL, ask, models_loaded, until_idle, words
from tests.client.wires import Seen

from tailrace import AsyncClient, CancelReceipt, Client, Outcome
from tailrace.backends.embedded import supervisor as supervisor_module
from tailrace.backends.embedded.supervisor import Endpoint, Supervisor
from tailrace.events import Ended, Event, Loading, Prefill, Queued, TextDelta


@pytest.fixture(autouse=True)
def shared(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """The program's one worker is the session's."""
    monkeypatch.setattr(supervisor_module, "_shared", supervisor)
    return supervisor


class Talker:
    """A client of the embedded engine whose stream is read elsewhere, while the test looks on and cancels."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seen = Seen()
        self.stream: Any = None
        self._threads: list[threading.Thread] = []

    def ask(self, prompt: str, predict: int = 3000, format: Any = ENDLESS) -> Talker:
        """Starts to read an answer on another thread: as synchronous code does, or in a task."""
        messages = [{"role": "user", "content": prompt}]
        rest: Any = {"stream": True, "options": {"num_predict": predict}, "format": format}
        begun = threading.Event()

        def read() -> None:
            self.stream = Client("embedded:").chat(MODEL, messages, **rest)
            begun.set()
            for event in self.stream.events():
                self.seen.add(event)

        async def aread() -> None:
            self.stream = await AsyncClient("embedded:").chat(MODEL, messages, **rest)
            begun.set()
            async for event in self.stream.events():
                self.seen.add(event)
            await self.stream.cancel(wait=True)  # the loop lives until the connection is closed

        thread = threading.Thread(target=read if self.kind == "sync" else lambda: asyncio.run(aread()))
        self._threads.append(thread)
        thread.start()
        assert begun.wait(60)
        return self

    def until(self, found: Callable[[Any], Any]) -> Event:
        """Waits for an event."""
        return self.seen.until(found)

    def cancel(self) -> CancelReceipt:
        """Cancels from this thread, which is not the reader's, and waits until the engine has let go."""

        async def acancel() -> Any:
            return await self.stream.cancel(wait=True)

        receipt = self.stream.cancel(wait=True) if self.kind == "sync" else asyncio.run(acancel())
        assert isinstance(receipt, CancelReceipt)
        return receipt

    def ended(self) -> Ended:
        """Waits for the ending, and for the reader."""
        ended = self.seen.to_the_end()
        for thread in self._threads:
            thread.join()
        return ended


@pytest.fixture(params=["sync", "async"])
def talkers(request: pytest.FixtureRequest, endpoint: Endpoint) -> Iterator[Callable[[], Talker]]:
    """Makes talkers, and stops them all at the end."""
    made: list[Talker] = []

    def make() -> Talker:
        made.append(Talker(request.param))
        return made[-1]

    yield make
    for talker in made:
        if talker.stream is not None:
            talker.stream.cancel()
            for thread in talker._threads:
                thread.join()


def is_token(event: Event) -> bool:
    return type(event) is TextDelta


def running(endpoint: Endpoint) -> tuple[int, int]:
    """How many requests the engine is busy with, and how many wait."""
    loaded = models_loaded(endpoint)[MODEL]
    return loaded["running"], loaded["queued"]


def test_queued_behind_busy_slots(talkers: Callable[[], Talker], endpoint: Endpoint) -> None:
    """A run that waits for a slot leaves the queue at once; those that run go on, and the next moves up."""
    busy = [talkers().ask(f"Count. {words(5)}") for _ in range(2)]
    for talker in busy:
        talker.until(is_token)
    third = talkers().ask("Say hello.", 5, None)
    assert third.until(lambda event: type(event) is Queued) == Queued(1)
    fourth = talkers().ask("Say hello.", 5, None)
    assert fourth.until(lambda event: type(event) is Queued) == Queued(2)

    receipt = third.cancel()

    assert receipt.confirmed
    assert fourth.until(lambda event: type(event) is Queued) == Queued(1)
    assert running(endpoint) == (2, 1)
    assert third.ended() == Ended(Outcome.CANCELLED)
    assert third.stream.reply.text == ""
    assert busy[0].cancel().confirmed
    assert fourth.ended().outcome.finished
    assert busy[1].cancel().confirmed
    until_idle(endpoint)


def test_loading(talkers: Callable[[], Talker], endpoint: Endpoint) -> None:
    """A run that waits for its model is let go at once; the load is not wasted, and nothing runs after it."""
    ask(endpoint, "POST", "/api/chat", {"model": MODEL, "keep_alive": 0})
    while MODEL in models_loaded(endpoint):
        pass
    talker = talkers().ask("Count.")
    talker.until(lambda event: type(event) is Loading)

    talker.cancel()

    assert talker.ended() == Ended(Outcome.CANCELLED)
    assert talker.stream.reply.text == ""
    while MODEL not in models_loaded(endpoint):
        pass
    assert running(endpoint) == (0, 0)


def test_prefill_of_a_long_prompt(talkers: Callable[[], Talker], endpoint: Endpoint) -> None:
    """The engine stops inside the prompt: it says how far it had got, and had said nothing yet."""
    talker = talkers().ask(words(3500))
    talker.until(lambda event: type(event) is Prefill and (event.processed or 0) >= 64)

    receipt = talker.cancel()

    assert receipt.confirmed
    assert running(endpoint) == (0, 0)  # the receipt came after the engine's call had returned
    assert talker.ended() == Ended(Outcome.CANCELLED)
    reached = until_idle(endpoint)
    assert 64 <= reached["processed"] < reached["total"]
    assert reached["pieces"] == 0
    assert talker.stream.reply.text == ""


def test_decoding(talkers: Callable[[], Talker], endpoint: Endpoint) -> None:
    """The engine stops in the middle of the answer, and what had come is kept."""
    talker = talkers().ask(f"Count. {words(5)}")
    talker.until(is_token)

    receipt = talker.cancel()

    assert receipt.confirmed
    assert running(endpoint) == (0, 0)
    assert talker.ended() == Ended(Outcome.CANCELLED)
    reached = until_idle(endpoint)
    assert 0 < reached["pieces"] < 2990
    heard = "".join(event.text for event in talker.seen.events if isinstance(event, TextDelta))
    assert talker.stream.reply.text == heard != ""


def test_a_task_that_waits_for_a_whole_answer(endpoint: Endpoint) -> None:
    """Cancelling a task that waits for a whole answer stops the engine too."""

    async def main() -> None:
        messages = [{"role": "user", "content": "Count."}]
        ask = AsyncClient("embedded:").chat(MODEL, messages, format=ENDLESS, options={"num_predict": 3000})
        answer = asyncio.ensure_future(ask)
        while (await asyncio.to_thread(models_loaded, endpoint)).get(MODEL, {}).get("running") != 1:
            pass
        answer.cancel()
        await asyncio.wait({answer})
        assert answer.cancelled()

    asyncio.run(main())
    assert until_idle(endpoint)["pieces"] < 2990


EXITS = {
    "sync": """
        stream = tailrace.Client("embedded:").chat(MODEL, M, stream=True)
        next(stream)
        tell()
    """,
    "sync, exit code": """
        for chunk in tailrace.Client("embedded:").chat(MODEL, M, stream=True):
            tell()
            sys.exit(3)
    """,
    "async": """
        import asyncio
        async def main():
            async for chunk in await tailrace.AsyncClient("embedded:").chat(MODEL, M, stream=True):
                tell()
                break
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("name", EXITS)
def test_p13_exit_in_mid_stream(home: Path, tmp_path: Path, name: str) -> None:
    """A program may end in the middle of an answer of the embedded engine: without a word, and the engine with it."""
    start = f"""
        import sys, tailrace
        from tailrace.backends.embedded import supervisor
        MODEL, M = {MODEL!r}, [{{"role": "user", "content": "Tell a very long story."}}]
        def tell():
            print(supervisor.shared().endpoint().pid, flush=True)
    """
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(start) + textwrap.dedent(EXITS[name]))
    command = [sys.executable, "-W", "error", str(script)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.stderr, ended.returncode) == ("", 3 if "exit code" in name else 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)
