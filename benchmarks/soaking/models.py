"""The fake models, each a process that dies now and then and comes back on its port; what they said they did."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import defaultdict

from benchmarks.common import ROOT, environment
from benchmarks.soaking.judging import Attempt

__all__ = ["Model", "Models"]

_WIRES = (("ollama", "m"), ("ollama", "m"), ("openai", "o"))  # two that have the same model, and another
_DOWN = (0.5, 3.0)  # seconds
_UP = (15.0, 40.0)
_NOTICE = 10.0  # seconds in which a model has to notice that nobody wants its answer


class Model:
    """One of them.

    Args:
        wire: what it speaks.
        name: of its model.
        attempts: of all models, by question.
    """

    def __init__(self, wire: str, name: str, attempts: dict[str, list[Attempt]]) -> None:
        self.wire = wire
        self.name = name
        self.port = 0
        self._attempts = attempts
        self._open: dict[str, list[Attempt]] = defaultdict(list)

    @property
    def upstream(self) -> str:
        """Its address, as the gateway is told it."""
        return f"http://127.0.0.1:{self.port}" if self.wire == "ollama" else f"openai:http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Starts it, on the port that it had."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.soaking.model", self.wire, self.name, str(self.port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
        )
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fake {self.wire} does not start")
        self.port = json.loads(line)["port"]
        self._hearing = asyncio.create_task(self._hear(self._process.stdout))

    async def _hear(self, told: asyncio.StreamReader) -> None:
        while line := await told.readline():
            said = json.loads(line)
            name = said["name"]
            if "ended" not in said:
                attempt = Attempt()
                self._attempts[name].append(attempt)
                self._open[name].append(attempt)
            elif self._open[name]:
                attempt = self._open[name].pop(0)
                attempt.ended, attempt.completed, attempt.left = said["ended"], said["completed"], said["left"]
            if not self._open[name]:
                del self._open[name]

    async def end(self, *, kill: bool) -> None:
        """Ends it: kills it, or has it close its connections."""
        assert self._process.stdin is not None
        if kill:
            self._process.kill()
        else:
            self._process.stdin.close()
        await self._process.wait()
        await self._hearing  # all that it said
        for attempts in self._open.values():
            for attempt in attempts:
                attempt.killed = True
        self._open.clear()


class Models:
    """All of them, and when one was down."""

    def __init__(self) -> None:
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        self.all = [Model(wire, name, self.attempts) for wire, name in _WIRES]
        self.restarts = 0
        self._downs: list[list[float]] = []  # from when to when

    async def start(self) -> None:
        """Starts them all."""
        for model in self.all:
            await model.start()

    async def end(self) -> None:
        """Ends them all."""
        for model in self.all:
            await model.end(kill=False)

    async def disturb(self, chance: random.Random) -> None:
        """Ends one after the other, in the midst of what they say, and starts it again; for ever."""
        while True:
            await asyncio.sleep(chance.uniform(*_UP))
            model = chance.choice(self.all)
            down = [time.monotonic(), float("inf")]
            self._downs.append(down)
            await model.end(kill=chance.random() < 0.7)
            await asyncio.sleep(chance.uniform(*_DOWN))
            await model.start()
            down[1] = time.monotonic()
            self.restarts += 1

    async def over(self, name: str) -> list[Attempt]:
        """Waits until no model works for a question any more, or ought not to; returns what they did about it."""
        until = time.monotonic() + _NOTICE
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            if all(attempt.ended or attempt.killed for attempt in self.attempts.get(name, ())):
                break
        return self.attempts.pop(name, [])

    def disturbed(self, since: float) -> bool:
        """Tells whether one was down at any moment since then."""
        return any(until >= since for _, until in self._downs)
