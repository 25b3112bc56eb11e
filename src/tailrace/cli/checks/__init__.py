"""Checks: what `tailrace doctor` looks at. Each is bounded in time, and its own failure is its finding.

::

    finding    the result of a check
    secrets    removes keys and passwords
    upstreams  the environment, Ollama, the OpenAI-compatible server, and which of them would be chosen
    engine     the embedded engine and its models
    stream     whether proxies on the way to a server buffer a stream
    terminal   the terminal and the language
    program    Python, packages, disk
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tailrace.cli.checks import engine, program, secrets, stream, terminal, upstreams
from tailrace.cli.checks.finding import Finding, Report, bounded
from tailrace.i18n import say

__all__ = ["Finding", "Report", "examine"]

T = TypeVar("T")

_ANSWER = 5.0  # seconds a server has to answer
_ENGINE = 20.0  # seconds the engine has to start, and to end again
_FILES = 10.0  # seconds to look at files
_HASH = 60.0  # seconds to read a model file through
_LOCAL = 5.0  # seconds for what needs neither server nor large file


def examine(url: str | None = None, *, model: str | None = None, deep: bool = False, timeout: float = 30.0) -> Report:
    """Looks at everything; takes seconds at most, whatever is broken.

    Args:
        url: also measure whether a stream from there arrives as it is made.
        model: the model that this stream is asked of.
        deep: read the default model's file through.
        timeout: seconds for that stream.
    """
    report = _run(_examine(url, model, deep, timeout))
    return secrets.scrubbed(report, secrets.known(url))


async def _examine(url: str | None, model: str | None, deep: bool, timeout: float) -> Report:
    choice = upstreams.choose()
    # First and alone, as a client would ask: whether it answers in time decides which upstream is chosen.
    ollama = asyncio.create_task(bounded("ollama", upstreams.ollama(choice), _ANSWER))
    await asyncio.wait({ollama}, timeout=upstreams.PROBE)
    checks = [
        bounded("server", upstreams.server(choice), _ANSWER),
        bounded("engine", engine.engine(), _ENGINE),
        bounded("model", engine.model(choice.file, deep=deep), _HASH if deep else _FILES),
        bounded("models", engine.others(), _FILES),
        bounded("terminal", terminal.terminal(), _LOCAL),
        bounded("language", terminal.language(), _LOCAL),
        bounded("program", program.program(), _LOCAL),
        bounded("disk", program.disk(), _LOCAL),
        bounded("environment", upstreams.environment(choice), _LOCAL),
    ]
    findings = [one for one in (await ollama, *await asyncio.gather(*checks)) if one is not None]
    by_name = {finding.name: finding for finding in findings}
    verdict = upstreams.verdict(choice, by_name)
    findings.insert(0, verdict)
    can_run = verdict.mark != "problem"
    if url is not None:  # by itself, so that nothing else takes the processor away while the clock runs
        late = say("doctor.stream_late", seconds=timeout)
        measured = await bounded("stream", stream.stream(url, model, timeout), timeout + _ANSWER, late=late)
        assert measured is not None
        findings.insert(1, measured)
        can_run = can_run and measured.mark != "problem"
    return Report(ok=can_run, checks=findings)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Runs to the end without waiting for threads, as `asyncio.run` would: one may look up a name for minutes."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        try:
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            if rest:
                loop.run_until_complete(asyncio.wait(rest))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
