"""Visits: what clients of all kinds do with the gateway, each once, from its coming to its going."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks.soaking.asking import Answer, BrokenError, ask, call, request
from benchmarks.soaking.hearing import Hearing
from benchmarks.soaking.plans import Plan

__all__ = ["MANNERS", "PROTOCOLS", "Protocol", "Seen", "visit"]

SOON = 60.0  # seconds in which every run has to end
_SILENT = 5.0  # seconds for which a reader takes nothing, after the end
_LINGER = 2.0  # seconds, for those readers of /chat/stream who come back
MANNERS = {"read": 35, "leave": 20, "resume": 20, "cancel": 15, "slow": 8, "never": 2}
"""What a reader does, and how often: it reads to the end, leaves, comes back where it was, stops the answer, reads
slowly, or takes nothing at all."""


class Protocol(msgspec.Struct, frozen=True):
    """A way to ask, and to hear the answer.

    Attributes:
        weight: how often it is chosen.
        wire: what is heard, see `Hearing`.
        body: the request's body for a plan and a model.
        path: where it is sent.
        events: where the run's events are read, if that is another request; `{}` is the run's path.
        resumes: where they are read on; empty: not at all.
        lingers: True if a run goes on for a while when its reader has left.
    """

    weight: int
    wire: str
    body: Callable[[Plan, str], Any]
    path: str
    events: str = ""
    resumes: str = ""
    lingers: bool = False


def _message(plan: Plan, model: str) -> Any:
    return {"message": plan.question, "model": model}


def _lingering(plan: Plan, model: str) -> Any:
    return {"message": plan.question, "model": model, "linger": _LINGER}


def _chat(stream: bool) -> Callable[[Plan, str], Any]:
    def body(plan: Plan, model: str) -> Any:
        return {"model": model, "stream": stream, "messages": [{"role": "user", "content": plan.question}]}

    return body


def _ui(plan: Plan, model: str) -> Any:
    parts = [{"type": "text", "text": plan.question}]
    return {"id": plan.name, "model": model, "messages": [{"id": "1", "role": "user", "parts": parts}]}


def _turn(plan: Plan, model: str) -> Any:
    return {"content": plan.question, "model": model}


_HTML, _PLAIN = "{}/events?render=html", "{}/events?wire=plain"
PROTOCOLS = {
    "chat": Protocol(14, "plain", _message, "/chat/stream"),
    "chat, lingering": Protocol(8, "plain", _lingering, "/chat/stream", "", _PLAIN, lingers=True),
    "runs": Protocol(16, "runs", _message, "/runs", "{}/events", "{}/events", lingers=True),
    "runs as HTML": Protocol(10, "html", _message, "/runs", _HTML, _HTML, lingers=True),
    "a turn": Protocol(14, "html", _turn, "/turns", _HTML, _HTML, lingers=True),
    "/api/chat": Protocol(12, "ollama", _chat(True), "/api/chat"),
    "/api/chat, whole": Protocol(4, "ollama", _chat(False), "/api/chat"),
    "/v1/chat": Protocol(12, "openai", _chat(True), "/v1/chat/completions"),
    "/v1/chat, whole": Protocol(4, "openai", _chat(False), "/v1/chat/completions"),
    "/ai/chat": Protocol(10, "ai", _ui, "/ai/chat", "", "/ai/chat/{}/stream", lingers=True),
}


@dataclass
class Seen:
    """What a visit saw.

    Attributes:
        status: of the request that asked; 0 if there was none.
        run: the run as JSON, after its end; None if nobody knows of one.
        hearing: what was told.
        told: True if the answer was read to the end of its response.
        left: True if the client left while there was more to come.
        away: seconds for which the run had no reader, the longest time of several.
        stopped: True if it asked for a stop.
        message: the answer as the conversation keeps it.
        odd: what was wrong with what it saw.
    """

    plan: Plan
    protocol: str
    manner: str
    hearing: Hearing
    status: int = 0
    run: Any = None
    told: bool = False
    left: bool = False
    away: float = 0.0
    stopped: bool = False
    message: Any = None
    odd: list[str] = field(default_factory=list)


async def visit(port: int, plan: Plan, protocol: str, manner: str, model: str, chance: random.Random) -> Seen:
    """Asks a question in one way, and does with the answer what the manner says."""
    seen = Seen(plan, protocol, manner, Hearing(PROTOCOLS[protocol].wire))
    await _Visit(port, seen, PROTOCOLS[protocol], model, chance).go()
    return seen


class _Visit:
    def __init__(self, port: int, seen: Seen, protocol: Protocol, model: str, chance: random.Random) -> None:
        self._port = port
        self._seen = seen
        self._protocol = protocol
        self._model = model
        self._chance = chance
        self._patience = chance.randint(0, max(1, seen.plan.words))  # words after which it has had enough
        self._run = ""  # its path
        self._gone = 0.0  # when it went
        self._end: asyncio.Task[None] | None = None  # somebody who waits for its end
        self._conversation = ""

    async def go(self) -> None:
        """From the asking to the end of the run."""
        if self._protocol.path == "/turns":
            _, made = await call(self._port, "POST", "/conversations", {"title": self._seen.plan.name})
            self._conversation = f"/conversations/{made['id']}"
        try:
            await self._ask()
        except BrokenError as error:
            self._seen.odd.append(f"broken: {error}")
        if self._end is not None:
            await self._end
        if self._conversation:
            await self._see_conversation()

    async def _ask(self) -> None:
        body = self._protocol.body(self._seen.plan, self._model)
        path = self._conversation + self._protocol.path
        narrow = self._seen.manner in {"slow", "never"}
        asked = request("POST", path, body, Connection="close")
        self._gone = time.monotonic()  # its run may begin at any moment now
        async with await ask(self._port, asked, narrow=narrow and not self._protocol.events) as answer:
            if self._leaves_before_head(answer):
                return
            await answer.head()
            self._begun(answer)
            if answer.status >= 400:
                await answer.body()
            elif not self._protocol.events:
                await self._listen(answer)
            else:
                await answer.body()
        if self._run and self._protocol.events and answer.status < 400:
            events = request("GET", self._protocol.events.format(self._run), Connection="close")
            async with await ask(self._port, events, narrow=narrow) as answer:
                await answer.head()
                self._back()
                await self._listen(answer)

    def _back(self) -> None:
        self._seen.away = max(self._seen.away, time.monotonic() - self._gone)

    def _leaves_before_head(self, answer: Answer) -> bool:
        """Some leave before anything has come; who came by a wire that cannot be found again is lost sight of."""
        leaves = self._seen.manner == "leave" and self._patience == 0 and not self._protocol.events
        if leaves:
            self._seen.left = True
            answer.leave(self._chance.choice(("fin", "rst")))
        return leaves

    def _begun(self, answer: Answer) -> None:
        self._seen.status = answer.status
        if id := answer.headers.get("x-run-id"):
            self._run = f"/runs/{id}"
        elif (where := answer.headers.get("location", "")).startswith("/runs/"):
            self._run = where
        if self._run:
            self._end = asyncio.create_task(self._wait_for_end())

    # -- listening -----------------------------------------------------------------------------------------------

    async def _listen(self, answer: Answer) -> None:
        """Reads an answer in the visit's manner."""
        manner = self._seen.manner
        if "json" in answer.headers.get("content-type", "") and "ndjson" not in answer.headers["content-type"]:
            self._whole(json.loads(await answer.body()))
        elif manner == "leave":
            await self._read(answer, self._patience)
            self._leave(answer)
        elif manner == "resume" and self._protocol.resumes:
            await self._come_and_go(answer)
        elif manner == "cancel":
            await self._read(answer, self._patience)
            await self._stop()
            await self._read(answer)
        elif manner == "never":
            assert self._end is not None
            await self._end
            await asyncio.sleep(_SILENT)
            self._leave(answer)
        else:
            await self._read(answer)

    async def _read(self, answer: Answer, enough: int | None = None) -> None:
        """Reads until there are enough words, or to the end."""
        hearing = self._seen.hearing
        while enough is None or len(hearing.words) < enough:
            if self._seen.manner == "slow":
                await asyncio.sleep(self._chance.uniform(0.0, 0.2))
            data = b"" if answer.status == 204 else await answer.more()
            if not data:
                self._seen.told = True
                return
            hearing.feed(data)

    def _leave(self, answer: Answer) -> None:
        self._seen.left = self._seen.left or not self._seen.told
        answer.leave(self._chance.choice(("fin", "fin", "rst")))

    async def _come_and_go(self, answer: Answer) -> None:
        """Leaves a few times, and comes back with the id of the last event; at last it reads to the end."""
        seen, hearing = self._seen, self._seen.hearing
        for enough in sorted(
            self._chance.randint(0, max(1, seen.plan.words)) for _ in range(self._chance.randint(1, 3))
        ):
            await self._read(answer, enough)
            if seen.told:
                return
            answer.leave(self._chance.choice(("fin", "rst")))
            self._gone = time.monotonic()
            await asyncio.sleep(self._chance.uniform(0.0, 0.5))
            hearing.connect(anew=hearing.wire == "ai")
            again = await ask(self._port, self._coming_back())
            try:
                answer = await again.head()
                self._back()
                if hearing.wire == "ai" and answer.status == 204:  # it had been sent all of it before it left
                    seen.left = True
                    again.leave()
                    return
                if answer.status not in {200, 204}:
                    seen.odd.append(f"status {answer.status} to who came back: {await answer.body()!r}")
                    return
            except BaseException:
                again.leave()
                raise
        async with answer:
            await self._read(answer)

    def _coming_back(self) -> bytes:
        where = self._seen.plan.name if self._protocol.wire == "ai" else self._run
        last = self._seen.hearing.last
        cursor = {"Last_Event_ID": last} if last else {}
        return request("GET", self._protocol.resumes.format(where), Connection="close", **cursor)

    async def _stop(self) -> None:
        self._seen.stopped = True
        if self._protocol.wire == "ai" and self._chance.random() < 0.5:
            status, said = await call(self._port, "POST", f"/ai/chat/{self._seen.plan.name}/stop")
        else:
            status, said = await call(self._port, "DELETE", self._run)
        if status != 200:
            self._seen.odd.append(f"status {status} to a stop: {said}")

    def _whole(self, said: Any) -> None:
        """Takes an answer that came in one piece."""
        if self._protocol.wire == "openai":
            self._seen.hearing.choice(said, "message")
        else:
            self._seen.hearing.line(said)
        self._seen.told = True

    # -- what became of it ---------------------------------------------------------------------------------------

    async def _wait_for_end(self) -> None:
        """Waits until the run has ended, without being its reader."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + SOON, 0.1
        while True:
            status, run = await call(self._port, "GET", self._run)
            if status != 200:
                return self._seen.odd.append(f"status {status} to who asked for the run")
            self._seen.run = run
            if run["state"] == "ended":
                return None
            if loop.time() > until:
                return self._seen.odd.append(f"the run has not ended after {SOON:g} s")
            await asyncio.sleep(pause)
            pause = min(1.0, 1.5 * pause)

    async def _see_conversation(self) -> None:
        """Looks at what the conversation keeps of the answer; most are deleted then."""
        status, kept = await call(self._port, "GET", self._conversation)
        if status != 200:
            return self._seen.odd.append(f"status {status} to who asked for the conversation")
        self._seen.message = next((each for each in kept["messages"] if each["role"] == "assistant"), None)
        if self._chance.random() < 0.9:
            status, _ = await call(self._port, "DELETE", self._conversation)
            if status != 204:
                self._seen.odd.append(f"status {status} to who deleted the conversation")
        return None
