"""The server itself: what it records, gates, the queue, its life."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.testing.rawclient import CHAT, RawClient, events, lines

from tailrace.testing import (
    FakeOllama,
    FakeOpenAI,
    FakeServer,
    Record,
    Recording,
    RecordingProxy,
    Step,
    close_delimited,
    closed_port,
    delay,
    fin,
    hold,
    rst,
    say,
    slow_load,
    split,
    stall,
    wait_for,
)


def test_records_the_request() -> None:
    """A record holds method, path, query, headers in their order, and the body."""
    with FakeOllama() as server, RawClient(server.url) as client:
        client.send("POST", "/api/chat?x=1", CHAT, "X-B: 2\r\nx-a: 1\r\n")
        client.response()
        record = server.wait_for_request()
        assert record.wait_until_ended()

    assert (record.method, record.path, record.query, record.json) == ("POST", "/api/chat", "x=1", CHAT)
    assert [name for name, _ in record.headers] == ["Host", "Content-Length", "X-B", "x-a"]
    assert (record.header("x-b"), record.header("X-A"), record.header("x-c")) == ("2", "1", None)
    assert (record.completed, record.client_left, record.phase, record.sent.steps) == (True, False, "ended", 2)
    assert record.first_byte_at is not None
    assert record.ended_at is not None
    assert record.received_at <= record.first_byte_at <= record.ended_at


@pytest.mark.parametrize(
    ("script", "phase"),
    [
        ([stall()], "stalling"),
        ([slow_load()], "loading"),
        ([hold()], "holding"),
        ([delay(3600)], "delaying"),
        ([say("a"), stall()], "stalling"),
        ([say("a"), wait_for("never")], "holding"),
    ],
)
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_notices_at_once_that_the_client_left(script: list[Step], phase: Any, how: str) -> None:
    """In every silence the server sees the client go, and how."""
    with FakeOllama() as server:
        server.script(*script)
        client = RawClient(server.url)
        client.chat()
        record = server.wait_for_request()
        assert record.wait_until_phase(phase)
        if len(script) > 1:
            client.until(b"}\n\r\n")

        client.reset() if how == "rst" else client.sock.close()

        assert record.wait_until_left()
        assert (how, phase, len(script) - 1) == (record.left_how, record.phase, record.sent.steps)
        assert record.left_at is not None
        assert (record.completed, record.ended) == (False, True)
        assert server.wait_until_idle()
        assert server.open_connections == 0


def test_notices_a_client_that_leaves_unread_data() -> None:
    """A client that closes without reading is seen while the server still sends."""
    with FakeOllama() as server:
        server.script(say(*["x" * 10_000] * 5_000))
        with RawClient(server.url) as client:
            client.chat()
            client.until(b"\r\n\r\n")
        record = server.wait_for_request()

        assert record.wait_until_left()
        assert record.phase == "streaming"


def test_a_complete_answer_is_nobodys_leaving() -> None:
    """A client that closes after the whole answer has not left."""
    with FakeOllama() as server:
        with RawClient(server.url) as client:
            client.chat()
            client.response()
            assert server.wait_for_request().wait_until_ended()
        assert server.wait_until_idle()
        assert not server.requests[0].wait_until_left()


async def test_the_same_in_a_task() -> None:
    """The twins with an `a` in front wait in a task."""
    with FakeOllama() as server:
        server.script(stall())
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"POST /api/chat HTTP/1.1\r\nContent-Length: 39\r\n\r\n" + b'{"model":"m","messages":[{"role":"u"}]}'
        )
        record = await server.await_for_request()
        assert await record.await_until_phase("stalling")
        assert not await record.await_until_ended(timeout=0)
        writer.close()

        assert await record.await_until_left()
        assert await server.await_until_idle()
        assert await reader.read() == b""
        with pytest.raises(TimeoutError, match="request 2 did not come"):
            await server.await_for_request(2, timeout=0)


def test_waiting_in_vain_says_what_came() -> None:
    """The error of a wait in vain lists the requests there were."""
    with FakeOllama() as server, RawClient(server.url) as client:
        with pytest.raises(TimeoutError, match="none at all"):
            server.wait_for_request(timeout=0)
        client.send("GET", "/api/tags")
        client.response()
        with pytest.raises(TimeoutError, match=r"request 1 to /api/chat did not come.*GET /api/tags"):
            server.wait_for_request(path="/api/chat", timeout=0)
        assert server.wait_for_request(path="/api/tags").path == "/api/tags"


def test_hold_and_release() -> None:
    """Each release lets one hold go on, and one that comes early is kept."""
    with FakeOllama() as server, RawClient(server.url) as client:
        server.script(say("a"), hold(), say("b"), hold(), say("c"))
        client.chat()
        record = server.wait_for_request()
        assert record.wait_until_phase("holding")
        assert b'"a"' in client.until(b"}\n\r\n")
        server.release()
        assert b'"b"' in client.until(b"}\n\r\n")
        assert record.wait_until_phase("holding", 2)
        server.release()
        assert b'"c"' in client.until(b"}\n\r\n")
        client.until(b"0\r\n\r\n")

        server.release(count=2)
        server.script(hold(), hold(), say("early"))
        client.chat()
        assert b"early" in client.response()[2]


def test_wait_for_stays_open() -> None:
    """A gate opened once is open for all."""
    with FakeOllama() as server, RawClient(server.url) as client:
        server.always(wait_for("go"), say("a"))
        server.open("go")
        for _ in range(2):
            client.chat()
            assert b'"a"' in client.response()[2]


def test_parallel() -> None:
    """With parallel=1 a second generation waits in silence, and other endpoints do not."""
    with FakeOllama(parallel=1) as server, RawClient(server.url) as one, RawClient(server.url) as two:
        server.always(say("a"), hold())
        one.chat()
        assert server.wait_for_request(1).wait_until_phase("holding")
        two.chat()
        second = server.wait_for_request(2)
        assert second.wait_until_phase("queued")
        with RawClient(server.url) as other:
            other.send("GET", "/api/ps")
            assert other.response()[0] == 200
        assert second.sent.bytes == 0
        one.sock.close()
        assert second.wait_until_phase("holding")
        server.release()
        assert len(lines(two.response()[2])) == 2


def test_leaving_the_queue() -> None:
    """A client that leaves the queue gives its place up."""
    with FakeOllama(parallel=1) as server, RawClient(server.url) as one, RawClient(server.url) as three:
        server.always(hold(), say("a"))
        one.chat()
        assert server.wait_for_request(1).wait_until_phase("holding")
        with RawClient(server.url) as two:
            two.chat()
            assert server.wait_for_request(2).wait_until_phase("queued")
        assert server.requests[1].wait_until_left()
        assert server.requests[1].phase == "queued"
        three.chat()
        assert server.wait_for_request(3).wait_until_phase("queued")
        server.release(count=2)
        assert len(lines(three.response()[2])) == 2


def test_replay() -> None:
    """Prebuilt bytes go out in one burst or line by line."""
    ndjson = b'{"a":1}\n{"a":2}\n'
    sse = b'data: {"a":1}\n\ndata: [DONE]\n\n'
    with FakeOllama() as server, RawClient(server.url) as client:
        found = []
        for data, burst in [(ndjson, True), (ndjson, False), (sse, False)]:
            server.replay(data, burst=burst)
            client.chat()
            head = client.until(b"\r\n\r\n")
            found.append((b"x-ndjson" in head, client.chunks()))

    assert (True, [ndjson]) == found[0]
    assert found[1] == (True, [b'{"a":1}\n', b'{"a":2}\n'])
    assert found[2] == (False, [b'data: {"a":1}\n\n', b"data: [DONE]\n\n"])


def test_replay_to_many_at_once() -> None:
    """A long replay to many clients reaches every one whole."""
    data = b"".join(b'{"n":%d}\n' % n for n in range(5_000))
    bodies: list[bytes] = []

    def read() -> None:
        with RawClient(server.url) as client:
            client.chat()
            bodies.append(client.response()[2])

    with FakeOllama() as server:
        server.replay(data, burst=False)
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert [data] * 8 == bodies


def test_unix_socket(tmp_path: Path) -> None:
    """It listens on a Unix socket too, and takes it away again."""
    path = tmp_path / "o.sock"
    with FakeOllama(unix_path=path) as server, RawClient(unix=path) as client:
        server.script(split(every=3), say("é"))
        client.chat()
        assert len(lines(client.response()[2])) == 2
    assert not path.exists()


def test_request_bodies() -> None:
    """Chunked requests, Expect and HTTP/1.0 are understood; nonsense is a 400."""
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":false}'
    with FakeOllama() as server:
        with RawClient(server.url) as client:
            client.sock.sendall(
                b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
            )
            assert b"100 Continue" in client.until(b"\r\n\r\n")
            client.sock.sendall(b"5\r\n" + body[:5] + b"\r\n%x;ext\r\n" % len(body[5:]) + body[5:] + b"\r\n0\r\n\r\n")
            assert client.response()[0] == 200
        with RawClient(server.url) as client:
            client.sock.sendall(
                b"POST /api/chat HTTP/1.0\r\nContent-Length: 25\r\n\r\n" + b'{"model":"m","messages":[]'
            )
            assert b"400 Bad Request" in client.rest()
        with RawClient(server.url) as client:
            client.sock.sendall(b"GET /api/tags HTTP/1.0\r\n\r\n")
            assert client.rest().startswith(b"HTTP/1.1 200")
        for nonsense in (b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
            with RawClient(server.url) as client:
                client.sock.sendall(nonsense)
                assert b"400 Bad Request" in client.rest()
        with RawClient(server.url) as client:
            client.sock.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
            assert b"400 Bad Request" in client.rest()


def test_drop_connections() -> None:
    """Dropped connections are closed, and new ones are served (U27)."""
    with FakeOllama() as server:
        with RawClient(server.url) as client:
            client.chat()
            client.response()
            server.drop_connections()
            assert client.rest() == b""
        assert server.wait_until_idle()
        with RawClient(server.url) as client:
            client.chat()
            assert client.response()[0] == 200


def test_stops_with_everything_open() -> None:
    """Stopping ends whatever is going on, twice without harm, and a server can be started anew."""
    server = FakeOllama().always(stall())
    with server, RawClient(server.url) as client:
        client.chat()
        record = server.wait_for_request()
        assert record.wait_until_phase("stalling")
        with pytest.raises(RuntimeError, match="running already"):
            server.start()
        server.stop()
        assert client.rest() == b""
        assert (record.ended, record.completed, record.client_left) == (True, False, False)
    server.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("FakeOllama")]
    server.port = 0
    with server.always(say("a")), RawClient(server.url) as client:
        client.chat()
        assert client.response()[0] == 200


def test_its_own_failure_is_not_hidden() -> None:
    """What goes wrong inside the server is raised when it stops."""

    def broken(record: Record) -> list[Step]:
        raise LookupError("in the test's own function")

    class Broken(FakeServer):
        def _plan(self, record: Record) -> Any:
            raise LookupError("in a plan")

    def ask(server: FakeServer) -> bytes:
        with server, RawClient(server.url) as client:
            client.chat()
            client.sock.shutdown(socket.SHUT_WR) if isinstance(server, Broken) else None
            return client.rest()

    with pytest.raises(LookupError, match="own function"):
        ask(FakeOllama().respond(broken))
    with pytest.raises(LookupError, match="in a plan"):
        ask(Broken())


def test_parallel_must_be_a_number_of_places() -> None:
    """parallel=0 would never answer."""
    with pytest.raises(ValueError, match="1 or more"):
        FakeOllama(parallel=0)


def test_record_and_play(tmp_path: Path) -> None:
    """What a proxy recorded plays back byte by byte, chunk bounds and the half character included."""
    file = tmp_path / "r.json"
    with FakeOllama() as real, RecordingProxy(real.url) as proxy:
        real.script(split([90], every=200), say("é水" * 30, "b"))
        with RawClient(proxy.url) as client:
            client.send("POST", "/api/chat", CHAT, "Authorization: Bearer secret\r\n")
            original = client.rest()
        with RawClient(proxy.url) as client:
            client.send("GET", "/api/tags?x=1")
            tags = client.rest()
        assert real.requests[0].header("authorization") == "Bearer secret"
        assert real.requests[1].query == "x=1"
        proxy.recording.save(file)
    recording = Recording.load(file)

    with FakeOllama() as server:
        server.play(recording).play(recording, speed=1000)
        played = []
        for method, path, body in [("POST", "/api/chat", CHAT), ("GET", "/api/tags", None)] * 2:
            with RawClient(server.url) as client:
                client.send(method, path, body)
                played.append(client.rest())

    assert [original, tags, original, tags] == played
    assert "secret" not in file.read_text(encoding="utf-8")
    assert [exchange.ended for exchange in recording.exchanges] == ["fin", "fin"]


def test_the_proxy_carries_a_leaving_upstream() -> None:
    """When the client leaves the proxy, the real server notices."""
    with FakeOllama() as real, RecordingProxy(real.url) as proxy:
        real.script(say("a"), stall())
        with RawClient(proxy.url) as client:
            client.chat()
            client.until(b"}\n\r\n")
        assert real.wait_for_request().wait_until_left()
        assert proxy.wait_until_idle()
        assert proxy.recording.exchanges[0].ended == "left"


def ends_in_reset(server: FakeServer) -> bool:
    with RawClient(server.url) as client:
        client.chat("/v1/chat/completions", stream=True)
        try:
            client.rest()
        except ConnectionResetError:
            return True
    return False


def test_the_proxy_records_a_reset() -> None:
    """A reset is passed on, recorded, and played."""
    with FakeOpenAI() as real, RecordingProxy(real.url) as proxy:
        real.script(say("a"), rst())
        assert ends_in_reset(proxy)
        assert proxy.requests[0].wait_until_ended()
        recording = proxy.recording
    with FakeOpenAI() as server:
        server.play(recording)
        assert ends_in_reset(server)


def test_the_proxy_without_a_server(tmp_path: Path) -> None:
    """A proxy with nothing behind it says so; bad addresses and files are refused."""
    with RecordingProxy(f"http://127.0.0.1:{closed_port()}") as proxy, RawClient(proxy.url) as client:
        client.chat()
        code, _, body = client.response()
        assert (code, b"cannot be reached" in body) == (502, True)
    with pytest.raises(ValueError, match="no http or https address"):
        RecordingProxy("localhost:11434")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="no recording of format 1"):
        Recording.load(tmp_path / "x.json")


def test_events_of_a_close_delimited_stream() -> None:
    """Framing is independent of the wire."""
    with FakeOpenAI() as server, RawClient(server.url) as client:
        server.script(close_delimited(), say("a"), fin())
        client.chat("/v1/chat/completions", stream=True)
        assert len(events(client.rest().partition(b"\r\n\r\n")[2])) == 2


def test_importing_is_cheap() -> None:
    """The package and the plugin import no server and no asyncio until a name is asked for, and then one file more."""
    code = (
        "import sys, types; p = types.ModuleType('tailrace'); p.__path__ = [sys.argv[1]]; sys.modules['tailrace'] = p\n"
        "import pytest; before = set(sys.modules)\n"
        "import tailrace.testing.plugin\n"
        "print(sorted(set(sys.modules) - before))\n"
        "import tailrace.testing as t; [getattr(t, name) for name in dir(t)]\n"
        "print(sorted(n for n in sys.modules if n.startswith('tailrace') and not n.startswith('tailrace.testing')))\n"
        "print(sorted({'httptools', 'msgspec'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[2] / "src" / "tailrace"
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True, env=env)

    assert done.stdout.splitlines() == [
        "['tailrace.testing', 'tailrace.testing.plugin']",
        "['tailrace', 'tailrace.transport', 'tailrace.transport.http_server']",
        "['httptools']",
    ]
