"""`tailrace.web.wsgi` without a framework, and what it finds out about the server."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import socket
import threading
import wsgiref.simple_server
import wsgiref.util
import wsgiref.validate
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from tests.web.reader import PATIENCE, Reader, text
from tests.web.wsgi_servers import gunicorn, serving

from tailrace import Client
from tailrace.protocols.problems import ProblemError
from tailrace.testing import FakeOllama, hold, say, stall
from tailrace.web import wsgi_servers
from tailrace.web.wsgi import EventStream, Place, frames, streams

MESSAGES = [{"role": "user", "content": "hi"}]


def environ(**more: Any) -> dict[str, Any]:
    """What a server gives an application."""
    values: dict[str, Any] = {}
    wsgiref.util.setup_testing_defaults(values)
    return {**values, "wsgi.multithread": True, **more}


@pytest.fixture
def client(fake_ollama: FakeOllama) -> Client:
    return Client(fake_ollama.url)


@pytest.fixture(autouse=True)
def no_stream_is_left() -> Iterator[None]:
    """Each test gives all places back."""
    yield
    assert streams() == 0


def ask(client: Client, **more: Any) -> EventStream:
    return frames(client.chat("m", MESSAGES, stream=True), environ(), **more)


# -- a stream ----------------------------------------------------------------------------------------------------------


def test_any_server_can_run_it(fake_ollama: FakeOllama, client: Client) -> None:
    """The standard library's server and its checker of WSGI find nothing wrong."""
    fake_ollama.script(say("Hel", "lo"))

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        stream = frames(client.chat("m", MESSAGES, stream=True), {**environ, "wsgi.multithread": True})
        start_response("200 OK", stream.headers)
        return stream

    class Handler(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    checked: Any = wsgiref.validate.validator(application)
    with wsgiref.simple_server.make_server("127.0.0.1", 0, checked, handler_class=Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with Reader(f"http://127.0.0.1:{server.server_port}", "/", method="GET") as reader:
            assert text(reader.all()) == "Hello"
        thread.join(PATIENCE)


def test_the_first_piece_is_there_before_the_model_answers(fake_ollama: FakeOllama, client: Client) -> None:
    """It never blocks on the model: a server sends the head with it."""
    fake_ollama.script(stall())
    stream = ask(client)

    first = next(stream)

    assert first.startswith(b"retry: ")
    assert first.endswith(b": tailrace\n\n")
    stream.close()


def test_closing_is_leaving(fake_ollama: FakeOllama, client: Client) -> None:
    """`close` frees the model and the place; it may come before the first piece, and twice."""
    fake_ollama.script(stall())
    stream = ask(client)
    record = fake_ollama.wait_for_request()

    stream.close()
    stream.close()

    assert streams() == 0
    assert record.wait_until_left(PATIENCE)


def test_a_middleware_that_forgets_to_close(fake_ollama: FakeOllama, client: Client) -> None:
    """A stream that is dropped gives its place back and is no reader any more."""
    fake_ollama.script(stall())
    stream = ask(client)
    record = fake_ollama.wait_for_request()
    next(stream)

    del stream
    gc.collect()

    assert streams() == 0
    assert record.wait_until_left(PATIENCE)


def test_linger_keeps_the_run(fake_ollama: FakeOllama, client: Client) -> None:
    """A policy of seconds, or of going on, is the run's."""
    fake_ollama.script(say("a"), hold(), say("b"))
    asked = client.chat("m", MESSAGES, stream=True)
    stream = frames(asked, environ(), on_leave="continue")
    next(stream)
    stream.close()

    fake_ollama.release()

    assert asked.wait().text == "ab"


def test_a_policy_that_is_none(fake_ollama: FakeOllama, client: Client) -> None:
    """It is refused before anything is asked of the model."""
    with pytest.raises(ValueError, match="on_leave"):
        ask(client, on_leave="stay")
    assert fake_ollama.requests == []


# -- places ------------------------------------------------------------------------------------------------------------


def test_max_streams(fake_ollama: FakeOllama, client: Client) -> None:
    """One more than allowed is a 503 with `Retry-After`, and the model is not asked; a place given back is free."""
    fake_ollama.always(stall())
    held = [ask(client, max_streams=2) for _ in range(2)]

    with pytest.raises(ProblemError) as caught:
        ask(client, max_streams=2)
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    fake_ollama.wait_for_request(2)
    assert len(fake_ollama.requests) == 2

    held.pop().close()
    held.append(ask(client, max_streams=2))
    for stream in held:
        stream.close()


def test_places_are_counted_right_by_many_threads() -> None:
    """As many get a place as there are, however many come at once."""
    start = threading.Barrier(16)
    got: list[Place] = []

    def enter() -> None:
        start.wait()
        for _ in range(50):
            try:
                got.append(Place(environ(), 7))
            except ProblemError:
                pass

    threads = [threading.Thread(target=enter) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(got), streams()) == (7, 7)
    for place in got:
        place.free()
        place.free()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # that there are threads is the point
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_p12_a_forked_child_has_all_of_its_places() -> None:
    """The parent's streams are not the child's."""
    place = Place(environ())
    child = os.fork()
    if not child:
        os._exit(streams())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert streams() == 1
    place.free()


# -- what the server tells ---------------------------------------------------------------------------------------------


class _Config:
    threads = 8
    worker_class_str = "gthread"


class _Worker:
    cfg = _Config()

    def handle_exit(self, *_: object) -> None:
        """What a worker does when it is to stop."""


def test_an_unknown_server_has_no_limit() -> None:
    """Nothing is assumed of a server that tells nothing."""
    assert wsgi_servers.most_streams(environ()) is None


@pytest.mark.parametrize(
    ("kind", "most"), [("gthread", 7), ("gunicorn.workers.gthread.ThreadWorker", 7), ("sync", None)]
)
def test_gunicorns_threads(monkeypatch: pytest.MonkeyPatch, kind: str, most: int | None) -> None:
    """They are found by the handler of its signals; another kind of worker has none."""
    monkeypatch.setattr(_Config, "worker_class_str", kind)
    before = signal.signal(signal.SIGTERM, _Worker().handle_exit)
    try:
        assert wsgi_servers.most_streams(environ(**{"gunicorn.socket": None})) == most
    finally:
        signal.signal(signal.SIGTERM, before)


def test_gunicorn_with_other_handlers() -> None:
    """An application that handles the signals itself has to say how many streams there may be."""
    assert wsgi_servers.most_streams(environ(**{"gunicorn.socket": None})) is None


@pytest.mark.parametrize(
    ("argv", "variable", "most"),
    [
        (["granian", "--blocking-threads", "4", "app:app"], "", 3),
        (["granian", "--blocking-threads=1", "app:app"], "", 1),
        (["granian", "app:app"], "16", 15),
        (["granian", "--blocking-threads", "4"], "16", 3),
        (["granian", "app:app"], "", None),
        (["granian", "--blocking-threads", "x"], "", None),
    ],
)
def test_granians_threads(monkeypatch: pytest.MonkeyPatch, argv: list[str], variable: str, most: int | None) -> None:
    """They are on its command line or in its environment; the default, hundreds, is no limit."""
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.setenv("GRANIAN_BLOCKING_THREADS", variable)
    assert wsgi_servers.most_streams(environ(SERVER_SOFTWARE="Granian")) == most


def test_a_server_of_one_thread_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what does not work then, and what to do."""
    monkeypatch.setattr(wsgi_servers, "_warned", False)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Place(environ(**{"wsgi.multithread": False, "gunicorn.socket": None})).free()
        Place(environ()).free()
    assert ["gunicorn -k gthread --threads 16" in record.getMessage() for record in caplog.records] == [True]


def test_gunicorns_sync_worker_is_warned_of() -> None:
    """On the real server too: the answer comes, and the warning is in its log, once."""
    with serving("gunicorn", lambda port: gunicorn(port, "-k", "sync")) as served:
        for _ in range(2):
            with served.ask(say("ok")) as reader:
                assert text(reader.all()) == "ok"
        assert served.server.output.count("answers one request at a time") == 1


def test_the_end_of_a_connection_is_seen_without_reading_from_it() -> None:
    """A socket that the server hands out is looked at: what a client has sent meanwhile stays where it is."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        gone = wsgi_servers.gone(environ(**{"gunicorn.socket": ours}))
        assert not gone()
        theirs.sendall(b"next")
        assert not gone()
        assert ours.recv(4) == b"next"
        theirs.close()
        assert gone()


def test_sockets_that_cannot_be_looked_at() -> None:
    """Nothing is known of a connection that waits with a time-out, or is none: a send tells then."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.close()
        assert not wsgi_servers.gone(environ(**{"werkzeug.socket": ours}))()
        assert not wsgi_servers.gone(environ(**{"gunicorn.socket": io.BytesIO()}))()
        wsgi_servers.limit_sends(environ(**{"gunicorn.socket": ours}), 1.0)  # a Unix socket has no such option
