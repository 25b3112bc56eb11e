"""`tailrace doctor`: real processes before servers that are well, ill, hidden behind a proxy, or not there."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.driver import TIMEOUT, Command, Result

from tailrace.cli.checks import secrets
from tailrace.cli.checks.finding import Finding, bounded
from tailrace.cli.checks.stream import Arrivals, _read, judge, stream
from tailrace.errors import ResponseError
from tailrace.testing import (
    FakeModel,
    FakeOllama,
    FakeOpenAI,
    Silent,
    Step,
    chunk,
    closed_port,
    cut,
    delay,
    done,
    error,
    hold,
    html,
    say,
    stall,
    status,
)

TOKENS = 24
# The command, in a process that has no embedded engine, and that looks for Ollama where the test says. The engine's
# absence is what `import` itself would meet: a package that cannot be found. What may take seconds may take a minute.
WITHOUT_ENGINE = """
import os, sys
sys.modules["xllamacpp"] = None
if "DEFAULT_URL" in os.environ:
    from tailrace.backends import resolve
    resolve.DEFAULT_URL, resolve.PROBE = os.environ["DEFAULT_URL"], 60.0
from tailrace.cli import checks
checks._ANSWER = float(os.environ.get("ANSWER", 60))
checks._LOCAL = checks._FILES = 60
from tailrace.cli import main
main(["doctor", *sys.argv[1:]])
"""


def doctor(tailrace: Command, *arguments: str, env: Mapping[str, str] = {}) -> Result:
    """Run it in an environment without the engine, which would take a second to start."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ENGINE, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**tailrace.environment(), **env},
        timeout=TIMEOUT,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr.decode())


def report(result: Result) -> dict[str, dict[str, Any]]:
    """The findings of `--json`, by name."""
    assert result.err == ""
    return {finding["name"]: finding for finding in json.loads(result.out)["checks"]}


def looked(tailrace: Command, *arguments: str, env: Mapping[str, str] = {}) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code and the findings."""
    result = doctor(tailrace, "--json", *arguments, env=env)
    return result.code, report(result)


# -- Ollama, and the choice -------------------------------------------------------------------------------------------


def test_ollama_is_up(server: FakeOllama, tailrace: Command) -> None:
    """Version, address and models; it is chosen because the environment names it."""
    code, found = looked(tailrace)
    assert code == 0
    assert found["ollama"]["mark"] == found["upstream"]["mark"] == "ok"
    facts = found["ollama"]["facts"]
    assert (facts["url"], facts["version"], facts["answers"]) == (server.url, "0.31.1", True)
    assert [model["name"] for model in facts["models"]] == ["m:latest"]
    assert found["upstream"]["facts"] == {"kind": "ollama", "url": server.url, "by": "OLLAMA_HOST"}
    assert found["engine"]["facts"] == {"installed": False, "missing": ["xllamacpp"]}
    assert "pip install" in found["engine"]["do"]


def test_the_page_has_what_the_json_has(server: FakeOllama, tailrace: Command) -> None:
    """A line for each finding, in the same order, and a last one that sums up."""
    _, found = looked(tailrace)
    result = doctor(tailrace)
    assert (result.code, result.err) == (0, "")
    lines = [line for line in result.out.decode().splitlines() if not line.lstrip().startswith("→")]
    assert len(lines) == len(found) + 1
    for line, finding in zip(lines, found.values(), strict=False):
        assert line.split()[0] == finding["mark"]
        if finding["name"] not in ("program", "disk"):  # free space changes between two runs
            assert line.endswith(finding["seen"])
    assert "tailrace chat" in lines[-1]


@pytest.mark.parametrize("by", ["OLLAMA_HOST", "TAILRACE_UPSTREAM"])
def test_ollama_is_down(tailrace: Command, by: str) -> None:
    """Where nothing answers, what to do, and exit code 1: nobody could answer a chat."""
    url = f"http://127.0.0.1:{closed_port()}"
    code, found = looked(tailrace, env={"OLLAMA_HOST": "", by: url})
    assert code == 1
    assert found["upstream"]["mark"] == "problem"
    assert found["upstream"]["facts"]["by"] == by
    assert url in found["ollama"]["seen"]
    assert "ollama serve" in found["ollama"]["do"]


def test_a_web_page_answers(server: FakeOllama, tailrace: Command) -> None:
    """The wrong port: a page, not a model server."""
    server.always(html("<html><title>Router</title></html>", code=200), path="/api/version")
    server.always(html(), path="/v1/models")
    code, found = looked(tailrace)
    assert code == 1
    assert "Router" in found["ollama"]["seen"]
    assert "11434" in found["ollama"]["do"]


def test_another_kind_of_server_answers(tailrace: Command) -> None:
    """An OpenAI-compatible server on the port: what to write instead."""
    with FakeOpenAI("vllm", models=["served"]) as other:
        code, found = looked(tailrace, env={"OLLAMA_HOST": other.url})
        assert code == 1
        assert f"openai:{other.url}/v1" in found["ollama"]["do"]
        code, found = looked(tailrace, env={"TAILRACE_UPSTREAM": f"openai:{other.url}/v1"})
    assert code == 0
    assert found["server"]["facts"]["models"] == [{"name": "served", "size": None, "chat": True}]
    assert found["upstream"]["facts"]["kind"] == "openai"


def test_an_openai_server_that_is_down(tailrace: Command) -> None:
    """The server that was named is the one that counts, whatever Ollama says."""
    code, found = looked(tailrace, env={"TAILRACE_UPSTREAM": f"openai:http://127.0.0.1:{closed_port()}/v1"})
    assert code == 1
    assert found["server"]["mark"] == "problem"
    assert found["ollama"]["mark"] == "ok"


def test_an_ollama_without_a_model_that_chats(tailrace: Command) -> None:
    """How to get one."""
    with FakeOllama(models=[FakeModel("embedder", capabilities=("embedding",))]) as other:
        code, found = looked(tailrace, env={"OLLAMA_HOST": other.url})
    assert code == 1
    assert "ollama pull" in found["ollama"]["do"]


def test_no_upstream_at_all(tailrace: Command) -> None:
    """What is named must have one of the forms."""
    code, found = looked(tailrace, env={"TAILRACE_UPSTREAM": "ftp://host"})
    assert code == 1
    assert found["upstream"]["facts"]["kind"] == "wrong"
    assert "TAILRACE_UPSTREAM" in found["upstream"]["seen"]


def test_nothing_is_named(server: FakeOllama, tailrace: Command) -> None:
    """Ollama is found if it answers; without it and without an engine there is nothing."""
    nothing = {"OLLAMA_HOST": ""}
    code, found = looked(tailrace, env={**nothing, "DEFAULT_URL": server.url})
    assert code == 0
    assert found["upstream"]["facts"] == {"kind": "ollama", "url": server.url, "by": "search"}
    code, found = looked(tailrace, env={**nothing, "DEFAULT_URL": f"http://127.0.0.1:{closed_port()}"})
    assert code == 1
    assert "tailrace[embedded]" in found["upstream"]["do"]
    assert found["ollama"]["mark"] == "note"


def test_what_of_the_environment_counts(server: FakeOllama, tailrace: Command) -> None:
    """The variables, and a proxy that would catch the upstream; never one before this machine."""
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
    _, found = looked(tailrace, env=proxies)
    assert found["environment"]["facts"]["variables"]["OLLAMA_HOST"] == server.url
    assert found["environment"]["facts"]["proxy"] is None
    _, found = looked(tailrace, env={**proxies, "OLLAMA_HOST": "http://ollama.invalid:80"})
    assert found["environment"]["facts"]["proxy"] == "http://127.0.0.1:9"
    assert "NO_PROXY=ollama.invalid" in found["environment"]["do"]


# -- the engine -------------------------------------------------------------------------------------------------------


def test_the_engine_starts(tailrace: Command) -> None:
    """Installed, of a version, and its process comes up and goes; the default model is fetched when it is needed."""
    pytest.importorskip("xllamacpp")
    tailrace.before = "from tailrace.cli import checks; checks._ENGINE = checks.engine._START = 60"
    result = tailrace("doctor", "--json", env={"TAILRACE_UPSTREAM": "embedded:"})
    found = report(result)
    assert result.code == 0
    assert found["engine"]["facts"]["starts"] is True
    assert found["model"]["mark"] == "note"
    assert "tailrace models get" in found["model"]["do"]


def test_the_engine_is_named_but_not_installed(tailrace: Command) -> None:
    """Then nothing can answer."""
    code, found = looked(tailrace, env={"TAILRACE_UPSTREAM": "embedded:", "TAILRACE_OFFLINE": "1"})
    assert code == 1
    assert found["upstream"]["mark"] == "problem"


@pytest.mark.parametrize(("size", "words"), [(1000, "damaged"), (98_362_432, "sha256")])
def test_a_damaged_default_model(tailrace: Command, size: int, words: str) -> None:
    """Too short is seen by its size; a wrong byte with --deep."""
    default = tailrace.home / "models" / "default" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    default.parent.mkdir(parents=True)
    with default.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size)
    _, found = looked(tailrace, "--deep")
    assert found["model"]["mark"] == "problem"
    assert found["model"]["facts"]["whole"] is False
    assert words in found["model"]["seen"]
    assert str(default) in found["model"]["do"]


def test_other_models_are_listed(tailrace: Command, tmp_path: Path) -> None:
    """Those that were added; one that is broken is told."""
    folder = tailrace.home / "models" / "added"
    folder.mkdir(parents=True)
    (folder / "mine@latest.gguf").write_bytes(b"GGUF" + bytes(70_000))
    (folder / "page@latest.gguf").write_text("<html>")
    _, found = looked(tailrace)
    assert [model["name"] for model in found["models"]["facts"]["models"]] == ["mine", "page"]
    assert found["models"]["mark"] == "note"
    assert "web page" in found["models"]["seen"]


def test_a_model_file_that_is_named(tailrace: Command, tmp_path: Path) -> None:
    """`embedded:FILE` stands on that file."""
    _, found = looked(tailrace, env={"TAILRACE_UPSTREAM": f"embedded:{tmp_path / 'none.gguf'}"})
    assert found["model"]["mark"] == found["upstream"]["mark"] == "problem"
    assert "none.gguf" in found["model"]["seen"]


# -- the stream -------------------------------------------------------------------------------------------------------


def answer(pace: float = 1.0, pause: float = 0.0) -> list[Step]:
    """An answer that says of itself how long it took to make: `pace` seconds a token."""

    def made(n: int) -> str:
        return f"2026-01-01T00:{int(n * pace) // 60:02d}:{n * pace % 60:09.6f}Z"

    steps = []
    for n in range(TOKENS):
        part = {"message": {"role": "assistant", "content": f"{n} "}, "created_at": made(n), "done": False}
        steps += [chunk(part), delay(pause)]
    return [*steps, done("stop", created_at=made(TOKENS))]


class Relay(socketserver.ThreadingTCPServer):
    """A proxy on the way to a server; `holds` it what it gets until the answer is whole?"""

    daemon_threads = True
    holds = False

    def __init__(self, port: int) -> None:
        self.target = port
        super().__init__(("127.0.0.1", 0), _Relayed)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Relayed(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        relay = self.server
        assert isinstance(relay, Relay)
        with socket.create_connection(("127.0.0.1", relay.target), TIMEOUT) as there:
            there.sendall(_whole(self.request))
            kept = b""
            for piece in _pieces(there):
                data = piece.replace(b"\r\n", b"\r\nVia: 1.1 relay\r\n", 1) if piece.startswith(b"HTTP/") else piece
                if relay.holds:
                    kept += data
                else:
                    self.request.sendall(data)
            self.request.sendall(kept)


def _whole(sock: socket.socket) -> bytes:
    """One message, to the end that its head tells."""
    return b"".join(_pieces(sock))


def _pieces(sock: socket.socket) -> Iterator[bytes]:
    seen = b""
    while data := sock.recv(65536):
        seen += data
        yield data
        head, found, body = seen.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head.lower())
        if found and (len(body) >= int(length[1]) if length else b"chunked" not in head or body.endswith(b"0\r\n\r\n")):
            return


@contextmanager
def relayed(server: FakeOllama, *, holds: bool) -> Iterator[Relay]:
    with Relay(server.port) as relay:
        relay.holds = holds
        thread = threading.Thread(target=relay.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield relay
        finally:
            relay.shutdown()
            thread.join()


def test_a_proxy_that_buffers(server: FakeOllama, tailrace: Command) -> None:
    """What the server made in 24 s came at once: the verdict, what to do, exit code 1, and the proxy's own mark."""
    server.script(*answer())
    with relayed(server, holds=True) as relay:
        code, found = looked(tailrace, "--url", relay.url)
    assert code == 1
    facts = found["stream"]["facts"]
    assert (facts["verdict"], facts["reason"], facts["server_seconds"]) == ("buffers", "together", 24.0)
    assert facts["headers"]["Via"] == "1.1 relay"
    assert facts["model"] == "m:latest"
    assert "proxy_buffering off" in found["stream"]["do"]


def test_a_proxy_that_does_not_buffer(server: FakeOllama, tailrace: Command) -> None:
    """The same proxy, passing on what it gets."""
    server.script(*answer(pace=0.005, pause=0.05))
    with relayed(server, holds=False) as relay:
        code, found = looked(tailrace, "--url", relay.url, "-m", "m")
    assert code == 0
    facts = found["stream"]["facts"]
    assert (facts["verdict"], facts["model"], facts["records"]) == ("streams", "m", TOKENS + 1)
    assert facts["arrivals"] > 1
    assert facts["first_byte"] < facts["last_byte"]


async def test_each_piece_is_an_arrival(server: FakeOllama) -> None:
    """The model says its next word only once the last one has arrived: as many arrivals as words, by the clock."""
    server.script(*[step for n in range(TOKENS) for step in (say(f"{n} "), hold())])
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        server.release()
        return now

    finding = await stream(server.url, "m", TIMEOUT, clock)
    assert finding.mark == "ok"
    assert finding.facts["arrivals"] >= TOKENS - 3  # the clock was looked at three times before the first
    assert finding.facts["verdict"] == "streams"


def test_an_openai_stream(tailrace: Command) -> None:
    """A URL that ends in /v1 is taken for what it is, with the prefix or without."""
    with FakeOpenAI("vllm", models=["served"]) as other:
        for url in (other.base_url, f"openai:{other.base_url}"):
            _, found = looked(tailrace, "--url", url)
            assert found["stream"]["facts"]["model"] == "served"
            assert found["stream"]["facts"]["records"] > 4
        _, found = looked(tailrace, "--url", other.url)
    assert f"openai:{other.url}/v1" in found["stream"]["do"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([say("so far"), error("out of memory")], "out of memory"),
        ([status(500, {"error": "no such luck"})], "no such luck"),
        ([html()], "web page"),
        ([say("a", "b"), cut()], "cut off"),
        ([stall()], "nothing came within"),
    ],
)
def test_no_stream_at_all(server: FakeOllama, tailrace: Command, script: list[Step], words: str) -> None:
    """What went wrong, in the server's words; exit code 1."""
    server.script(*script)
    code, found = looked(tailrace, "--url", server.url, "--timeout", "1" if script == [stall()] else "60")
    assert code == 1
    assert found["stream"]["mark"] == "problem"
    assert words in found["stream"]["seen"]


def test_no_server_and_no_url(tailrace: Command) -> None:
    """An address where nothing answers, and what is no address."""
    for url in (f"http://127.0.0.1:{closed_port()}", "ftp://host", "embedded:"):
        code, found = looked(tailrace, "--url", url)
        assert code == 1
        assert found["stream"]["mark"] == "problem"
        assert found["stream"]["do"] or "openai:" in found["stream"]["seen"]


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (Arrivals(0, 1, [1.0], records=2), ("unknown", "few")),
        (Arrivals(0, 1, [1.0, 2.0], records=20, whole=True), ("buffers", "whole")),
        (Arrivals(0, 2, [2.0], records=20, pace=2.0), ("buffers", "together")),
        (Arrivals(0, 2, [1.0, 2.0], records=64, pace=2.0), ("buffers", "bursts")),
        (Arrivals(0, 0, [n / 10 for n in range(20)], records=20, pace=2.0), ("streams", "apart")),
        (Arrivals(0, 0, [n / 10 for n in range(20)], records=20), ("streams", "apart")),
        (Arrivals(0, 9, [9 + n / 10 for n in range(20)], records=20, pace=2.0), ("streams", "apart")),
        (Arrivals(0, 2, [2.0, 2.01], records=20), ("buffers", "together")),
        (Arrivals(0, 0.01, [0.01, 0.02], records=20), ("unknown", "fast")),
        (Arrivals(0, 0.01, [0.01, 0.02], records=20, pace=0.01), ("unknown", "fast")),
    ],
)
def test_the_verdict(seen: Arrivals, verdict: tuple[str, str]) -> None:
    """What the moments mean."""
    assert judge(seen) == verdict


# -- bounds, secrets, languages, terminals ----------------------------------------------------------------------------


async def test_a_check_that_hangs_or_breaks_is_a_finding() -> None:
    """Its time is bounded, and its own failure is what it found."""

    async def hang() -> Finding:
        await asyncio.Event().wait()
        raise AssertionError

    async def fail() -> Finding:
        raise KeyError("no such thing")

    late = await bounded("x", hang(), 0.01)
    broken = await bounded("y", fail(), 1)
    assert late is not None
    assert broken is not None
    assert (late.mark, late.facts) == ("problem", {"error": "timeout"})
    assert (broken.mark, broken.facts) == ("problem", {"error": "KeyError: 'no such thing'"})


def test_a_server_that_never_answers(tailrace: Command) -> None:
    """The page comes all the same."""
    with Silent() as silent:
        code, found = looked(tailrace, env={"OLLAMA_HOST": silent.url, "ANSWER": "0.5"})
    assert code == 1
    assert found["ollama"]["facts"] == {"error": "timeout"}


def test_no_secret_is_shown(server: FakeOllama, tailrace: Command) -> None:
    """Neither keys nor passwords, wherever they stand, not even if the server says them."""
    secret = "canary-7Zq"
    names = ("TAILRACE_API_KEY", "OLLAMA_API_KEY", "OPENAI_API_KEY")
    keys = {name: f"{secret}-{name}" for name in names}
    urls = {name: f"http://user:{secret}-{name}@127.0.0.1:9" for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY")}
    upstream = f"http://user:{secret}-host@127.0.0.1:{server.port}?key={secret}-query"
    said = status(500, {"error": f"not with {secret}-TAILRACE_API_KEY, {secret}-host or dXNlcj"})
    server.always(said, path="/api/tags").always(said, path="/api/chat")
    runs: list[tuple[dict[str, str], list[str]]] = [
        ({"OLLAMA_HOST": upstream}, []),
        ({"TAILRACE_UPSTREAM": upstream}, ["--json"]),
        ({"TAILRACE_UPSTREAM": f"openai:{upstream}"}, ["--json"]),
    ]
    for env, form in runs:
        result = doctor(tailrace, "--url", upstream, "-m", "m", *form, env={**keys, **urls, **env})
        assert result.err == ""
        assert secret not in result.out.decode()
        assert "127.0.0.1:9" in result.out.decode()
    wrong = doctor(tailrace, env={**keys, "TAILRACE_UPSTREAM": f"ftp://me:{secret}/{secret}@host"})
    assert (wrong.code, secret in wrong.out.decode() + wrong.err) == (1, False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p@h:1/v1?k=v#f", "http://h:1/v1"),
        ("openai:https://token@h/v1", "openai:https://h/v1"),
        ("u:p/w@h:1", "h:1"),
        ("h:1", "h:1"),
        ("embedded:/a@b?.gguf", "embedded:/a@b?.gguf"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    """Credentials, query and fragment go."""
    assert secrets.redacted(url) == shown


def test_in_chinese(server: FakeOllama, tailrace: Command) -> None:
    """The page and the words of the JSON; names and facts stay as they are."""
    result = doctor(tailrace, "--lang", "zh")
    text = result.out.decode()
    assert text.startswith("正常  上游")
    assert "天空" in text.splitlines()[-1]
    _, found = looked(tailrace, env={"LC_ALL": "zh_CN.UTF-8"})
    assert found["language"]["facts"]["language"] == "zh"
    assert (found["ollama"]["name"], found["ollama"]["mark"]) == ("ollama", "ok")
    assert "模型" in found["ollama"]["seen"]


def test_a_locale_that_does_not_exist(tailrace: Command) -> None:
    """A remark, and what to set."""
    _, found = looked(tailrace, env={"LC_ALL": "xx_XX.nonsense"})
    assert found["language"]["mark"] == "note"
    assert "xx_XX.nonsense" in found["language"]["seen"]
    assert found["language"]["facts"]["locale_exists"] is False


def test_what_is_not_asked_for_is_not_done(server: FakeOllama, tailrace: Command) -> None:
    """Without --url no model is asked anything."""
    looked(tailrace)
    assert {record.path for record in server.requests} == {"/api/version", "/api/tags"}


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals of POSIX")
def test_on_a_terminal(tailrace: Command) -> None:
    """Colours, size, and the width that the terminal itself gives to a Chinese character."""
    tailrace.before = "from tailrace.cli.checks import terminal; terminal._REPLY = 60"
    with tailrace.on_terminal("doctor") as terminal:
        terminal.read_until(b"\x1b[6n")
        terminal.press(b"\x1b[1;3R")
        assert terminal.end() == 0
    text = terminal.seen.decode()
    assert "\x1b[32mok" in text
    assert "Chinese characters take 2 columns" in text
    assert "TERM=xterm" in text


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals of POSIX")
def test_on_a_terminal_that_does_not_tell(tailrace: Command) -> None:
    """Nobody answers where the cursor is; NO_COLOR is obeyed."""
    tailrace.env["NO_COLOR"] = "1"
    with tailrace.on_terminal("doctor") as terminal:
        assert terminal.end() == 0
    text = terminal.seen.decode()
    assert "\x1b[3" not in text
    assert "width of Chinese characters unknown" in text


@pytest.mark.parametrize(
    "data",
    [b'data: {"object":"error","message":"boom"}\n\n', b'error: {"message":"boom","code":500}\n', b'{"detail":"boom"}'],
)
def test_u34_errors_of_other_forms(data: bytes) -> None:
    """An error in the stream is one in whatever form a server says it."""
    with pytest.raises(ResponseError, match="boom"):
        _read(data, Arrivals(0))
