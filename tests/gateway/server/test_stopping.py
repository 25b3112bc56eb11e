"""P4: the gateway stops in order: new runs are refused, running ones get their time, all are told; it never hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from tests.gateway.serving import Gateway, numbers, serve, serving
from tests.web.process import ROOT, held_port
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, hold, say, stall

RUNS = 200
READERS = 2  # of each run
SLACK = 1.0  # seconds that the issue gives to the end after the drain


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    """A gateway that gives running answers two seconds."""
    with serving("--drain", "2", "--on-leave", "continue") as gateway:
        gateway.settle()
        yield gateway


def _draining(gateway: Gateway) -> None:
    """Waits until the server has begun to stop."""
    while True:
        answer = gateway.call("GET", "/readyz")
        if answer.status == 503:
            assert answer.json["detail"] == "server stopping"
            return


def test_p4_every_reader_is_told_and_the_process_ends_in_time(gateway: Gateway) -> None:
    """Two hundred runs and four hundred readers: each gets the ending; the process is gone a second after the drain."""
    gateway.upstream.always(say("x"), stall())
    readers: list[Reader] = []
    for _ in range(RUNS):
        first = Reader(gateway.url, body={"message": "hi", "model": "m", "linger": None})
        readers += [first, gateway.read(f"{first.run}/events")]
    for reader in readers:
        reader.until(b'"x"')
    began = time.monotonic()
    gateway.server.process.terminate()
    _draining(gateway)
    refused = gateway.call("POST", "/runs", {"message": "hi", "model": "m"})
    streaming = gateway.call("POST", "/chat/stream", {"message": "hi", "model": "m"})
    endings = [reader.all()[-1] for reader in readers]
    code = gateway.server.process.wait(PATIENCE)
    took = time.monotonic() - began
    for reader in readers:
        reader.leave()

    assert len(readers) == RUNS * READERS
    assert {event.type for event in endings} == {"ended"}
    told = [json.loads(event.data) for event in endings]
    assert {(each["outcome"], each["reason"]) for each in told} == {("failed", "server stopping")}
    assert (refused.status, streaming.status) == (503, 503)
    assert "retry-after" in refused.headers
    assert code == 0
    assert took < 2 + SLACK


def test_p4_readers_that_never_read_keep_nobody_waiting(gateway: Gateway) -> None:
    """Connections that take nothing are cut when the time is up; the process ends a second after the drain."""
    gateway.upstream.always(say(*["x" * 4000] * 500), stall())
    with Reader(gateway.url, body={"message": "hi", "model": "m", "linger": None}) as reader:
        idle = [gateway.read(f"{reader.run}/events", rcvbuf=4096) for _ in range(20)]
        for _ in range(500):
            reader.next()
        began = time.monotonic()
        gateway.server.process.terminate()
        assert gateway.server.process.wait(PATIENCE) == 0
        took = time.monotonic() - began
    for one in idle:
        one.leave("rst")

    assert took < 2 + SLACK


def test_p4_nothing_to_wait_for_ends_at_once() -> None:
    """Without runs nobody waits for the drain, open connections or not."""
    with serving("--drain", "600") as gateway, socket.create_connection(("127.0.0.1", gateway.server.port)):
        gateway.call("GET", "/healthz")
        gateway.server.process.terminate()
        assert gateway.server.process.wait(PATIENCE) == 0


def test_p4_readers_take_the_end_of_an_answer_before_the_server_goes(gateway: Gateway) -> None:
    """An answer that ends in the drain is read to its end, and with it the server ends."""
    path, _ = gateway.start(say("Hel"), hold(), say(*["lo"] * 1000))
    with gateway.read(f"{path}/events") as reader:
        reader.until(b'"Hel"')
        gateway.server.process.terminate()
        _draining(gateway)
        gateway.upstream.release()
        events = reader.all()
    assert gateway.server.process.wait(PATIENCE) == 0

    assert [*range(1, len(events) + 1)] == numbers(events)
    assert json.loads(events[-1].data)["outcome"] == "complete"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_p4_signals_that_stop_it(number: signal.Signals) -> None:
    """Ctrl-C and a closed terminal are as good as SIGTERM."""
    with serving("--drain", "0", "--on-leave", "continue") as gateway:
        gateway.settle()
        path, _ = gateway.start(say("x"), stall())
        with gateway.read(f"{path}/events") as reader:
            reader.until(b'"x"')
            gateway.server.process.send_signal(number)
            ending = reader.all()[-1]
        assert gateway.server.process.wait(PATIENCE) == 0

    assert json.loads(ending.data)["reason"] == "server stopping"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p4_second_signal_ends_at_once(number: signal.Signals) -> None:
    """Whoever does not want to wait for the drain says it again."""
    with serving("--drain", "600", "--on-leave", "continue") as gateway:
        path, record = gateway.start(say("x"), stall())
        gateway.server.process.send_signal(number)
        _draining(gateway)
        assert gateway.call("GET", path).json["outcome"] is None
        gateway.server.process.send_signal(number)
        assert gateway.server.process.wait(PATIENCE) == 128 + number
        assert record.wait_until_left(PATIENCE)


def test_hangup_that_is_ignored_stays_so() -> None:
    """Under nohup a closed terminal stops nothing."""
    with held_port() as port, FakeOllama(models=["m"]) as upstream:
        process = subprocess.Popen(
            ["nohup", *serve(port, upstream.url), "--no-page"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            assert process.stderr is not None
            while b"serving" not in (line := process.stderr.readline()):
                assert line
            process.send_signal(signal.SIGHUP)
            with Reader(f"http://127.0.0.1:{port}", "/healthz", method="GET") as reader:
                assert reader.status == 200
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_p4_stop_while_it_starts(tmp_path: object) -> None:
    """A signal that comes while it starts, whenever that is, ends it without a trace of trouble."""
    with FakeOllama(models=["m"]) as upstream:
        for wait in (0.3, 0.6, 0.9, 1.2, 1.5, 1.8):
            process = subprocess.Popen(
                [*serve(0, upstream.url), "--data", str(tmp_path)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TAILRACE_HOME": str(tmp_path)},
            )
            try:
                process.wait(wait)  # the moments that the test is about
            except subprocess.TimeoutExpired:
                process.terminate()
            output, _ = process.communicate(timeout=PATIENCE)

            assert process.returncode in (0, 143, -signal.SIGTERM)
            assert b"Traceback" not in output
