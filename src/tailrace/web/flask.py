"""Flask: a response for an endpoint of yours, and a blueprint that has the endpoints already.

    from tailrace.web.flask import StreamResponse, chat_blueprint

    @app.post("/ask")
    def ask():
        return StreamResponse(client.chat("qwen3:0.6b", request.json["messages"], stream=True))

    app.register_blueprint(chat_blueprint())         # POST /chat/stream, and reading on, and stopping

See `tailrace.web.wsgi` for threads: a stream holds one as long as it lives.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable
from typing import Any

import msgspec

from tailrace.client.default import default_client
from tailrace.client.streams import SyncStream
from tailrace.client.sync import Client
from tailrace.errors import TailraceError
from tailrace.protocols.problems import MEDIA_TYPE, ProblemError, problem_of
from tailrace.protocols.runs.requests import RunRequest, parse, size_of
from tailrace.run.run import Run
from tailrace.web.bodies import MAX_BODY, Body, check_media_type
from tailrace.web.cursors import cursors_of, reading
from tailrace.web.registry import Bounds, Registry
from tailrace.web.requests import DefaultModel, chat_sync
from tailrace.web.source import Source, plain_feed
from tailrace.web.starting import start as start_run
from tailrace.web.stopping import Stopped, stop_sync
from tailrace.web.stream_settings import OnLeave, StreamSettings, linger_of
from tailrace.web.wsgi import WSGI_SETTINGS, EventStream, Place, frames

try:
    from flask import Blueprint, Response, request, url_for
except ImportError as error:
    raise ImportError("tailrace.web.flask needs Flask: pip install 'tailrace[flask]'", name=error.name) from error

__all__ = ["StreamResponse", "chat_blueprint"]


class StreamResponse(Response):
    """A stream as the tutorial's server-sent events: what a view returns.

    When the server has no thread left for it, it is a 503 with ``Retry-After`` instead, and nothing is asked of the
    model.

    Args:
        stream: what ``chat(…, stream=True)`` of a synchronous client returned.
        on_leave: what becomes of the run when its reader leaves: ``"cancel"``, ``"continue"``, or seconds to wait for
            a reader to come back.
        headers: further response headers.
        max_streams: how many streams this process may have at once; None: the server's threads but one, where they
            are known.
        stream_settings: pings and limits.

    Raises:
        ValueError: `on_leave` is no policy.
    """

    def __init__(
        self,
        stream: SyncStream[Any],
        *,
        on_leave: OnLeave = "cancel",
        headers: Iterable[tuple[str, str]] = (),
        max_streams: int | None = None,
        stream_settings: StreamSettings = WSGI_SETTINGS,
    ) -> None:
        try:
            events = frames(
                stream, request.environ, on_leave=on_leave, max_streams=max_streams, stream_settings=stream_settings
            )
        except ProblemError as error:
            super().__init__(error.body, error.status, error.headers, content_type=MEDIA_TYPE)
        else:
            super().__init__(events, headers=[*events.headers, *headers])


class _Chat:
    """What the requests of one blueprint share."""

    def __init__(self, client: Client | None, bounds: Bounds) -> None:
        self._client = client
        self.runs = Registry(bounds)
        self.default = DefaultModel()

    @functools.cached_property
    def client(self) -> Client:
        """The client, made at the first request: at import, before a server forks, nothing happens."""
        client = copy.copy(self._client or default_client())
        client.new_log = self.runs.new_log
        return client

    def start(
        self, asked: RunRequest, linger: float | None, place: Place, stream_settings: StreamSettings
    ) -> tuple[Run, EventStream]:
        """Starts a run and its first reader."""
        self.runs.check_room()

        def read(run: Run) -> tuple[Run, EventStream]:
            return run, EventStream(run, Source(plain_feed(run)), place, stream_settings=stream_settings)

        run, events = start_run(chat_sync(self.client, asked, self.default), linger, read)
        return self.runs.add(run, asked=size_of(asked)), events


def chat_blueprint(
    client: Client | None = None,
    *,
    model: str = "",
    system: str | None = None,
    path: str = "/chat/stream",
    on_leave: OnLeave = "cancel",
    max_streams: int | None = None,
    max_body: int = MAX_BODY,
    bounds: Bounds | None = None,
    stream_settings: StreamSettings = WSGI_SETTINGS,
    name: str = "tailrace",
) -> Blueprint:
    """Returns a blueprint with the tutorial's ``POST /chat/stream``, and more.

    ``POST`` takes the message as ``?message=``, or JSON: ``message`` or ``messages``, and ``model``, ``system``,
    ``options``, ``think``, ``format``, ``tools``, ``keep_alive``, ``linger``. ``GET PATH/RUN`` reads on after the event
    that ``Last-Event-ID`` or ``?after=`` names; ``DELETE PATH/RUN`` stops the model and answers when it has let go. The
    run's path is the ``Location`` of the first answer. Runs live in the process that started them.

    A reader that knows nothing of reading on cannot come back, so that its leaving stops the model. One that can, asks
    for time to do so: ``"linger": 30`` in its request, or ``on_leave=30`` here, for all.

    Args:
        client: talks to the model server; default: the one behind `tailrace.chat`.
        model: the model when a request names none; empty: the upstream's default.
        system: the system prompt when a request has none.
        path: where the endpoints are.
        on_leave: what becomes of a run when its reader leaves, unless its request says so by ``linger``: ``"cancel"``,
            ``"continue"``, or seconds to wait for a reader to come back.
        max_streams: how many streams this process may have at once; None: the server's threads but one, where they
            are known (gunicorn's gthread, waitress, granian with ``--blocking-threads``), else no limit.
        max_body: bytes of a request.
        bounds: how many runs are kept, how much of them, and how long.
        stream_settings: pings and limits.
        name: of the blueprint; two in one application need two.

    Raises:
        ValueError: `on_leave` is no policy.
    """
    linger = linger_of(on_leave)
    chat = _Chat(client, bounds or Bounds())
    blueprint = Blueprint(name, __name__)
    one = f"{path.rstrip('/')}/<run_id>"

    @blueprint.post(path)
    def start() -> Response:
        asked = _asked(max_body, model, system)
        place = Place(request.environ, max_streams)
        seconds = linger if asked.linger is msgspec.UNSET else asked.linger
        try:
            run, events = chat.start(asked, seconds, place, stream_settings)
        except BaseException:
            place.free()
            raise
        where = url_for(f"{request.blueprint}.read_on", run_id=run.id)
        return Response(events, headers=[*events.headers, ("Location", where)])

    @blueprint.get(one)
    def read_on(run_id: str) -> Response:
        run = chat.runs.get(run_id)
        source = reading(
            run, cursors_of(request.headers.getlist("Last-Event-ID"), request.args.getlist("after")), wire="plain"
        )
        if source is None:
            return Response(status=204)
        events = EventStream(run, source, Place(request.environ, max_streams), stream_settings=stream_settings)
        return Response(events, headers=events.headers)

    @blueprint.delete(one)
    def stop(run_id: str) -> Response:
        return _json(stop_sync(chat.runs.get(run_id)))

    @blueprint.errorhandler(ProblemError)
    @blueprint.errorhandler(TailraceError)
    def problem(error: Exception) -> Response:
        told = problem_of(error)
        return Response(told.body, told.status, told.headers, content_type=MEDIA_TYPE)

    return blueprint


def _asked(max_body: int, model: str, system: str | None) -> RunRequest:
    """Returns what the request asks for.

    Raises:
        ProblemError: it is too large, or is no request.
    """
    asked = parse(_body(max_body), request.args)
    if asked.prompt is not None:
        raise ProblemError(400, "this route takes a message or messages")
    asked.model = asked.model or model
    asked.system = asked.system or system
    return asked


def _body(limit: int) -> bytes:
    body = Body(limit, str(request.content_length or ""), close=False)
    body.add(request.stream.read(limit + 1))
    if body.size:
        check_media_type(request.mimetype)
    return body.take()


def _json(value: Stopped) -> Response:
    return Response(msgspec.json.encode(value), headers={"Cache-Control": "no-store"}, content_type="application/json")
