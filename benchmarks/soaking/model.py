"""A fake model server in a process of its own, which does as each question's plan says and tells what it did.

    python -m benchmarks.soaking.model ollama|openai NAME PORT

It may be killed at any moment. A line of JSON says that it listens, and two what became of each question.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks.soaking.plans import Plan, plan_of
from tailrace.testing import FakeOllama, FakeOpenAI, FakeServer, Record, Step, say

_KEPT = 100  # records
_LIMIT = 600.0  # seconds that an answer may take


def main() -> None:
    """Serve until the standard input ends."""
    wire, name, port = sys.argv[1:]
    with (
        FakeOllama(models=[name], port=int(port))
        if wire == "ollama"
        else FakeOpenAI(models=[name], port=int(port)) as server
    ):
        server.respond(_Answers(server).answer)
        _tell(port=server.port)
        sys.stdin.read()


def _tell(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


class _Answers:
    """Answers, and tells how each went."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._followed: set[asyncio.Task[None]] = set()

    def answer(self, record: Record) -> Iterable[Step]:
        del self._server.requests[:-_KEPT]  # it runs for long
        plan = plan_of(record.json)
        if plan is None:
            return [say("ok")]
        task = asyncio.get_running_loop().create_task(self._follow(record, plan))
        self._followed.add(task)
        task.add_done_callback(self._followed.discard)
        return plan.steps()

    async def _follow(self, record: Record, plan: Plan) -> None:
        _tell(name=plan.name)
        await record.await_until_ended(_LIMIT)
        _tell(name=plan.name, ended=record.ended, completed=record.completed, left=record.left_how)


if __name__ == "__main__":
    main()
