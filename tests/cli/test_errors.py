"""Errors are a line and a hint, with an exit code; never a traceback, unless one is asked for."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.driver import TIMEOUT, Command
from tests.rawserver import CERTIFICATE, raw_server

from tailrace.testing import FakeOllama, Silent, closed_port, error, html, say, stall, status


def test_nothing_answers(tailrace: Command) -> None:
    """The address is named, and what to do."""
    port = closed_port()
    result = tailrace("chat", "hi", "-m", "m", "--upstream", f"http://127.0.0.1:{port}")
    assert (result.code, result.out) == (1, b"")
    assert len(result.err.splitlines()) == 2
    assert str(port) in result.err
    assert "ollama serve" in result.err


def test_no_tls_there(tailrace: Command) -> None:
    """https:// for a server of plain HTTP: the hint is not to start Ollama."""
    with raw_server(socket.AF_INET, "127.0.0.1", b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        result = tailrace("chat", "hi", "-m", "m", "--upstream", f"https://127.0.0.1:{port}")
    first, second = result.err.splitlines()
    assert (result.code, result.out) == (1, b"")
    assert first.startswith(f"tailrace: TLS with https://127.0.0.1:{port} failed: ")
    assert "check http:// against https://" in second


def test_a_certificate_that_nobody_trusts(tailrace: Command) -> None:
    """What is wrong with it, in a line; the environment can name it."""
    line = b'{"message":{"content":"Hello"},"done":true}\n'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(line), line)
    for trusted in ("", str(CERTIFICATE)):
        with raw_server(socket.AF_INET, "127.0.0.1", answer, tls=True) as port:
            url = f"https://localhost:{port}"
            result = tailrace("chat", "hi", "-m", "m", "--upstream", url, env={"SSL_CERT_FILE": trusted})
        if trusted:
            assert (result.code, result.out, result.err) == (0, b"Hello", "")
        else:
            assert result.code == 1
            assert "self-signed certificate" in result.err.splitlines()[0]
            assert "SSL_CERT_FILE" in result.err.splitlines()[1]


def test_a_web_page_answers(server: FakeOllama, tailrace: Command) -> None:
    """The wrong port: a page, not a model server."""
    server.always(html("<html><body>Router</body></html>", code=200), path="/api/tags")
    result = tailrace("chat", "hi")
    assert (result.code, result.out) == (1, b"")
    assert len(result.err.splitlines()) == 2
    assert "11434" in result.err


def test_what_the_server_says_cannot_command_the_terminal(server: FakeOllama, tailrace: Command) -> None:
    """An error's text stays on its line, without control characters."""
    server.script(status(500, {"error": "bad\n\x1b[31mthings"}))
    with tailrace.on_terminal("chat", "-m", "m", "hi") as terminal:
        assert terminal.end() == 1
    assert b"\x1b[31m" not in terminal.seen
    assert b"bad \\u001b[31mthings (HTTP 500)" in terminal.seen


def test_an_error_in_mid_stream(server: FakeOllama, tailrace: Command) -> None:
    """The server's own words, and the text that came before."""
    server.script(say("so far"), error("out of memory"))
    result = tailrace("chat", "hi")
    assert (result.code, result.out) == (1, b"so far")
    assert "(failed): out of memory" in result.err


def test_time_is_up(server: FakeOllama, tailrace: Command) -> None:
    """--timeout bounds the silence; the hint is the command line's own."""
    server.script(stall())
    result = tailrace("chat", "-m", "m", "--timeout", "0.2", "hi")
    assert result.code == 1
    assert "--timeout" in result.err


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--option", "top_k=many"], "top_k takes a whole number, not 'many'", 1),
        (["--option", "temperature=warm"], "temperature takes a number, not 'warm'", 1),
        (["--option", "temperature=nan"], "temperature takes a number, not 'nan'", 1),
        (["--option", "use_mmap=perhaps"], "use_mmap takes true or false, not 'perhaps'", 1),
        (["--option", "stop=[1]"], "stop takes a text or a JSON list of texts", 1),
        (["--option", "temprature=1"], "did you mean temperature?", 1),
        (["--option", "temperature"], "'temperature' is not NAME=VALUE", 1),
        (["--format", "missing.json"], "cannot read missing.json", 2),
        (["--format", "{broken"], "is not a JSON object", 2),
        (["--think=maybe"], "'maybe' is not one of true, false", 2),
        (["--timeout", "soon"], "'soon' is not a number", 2),
        (["--optoin", "x"], "no such option: --optoin", 2),
    ],
)
def test_wrong_usage(tailrace: Command, server: FakeOllama, arguments: list[str], words: str, code: int) -> None:
    """What is wrong, in one line, and where to read more; nobody is asked anything. A model option that is none is the
    model's business, exit code 1; the command's own are wrong usage, exit code 2."""
    result = tailrace("chat", "hi", *arguments)
    assert (result.code, result.out, server.requests) == (code, b"", [])
    assert words in result.err.splitlines()[0]
    assert len(result.err.splitlines()) == 2


def test_a_format_file_that_is_no_schema(tailrace: Command, tmp_path: Path) -> None:
    """A list is no schema, and neither is a folder."""
    (tmp_path / "list.json").write_text("[]")
    for path in (tmp_path / "list.json", tmp_path):
        result = tailrace("chat", "hi", "--format", str(path))
        assert result.code == 2
        assert str(path) in result.err


def test_input_that_is_not_text(tailrace: Command) -> None:
    """The byte and its place, rather than a decoder's traceback; in an argument as well."""
    result = tailrace("chat", "hi", stdin=b"ab\xff")
    assert (result.code, result.out) == (1, b"")
    assert result.err == "tailrace: standard input is not UTF-8 text (byte 0xff at offset 2)\n"
    result = tailrace("chat", b"\xff\xfe")
    assert (result.code, result.err) == (1, "tailrace: the prompt is not UTF-8 text\n")


def test_no_prompt(tailrace: Command) -> None:
    """On a terminal and off it, the way to give one."""
    result = tailrace("chat")
    assert (result.code, result.out) == (2, b"")
    assert "tailrace chat" in result.err
    with tailrace.on_terminal("generate") as terminal:
        assert terminal.end() == 2
    assert b"tailrace generate" in terminal.seen


def test_a_wrong_command(tailrace: Command) -> None:
    """The name is repeated."""
    result = tailrace("chatt")
    assert (result.code, result.out) == (2, b"")
    assert "chatt" in result.err


def test_debug_shows_where(tailrace: Command) -> None:
    """The traceback, and the line all the same."""
    with Silent() as silent:
        result = tailrace("chat", "-m", "m", "--debug", "--timeout", "0.1", "--upstream", silent.url, "hi")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "\ntailrace: " in result.err


def test_the_extra_that_is_missing_is_named(tailrace: Command) -> None:
    """Without click the way to install it is printed."""
    code = "import sys; sys.modules['click'] = None\nfrom tailrace.cli import main\nmain(['chat'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tailrace.environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "tailrace: the command line needs more packages: pip install 'tailrace[cli]'\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(server: FakeOllama, tailrace: Command) -> None:
    """The answer cannot be written: a line says so."""
    with Path("/dev/full").open("wb") as full, tailrace.started("chat", "hi", stdout=full) as process:
        _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert b"tailrace: cannot write the answer" in err


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "does not exist"), (b"", "it is empty"), (b"<html>", "it is a web page"), (b"GGUF", "is truncated")],
)
def test_a_model_file_that_is_none(tailrace: Command, tmp_path: Path, content: bytes | None, words: str) -> None:
    """Missing, empty, a web page, cut: one line that says so, with no status of a server that nobody sees."""
    pytest.importorskip("xllamacpp")
    if content is not None:
        (tmp_path / "x.gguf").write_bytes(content)
    result = tailrace("chat", "--upstream", f"embedded:{tmp_path / 'x.gguf'}", "hi")
    assert (result.code, result.out, len(result.err.splitlines())) == (1, b"", 1)
    assert words in result.err
    assert "HTTP" not in result.err
