"""What a server tells of those who use it (X4): nothing of what they say, and nothing they could write themselves."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.knocking import knock
from tests.web.process import PATIENCE, Running, running
from tests.web.reader import Reader

from tailrace.gateway.settings import Settings
from tailrace.testing import FakeOllama, cut, done, error, hold, raw, rst, say, status, think, tool_call

PROMPT, ANSWER, KEY, NAME = "canary-prompt-71", "canary-answer-72", "canary-key-000073", "canary-name-74"
CANARIES = [PROMPT, ANSWER, KEY, NAME]
SECRET = "canary-password-75"
FORGED = "tailrace: 1999-01-01 all is well"

# A bug of ours, wherever there may be one: what it raises holds what was said.
BUG = """
import sys
from tailrace.render.html import HtmlStream
def html(self, text):
    try:
        raise ExceptionGroup("several of " + text, [ValueError(text)])
    except ExceptionGroup as error:
        raise RuntimeError("no HTML of " + text) from error
HtmlStream.feed = html
from tailrace.cli import main
main()
"""


@contextmanager
def serving(behind: FakeOllama, folder: Path, *before: str) -> Iterator[Running]:
    """The gateway with a key, in front of a model server whose address has a password in it."""

    def command(port: int) -> list[str]:
        upstream = behind.url.replace("http://", f"http://user:{SECRET}@")
        options = ["--port", str(port), "--upstream", upstream, "--data", str(folder), "--api-key", f"alice:{KEY}"]
        return [sys.executable, *(before or ("-m", "tailrace")), "serve", *options, "--admin", "alice", "--drain", "0"]

    with running(command, {"TAILRACE_HOME": str(folder)}) as one:
        yield one


def call(url: str, method: str, path: str, body: Any = None, *, key: str = KEY) -> bytes:
    lines = f"Connection: close\r\nAuthorization: Bearer {key}\r\n"
    with Reader(url, path, body, method=method, headers=lines) as reader:
        return reader.body()


def provoke(url: str, behind: FakeOllama) -> None:
    """Has everything go wrong that can, with what was said in it."""
    asked = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
    scripts = [
        [think(ANSWER), say(ANSWER), tool_call("f", {"x": ANSWER}), done()],
        [status(500, {"error": f"{ANSWER} broke"})],
        [status(404, {"error": f"model '{ANSWER}' not found"})],
        [say(ANSWER), error(f"{ANSWER} broke")],
        [say(ANSWER), cut()],
        [say(ANSWER), rst()],
        [raw(f"{ANSWER} is no JSON\n".encode())],
    ]
    for script in scripts:
        for path in ("/runs", "/chat/stream", "/api/chat", "/v1/chat/completions"):
            behind.script(*script, path="/api/chat")
            call(url, "POST", path, {**asked, "stream": True})
    wrong: list[Any] = [
        f'{{"message": "{PROMPT}'.encode(),
        f'{{"{PROMPT}": [{PROMPT}]}}'.encode(),
        {"messages": PROMPT, "model": NAME},
        {"messages": [{"role": PROMPT}], "model": {NAME: NAME}},
        {"model": NAME, "message": PROMPT},
        PROMPT,
    ]
    for body in wrong:
        for path in ("/runs", "/api/chat", "/v1/chat/completions", "/ai/chat", "/conversations", "/render"):
            call(url, "POST", path, body)
    for path in (f"/runs/{NAME}", f"/{NAME}", f"/c/{NAME}", f"/v1/models/{NAME}", f"/conversations?q={PROMPT}"):
        call(url, "GET", path)
        call(url, "GET", path, key=f"wrong-{PROMPT}")


def test_x4_nothing_of_what_is_said(tmp_path: Path) -> None:
    """Prompts, answers, keys, names and passwords are in none of its output, and in none of its figures."""
    with FakeOllama(models=["m"]) as behind, serving(behind, tmp_path) as server:
        provoke(server.url, behind)
        made = json.loads(call(server.url, "POST", "/conversations", {"title": PROMPT}))
        behind.script(say(ANSWER), hold(), path="/api/chat")
        call(server.url, "POST", f"/conversations/{made['id']}/turns", {"content": PROMPT, "model": "m"})
        told = (
            call(server.url, "GET", "/metrics") + call(server.url, "GET", "/queue") + call(server.url, "GET", "/models")
        )
        server.process.send_signal(signal.SIGTERM)  # in the middle of an answer
        server.process.wait(PATIENCE)

        assert [word for word in [*CANARIES, SECRET] if word in server.output or word.encode() in told] == []
        assert behind.wait_for_request(29, path="/api/chat").header("authorization")  # where the password went


@pytest.mark.parametrize("headers", ["", "X-Request-Id: {}\r\n"])
def test_x4_a_bug_tells_no_more_than_where_it_is(headers: str, tmp_path: Path) -> None:
    """The traceback of a bug is in the output, for who is to mend it; the message that it came with is not."""
    with FakeOllama(models=["m"]) as behind, serving(behind, tmp_path, "-c", BUG) as server:
        lines = f"Connection: close\r\nAuthorization: Bearer {KEY}\r\n{headers.format(NAME)}"
        with Reader(server.url, "/render", {"texts": [PROMPT]}, headers=lines) as reader:
            assert (reader.status, PROMPT.encode() in reader.body()) == (500, False)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)

        assert "in html" in server.output
        assert "RuntimeError" in server.output
        assert "ValueError" in server.output
        assert [word for word in CANARIES if word in server.output] == []


@pytest.mark.parametrize("end", ["%0a", "%0d%0a", "%0d", "%c2%85", "%e2%80%a8"])
def test_x4_no_line_of_the_log_can_be_forged(end: str, tmp_path: Path) -> None:
    """What comes in paths, names and headers begins no line of its own in the output."""
    with FakeOllama(models=["m"]) as behind, serving(behind, tmp_path) as server:
        words = FORGED.replace(" ", "%20")
        for path in (f"/runs/x{end}{words}", f"/x{end}{words}", f"/runs?state={end}{words}", f"/static/x{end}{words}"):
            knock(server.url, f"GET {path} HTTP/1.1", ["Host: localhost", f"Authorization: Bearer {KEY}"])
        for line in (f"X-Priority: a\n{FORGED}", f"Idempotency-Key: \r{FORGED}", f"Last-Event-ID: \r\n{FORGED}"):
            knock(server.url, "GET /runs HTTP/1.1", ["Host: localhost", f"Authorization: Bearer {KEY}", line])
        call(server.url, "POST", "/runs", {"model": f"m\r\n{FORGED}\n", "message": "hi"})
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)

        assert not any(line.startswith(FORGED) for line in server.output.splitlines())


async def test_x4_an_error_in_the_background(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor does one that nobody waited for show what it was given."""
    from tailrace.gateway.server.logging import Discreet, unheeded

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Discreet())
    logger = logging.getLogger("tailrace.gateway.server.logging")
    logger.addHandler(handler)
    logger.propagate = False
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(unheeded)
    seen = asyncio.Event()
    try:
        loop.call_soon(_fails, PROMPT)
        loop.call_soon(seen.set)
        await seen.wait()
    finally:
        loop.set_exception_handler(None)
        logger.removeHandler(handler)
        logger.propagate = True
    told = capsys.readouterr().err

    assert "in _fails" in told
    assert PROMPT not in told


def _fails(text: str) -> None:
    raise ValueError(text)


def test_x4_settings_show_no_key() -> None:
    """Settings that are printed, as a debugger or a bug report may, have the names of the keys only."""
    from tailrace.gateway.access.keys import Keys

    shown = repr(Settings(keys=Keys([f"alice:{KEY}"])))
    assert "alice" in shown
    assert KEY not in shown
