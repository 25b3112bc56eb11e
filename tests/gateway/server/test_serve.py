"""`tailrace serve` as a command: where it listens, what it says, what it refuses."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import give_up
from tests.gateway.serving import serve, serving
from tests.web.process import ROOT
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, say


def _refused(*options: str) -> tuple[int, str]:
    """Runs a command that ends by itself; returns its code and what it said."""
    done = subprocess.run(
        [*serve(0, "http://127.0.0.1:1"), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@contextmanager
def _started(*options: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a port of the system's choice; yields it and the address that it tells."""
    process = subprocess.Popen(
        [*serve(0, "http://127.0.0.1:1"), "--data", str(folder), *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TAILRACE_HOME": str(folder)},
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "serving at http" in line, line
        yield process, line.split(" at ")[1].split(" ")[0]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def test_port_in_use() -> None:
    """A port that somebody has: one line, a hint, and no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, told = _refused("--port", str(other.getsockname()[1]))

    assert code == 1
    assert "cannot listen on 127.0.0.1:" in told
    assert "--port" in told


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid"])
def test_address_that_is_not_ours(host: str) -> None:
    """An address of another computer, or a name that there is not: what is wrong, and a hint about the address."""
    code, told = _refused("--host", host, "--insecure")

    assert code == 1
    assert f"cannot listen on {host}:0" in told
    assert "--host" in told


def test_database_that_is_none() -> None:
    """A URL that is none is refused before anything is served."""
    code, told = _refused("--database", "sqlite://")

    assert code != 0
    assert "tailrace: " in told


def test_port_of_the_systems_choice(tmp_path: Path) -> None:
    """Port 0 is any free one, and the line says which."""
    with _started(folder=tmp_path) as (_, url), Reader(url, "/healthz", method="GET") as reader:
        assert reader.json == {"status": "ok"}


def test_ipv6(tmp_path: Path) -> None:
    """An IPv6 address is listened on, and told in brackets."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        give_up("this computer has no IPv6")
    with _started("--host", "::1", folder=tmp_path) as (_, url):
        assert url.startswith("http://[::1]:")
        with socket.create_connection(("::1", int(url.rpartition(":")[2])), PATIENCE) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n")
            data = b""
            while piece := sock.recv(65536):
                data += piece
    assert data.endswith(b'{"status":"ok"}')


def test_limits_of_the_system_are_raised() -> None:
    """The server takes as many files as the system lets it have, however few it was started with."""
    few = ["bash", "-c", 'ulimit -Sn 64; exec "$@"', "-"]
    with serving(prefix=few) as gateway:
        gateway.upstream.always(say("x"))
        readers = [gateway.read("/runs") for _ in range(200)]
        assert {reader.status for reader in readers} == {200}
        for reader in readers:
            reader.leave()


def test_default_model_of_the_command_and_the_environment() -> None:
    """``--model``, else TAILRACE_MODEL, is meant where a request names none."""
    with FakeOllama() as upstream:
        with serving("--model", "one", upstream=upstream, TAILRACE_MODEL="two") as gateway:
            path, record = gateway.start(say("x"), model="")
            gateway.ended(path)
            assert record.json["model"] == "one"
        with serving(upstream=upstream, TAILRACE_MODEL="two") as gateway:
            path, record = gateway.start(say("x"), model="")
            gateway.ended(path)
            assert record.json["model"] == "two"


def test_nothing_is_printed_about_what_strangers_send() -> None:
    """What is no HTTP, requests that are cut off and readers that are let go are no news."""
    with serving("--send-timeout", "0.5", "--on-leave", "continue") as gateway:
        upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        for data in (b"\x16\x03\x01", b"GET / HTTP/9\r\n\r\n", upgrade):
            with socket.create_connection(("127.0.0.1", gateway.server.port), PATIENCE) as sock:
                sock.sendall(data)
                while sock.recv(65536):
                    pass
        path, _ = gateway.start(say(*["x" * 4000] * 500))
        with gateway.read(f"{path}/events", rcvbuf=4096) as idle:
            while gateway.call("GET", path).json["readers"]:
                pass
            idle.sock.close()
        lines = gateway.server.output.splitlines()

    assert len(lines) == 1
    assert "serving at" in lines[0]
