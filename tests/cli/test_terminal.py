"""What a terminal gets to see, and what everything else gets."""

from __future__ import annotations

import os
import re
import subprocess

import pytest
from tests.cli.driver import TIMEOUT, Command

from tailrace.terminal.escape import one_line, printable
from tailrace.terminal.figures import duration, short_duration, size
from tailrace.terminal.progress import bar
from tailrace.testing import FakeOllama, hold, say, slow_load, think, tool_call

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals of POSIX")

ATTACK = {
    "colour": "\x1b[31mred",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "title": "\x1b]0;owned\x1b\\",
    "c1": "\x9b31m and \x9d0;owned\x9c",
    "bidi": "\u202egnp.exe\u202c \u2066x\u2069",
    "control": "a\x00b\x08c\rd\x7f",
}
DANGER = [
    b"\x1b[31m",
    b"\x1b]",
    b"\x07",
    "\x9b".encode(),
    "\x9d".encode(),
    "\u202e".encode(),
    "\u2066".encode(),
    b"\x08",
]


@pytest.mark.parametrize("raw", [(), ("--raw",)], ids=["markdown", "raw"])
@pytest.mark.parametrize("name", ATTACK)
def test_x3_a_terminal_never_sees_the_models_control_characters(
    server: FakeOllama, tailrace: Command, name: str, raw: tuple[str, ...]
) -> None:
    """They are shown escaped, wherever the model hid them: in the answer, in its thinking, in a tool call."""
    text = ATTACK[name]
    server.script(think(text), say("[", *text, "]"), tool_call("f" + text, {"x": text}))
    with tailrace.on_terminal("chat", "hi", *raw) as terminal:
        assert terminal.end() == 0
    for danger in DANGER:
        assert danger not in terminal.seen
    assert b"\\u00" in terminal.seen or b"\\u20" in terminal.seen
    if raw:  # in Markdown a backslash before punctuation goes, and a carriage return ends a line
        assert b"[" + printable(text).encode() + b"]" in terminal.seen


@pytest.mark.parametrize("name", ATTACK)
def test_x3_a_pipe_gets_exact_bytes(server: FakeOllama, tailrace: Command, name: str) -> None:
    """Nothing is escaped where nothing obeys, also when the thinking is on a terminal."""
    server.script(think("hm"), say(ATTACK[name], "\r\n你好"))
    with tailrace.on_terminal("chat", "hi", stdout=subprocess.PIPE) as terminal:
        assert terminal.process.stdout is not None
        out = terminal.process.stdout.read()
        assert terminal.end() == 0
    assert out == (ATTACK[name] + "\r\n你好").encode()


def test_x3_json_on_a_terminal_stays_json(server: FakeOllama, tailrace: Command) -> None:
    """The escapes are JSON's own."""
    server.script(say(*ATTACK.values()))
    with tailrace.on_terminal("chat", "--json", "hi") as terminal:
        assert terminal.end() == 0
    import json

    lines = [json.loads(line) for line in terminal.seen.decode().splitlines() if line.startswith("{")]
    assert "".join(line.get("text", "") for line in lines) == "".join(ATTACK.values())
    for danger in DANGER:
        assert danger not in terminal.seen


def test_thinking_is_dim_and_apart(server: FakeOllama, tailrace: Command) -> None:
    """Grey on a terminal, an empty line before the answer, and the prompt of the shell on a new line."""
    server.script(think("hm"), say("yes"))
    with tailrace.on_terminal("chat", "hi") as terminal:
        assert terminal.end() == 0
    # A server that takes its time is told of first, in a line that goes again.
    seen = re.sub(rb"^(\r\x1b\[K\x1b\[2m[^\r\n]*\x1b\[0m)+\r\x1b\[K", b"", terminal.seen)
    assert seen.startswith(b"\x1b[2mhm\x1b[0m\r\n\r\n\x1b[?2026h")
    assert re.search(rb"yes\r\r\n[^\n]*\x1b\[2m[^\n]* tok \xc2\xb7 [^\n]*first token [0-9.]+ s\r\n\x1b\[0m$", seen)


def test_no_colour_where_none_is_wanted(server: FakeOllama, tailrace: Command) -> None:
    """NO_COLOR is honoured."""
    server.script(think("hm"), say("yes\n"))
    tailrace.env["NO_COLOR"] = "1"
    tailrace.before = "from tailrace.terminal import waiting; waiting._AFTER = 60"
    with tailrace.on_terminal("chat", "hi") as terminal:
        assert terminal.end() == 0
    assert re.fullmatch(rb"hm\r\n\r\nyes\r\n[^\x1b]* tok [^\x1b]*first token [0-9.]+ s\r\n", terminal.seen)


def test_figures_while_it_comes(server: FakeOllama, tailrace: Command) -> None:
    """Tokens, rate and seconds stand below an answer that takes a while; the closing line takes their place."""
    server.script(say("one "), hold(), say("two"))
    tailrace.before = "from tailrace.terminal import printer; printer._FOOTER = 1e-9"  # instead of half a second
    with tailrace.on_terminal("chat", "hi") as terminal:
        terminal.read_until("one")
        server.release()
        assert terminal.end() == 0
    text = terminal.seen.decode()
    assert re.search(r"~2 tok · [\d.]+ tok/s · \d+ s", text)
    assert re.search(r"first token [\d.]+ s\r\n\x1b\[0m$", text)


def test_a_pipe_hears_nothing_of_the_wait(server: FakeOllama, tailrace: Command) -> None:
    """Neither a status line nor a remark nor figures, however long it takes."""
    server.script(slow_load(), say("yes"))
    tailrace.before = "from tailrace.terminal import status, waiting; status._AFTER = waiting._AFTER = 0"
    with tailrace.started("chat", "-m", "m", "hi") as process:
        assert server.wait_for_request(path="/api/chat").wait_until_phase("loading")
        server.release("load")
        assert process.communicate(timeout=TIMEOUT) == (b"yes", b"")
    assert process.returncode == 0


def test_one_write_for_what_came_together(server: FakeOllama, tailrace: Command) -> None:
    """Tokens that arrive in one piece are not written one by one: a datagram socket keeps the writes apart."""
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        lines = b"".join(b'{"message":{"role":"assistant","content":"%d "},"done":false}\n' % n for n in range(500))
        server.replay(lines + b'{"done":true,"done_reason":"stop"}\n')
        expected = b"".join(b"%d " % n for n in range(500))
        writes: list[bytes] = []
        ours.settimeout(TIMEOUT)
        with tailrace.started("chat", "hi", stdout=theirs.fileno()) as process:
            while sum(map(len, writes)) < len(expected):
                writes.append(ours.recv(65536))
            assert process.wait(TIMEOUT) == 0
    assert b"".join(writes) == expected
    assert len(writes) < 100


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tab\tline\n", "tab\tline\n"),
        ("dos\r\n", "dos\n"),
        ("\r", "\\u000d"),
        ("emoji 👩‍🚀 and 中文", "emoji 👩‍🚀 and 中文"),
        ("\x80\x9f\x7f\x00", "\\u0080\\u009f\\u007f\\u0000"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    """Only what could command a terminal is changed."""
    assert printable(text) == shown


def test_one_line() -> None:
    """Whatever a server says takes one line."""
    assert one_line("a\nb\r\nc\u2028d\te\x1b") == "a b c d e\\u001b"


def test_figures_are_ollamas() -> None:
    """Durations as Go prints them, sizes as Ollama does."""
    durations = {0: "0s", 900: "900ns", 1500: "1.5µs", 97885315: "97.885315ms", 60_000_000_000: "1m0s"}
    durations |= {163_589_481_292: "2m43.589481292s", 3_600_000_000_000: "1h0m0s", 1_000_000_000: "1s"}
    assert {value: duration(value) for value in durations} == durations
    assert [short_duration(value) for value in (0.4, 62, 3661, 1e9)] == ["0s", "1m2s", "1h1m", "99h+"]
    assert [size(n) for n in (0, 999, 1000, 123_456_789, 2_019_393_189)] == ["0 B", "999 B", "1 KB", "123 MB", "2.0 GB"]


def test_bars_look_like_ollamas() -> None:
    """The line of `ollama pull`; it never reaches the last column."""
    line = bar("pulling 74701a8c35f6", 123_000_000, 2_019_393_189, 12_000_000, 100)
    assert line.startswith("pulling 74701a8c35f6   6% ▕██")
    assert line.endswith(" ▏ 123 MB/2.0 GB  12 MB/s  2m38s")
    for width in range(1, 200):
        assert len(bar("pulling 74701a8c35f6", 123, 456, 78, width)) < max(width, 2)
    assert bar("x", 5, 5, 0, 80).endswith("█▏ 5 B")
