"""Stopping: Ctrl-C, SIGTERM, and readers who leave. The model really stops, and what was said is kept."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.driver import INTERRUPT, TIMEOUT, Command, interrupt, read_exactly

from tailrace.testing import FakeOllama, NeverAccepts, Silent, hold, say, slow_load, stall

pytestmark = pytest.mark.skipif(os.name == "nt", reason="terminals and signals of POSIX")


def without_echo(seen: bytes) -> bytes:
    """What was seen, without the terminal's own echo of Ctrl-C, which comes when it likes."""
    return seen.replace(b"^C", b"")


def test_ctrl_c_in_the_middle(server: FakeOllama, tailrace: Command) -> None:
    """The partial text stays, a short note is on standard error, the exit code is 130, and the server saw us leave."""
    server.script(say("The first ", "words"), hold())
    with tailrace.on_terminal("chat", "hi", stdout=subprocess.PIPE) as terminal:
        assert read_exactly(terminal.process.stdout, 15) == b"The first words"
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
        assert terminal.process.stdout is not None
        assert terminal.process.stdout.read() == b""
    # A rate is told if the two words did not come together.
    assert re.search(r"\[stopped · ~2 tok( · [\d.]+ tok/s)?\]", terminal.seen.decode())
    assert b"Traceback" not in terminal.seen
    assert server.wait_for_request(path="/api/chat").wait_until_left()


def test_ctrl_c_on_one_terminal_for_everything(server: FakeOllama, tailrace: Command) -> None:
    """The note starts a line of its own."""
    server.script(say("The first words"), hold())
    with tailrace.on_terminal("chat", "hi") as terminal:
        terminal.read_until("The first words")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
    end = "\r\n\x1b[?7l\r\x1b[?7h\x1b[?25h\x1b[?2026l[stopped · ~1 tok]\r\n"
    assert without_echo(terminal.seen).endswith(end.encode())


def test_ctrl_c_in_plain_text(server: FakeOllama, tailrace: Command) -> None:
    """The note starts a line of its own there too."""
    server.script(say("The first words"), hold())
    with tailrace.on_terminal("chat", "--raw", "hi") as terminal:
        terminal.read_until("The first words")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
    assert "words\r\n[stopped · ~1 tok]\r\n".encode() in without_echo(terminal.seen)


@pytest.mark.parametrize("command", ["chat", "generate"])
def test_ctrl_c_before_the_first_token(server: FakeOllama, tailrace: Command, command: str) -> None:
    """While the model loads, the request is dropped at once."""
    server.script(slow_load(), say("never"))
    with tailrace.on_terminal(command, "-m", "m", "hi") as terminal:
        record = server.wait_for_request(path=f"/api/{command}")
        assert record.wait_until_phase("loading")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
    assert b"[stopped]" in terminal.seen
    assert b"never" not in terminal.seen
    assert record.wait_until_left()


def test_ctrl_c_while_the_models_are_asked_for(server: FakeOllama, tailrace: Command) -> None:
    """Also before there is a run."""
    server.script(stall(), path="/api/tags")
    with tailrace.on_terminal("chat", "hi") as terminal:
        record = server.wait_for_request(path="/api/tags")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
    assert b"[stopped]" in terminal.seen
    assert b"Traceback" not in terminal.seen
    assert record.wait_until_left()


def test_ctrl_c_while_connecting(tailrace: Command) -> None:
    """Nobody accepts; we leave all the same. The remark that we wait tells that connecting has begun."""
    with NeverAccepts() as dead, tailrace.on_terminal("chat", "-m", "m", "--upstream", dead.url, "hi") as terminal:
        terminal.read_until("connecting")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
    assert b"Traceback" not in terminal.seen


def test_ctrl_c_while_standard_input_is_awaited(tailrace: Command) -> None:
    """A pipe that nobody closes: we say that we wait for it, and can be stopped."""
    read, write = os.pipe()
    try:
        with tailrace.on_terminal("chat", "hi", stdin=read) as terminal:
            terminal.read_until("standard input")
            terminal.press(INTERRUPT)
            assert terminal.end() == 130
    finally:
        os.close(read)
        os.close(write)
    assert b"Traceback" not in terminal.seen


def test_p5_interrupted_twice(server: FakeOllama, tailrace: Command) -> None:
    """The second Ctrl-C, in the same breath, neither hangs nor prints a traceback; the text is kept."""
    server.script(say("kept"), hold())
    with tailrace.on_terminal("chat", "hi", stdout=subprocess.PIPE) as terminal:
        assert read_exactly(terminal.process.stdout, 4) == b"kept"
        terminal.press(INTERRUPT + INTERRUPT)
        assert terminal.end() == 130
    assert b"Traceback" not in terminal.seen
    assert b"Exception" not in terminal.seen
    assert server.wait_for_request(path="/api/chat").wait_until_left()


def test_p5_interrupted_while_writing_blocks(server: FakeOllama, tailrace: Command) -> None:
    """Our reader takes nothing more, so that writing blocks: even then one Ctrl-C is enough."""
    line = b'{"message":{"role":"assistant","content":"' + b"x" * 50_000 + b'"},"done":false}\n'
    server.replay(line * 40)
    with tailrace.on_terminal("chat", "hi", stdout=subprocess.PIPE) as terminal:
        assert read_exactly(terminal.process.stdout, 10) == b"x" * 10
        server.wait_for_request(path="/api/chat")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130, terminal.seen
    assert b"Traceback" not in terminal.seen


def test_sigterm_ends_likewise(server: FakeOllama, tailrace: Command) -> None:
    """Exit code 143; the text is kept and the model stops."""
    server.script(say("kept"), hold())
    with tailrace.started("chat", "hi") as process:
        assert read_exactly(process.stdout, 4) == b"kept"
        interrupt(process, signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (143, b"")
    assert err == b"[stopped]\n"
    assert server.wait_for_request(path="/api/chat").wait_until_left()


def test_a_job_in_the_background_ignores_ctrl_c(server: FakeOllama, tailrace: Command) -> None:
    """What was ignored when we started (`nohup`, `&`) stays ignored."""
    server.script(say("all "), hold(), say("of it"))
    code = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", code, sys.executable, "-m", "tailrace", "chat", "hi"]
    with subprocess.Popen(
        command, env=tailrace.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as process:
        assert read_exactly(process.stdout, 4) == b"all "
        interrupt(process)
        server.release()
        out, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (0, b"of it")


def test_json_ends_with_cancelled(server: FakeOllama, tailrace: Command) -> None:
    """The events of a stopped answer end as all do."""
    server.script(say("kept"), hold())
    with tailrace.started("chat", "--json", "hi") as process:
        first = b'{"type":"text_delta","text":"kept"}\n'
        assert read_exactly(process.stdout, len(first)) == first
        interrupt(process)
        out, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (130, b'{"type":"ended","outcome":"cancelled"}\n')


def test_a_reader_that_leaves(server: FakeOllama, tailrace: Command) -> None:
    """`tailrace chat … | head -1`: no noise, the model stops, and the exit code is a broken pipe's."""
    server.script(say("first line\n"), hold(), say("second line\n"), hold("again"))
    with tailrace.started("chat", "hi") as process:
        assert read_exactly(process.stdout, 11) == b"first line\n"
        assert process.stdout is not None
        process.stdout.close()
        server.release()
        assert process.stderr is not None
        err = process.stderr.read()
        assert process.wait(TIMEOUT) == 141
    assert err == b""
    assert server.wait_for_request(path="/api/chat").wait_until_left()


def test_ctrl_c_keeps_what_was_pulled(server: FakeOllama, tailrace: Command) -> None:
    """A pull that is stopped says that nothing is lost."""
    server.script(hold(), path="/api/pull")
    with tailrace.on_terminal("pull", "big") as terminal:
        record = server.wait_for_request(path="/api/pull")
        terminal.press(INTERRUPT)
        assert terminal.end() == 130
    assert b"what was fetched is kept" in terminal.seen
    assert record.wait_until_left()


@pytest.mark.parametrize("ending", ["sys.exit(3)", "raise SystemExit(3)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_p13_the_interpreter_ends_in_mid_stream(server: FakeOllama, tailrace: Command, ending: str) -> None:
    """A program that leaves with a live run: no hang, no traceback, and the model stops."""
    server.script(say("first"), stall())
    program = f"""
import os, signal, sys
import tailrace
stream = tailrace.chat("m", [{{"role": "user", "content": "hi"}}], stream=True)
print(next(iter(stream)).message.content, flush=True)
{ending}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=tailrace.environment(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode in (3, -signal.SIGTERM)
    assert (done.stdout, done.stderr) == (b"first\n", b"")
    assert server.wait_for_request(path="/api/chat").wait_until_left()


def test_p13_the_command_is_ended_while_it_waits(tailrace: Command, tmp_path: Path) -> None:
    """A server that accepts and says nothing does not keep us."""
    with Silent() as silent, tailrace.started("chat", "-m", "m", "--upstream", silent.url, "hi") as process:
        silent.wait_for_request()
        interrupt(process)
        out, err = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out, err) == (130, b"", b"[stopped]\n")
