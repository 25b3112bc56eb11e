"""HTTP/1.1 on a connection, within bounds: what a server needs that stands behind no proxy.

A connection that sends no whole head in time is closed, and so is one whose head is too large; what is no HTTP is
answered with a problem. A connection that is open and silent costs a few kilobytes, and there are no more than so many.
HTTP/1.0 gets what it understands: a stream that ends where its connection does.

uvicorn makes one of these for each connection (``Config(http=…)``), whatever its version: nothing of its own protocols
is used, whose insides change.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httptools

from tailrace.gateway.server.request_cycle import STATUS_LINES, App, RawHeaders, RequestCycle, Scope
from tailrace.protocols.problems import MEDIA_TYPE, ProblemError
from tailrace.transport.io_batch import batch_of
from tailrace.web.direct_writer import DIRECT_WRITE

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.server import ServerState

__all__ = ["HttpProtocol", "limited"]

_HEAD_BYTES = 64 * 1024
_HEADERS = 200
_FRAMING = (b"content-length", b"transfer-encoding")
_WAITING = 64  # requests that wait behind one that is being answered
_LAST_WORDS = 2.0  # seconds that a peer gets to read why it was refused, while what it still sends is dropped
_DROPPED = 64 * 1024 * 1024  # bytes of that
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class HttpProtocol(asyncio.Protocol):
    """One connection.

    Args:
        config: uvicorn's.
        server_state: uvicorn's: the connections, the tasks that answer, and what heads each answer.
        app_state: what the application's start has left for its requests.

    Attributes:
        app: what answers.
        head_time: seconds that a request's head may take, from its first byte or from the connection's beginning.
        most: connections at once; more are closed at once.
        transport: of the connection.
        batch: collects the writes of one iteration of the loop, if it does so.
        writable: set once the client takes what is written; None while it does.
    """

    __slots__ = (
        *("_app_state", "_begun", "_client", "_cycle", "_deaf", "_expects", "_headers", "_idle", "_idling", "_last"),
        *("_loop", "_parser", "_progress", "_reads", "_scheme", "_server", "_state", "_timer", "_unframed", "_url"),
        *("_waiting", "app", "transport", "batch", "writable"),
    )
    head_time: ClassVar[float] = 10.0
    most: ClassVar[int] = 20_000
    transport: asyncio.Transport

    def __init__(
        self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any], _loop: object = None
    ) -> None:
        self.app = cast(App, config.loaded_app)
        self.writable: asyncio.Event | None = None
        self._state = server_state
        self._app_state = app_state
        self._idle = config.timeout_keep_alive
        self._loop = asyncio.get_running_loop()
        self.batch = batch_of(self._loop)
        self._deaf = False  # nothing that comes is of interest any more
        self._reads = True
        # The head that comes.
        self._parser: Any = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None  # runs while one is waited for
        self._idling = False  # nothing has come since the last answer
        self._begun = False  # something of it has come
        self._progress = False  # what came was a whole head, or some of a body
        self._unframed = 0  # bytes that came without any progress
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        # The requests.
        self._cycle: RequestCycle | None = None  # that is being answered
        self._last: RequestCycle | None = None  # that came last
        self._waiting: list[tuple[RequestCycle, Scope]] = []  # behind the one that is being answered

    # -- what the loop tells -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins to wait for a request."""
        self.transport = cast(asyncio.Transport, transport)
        self._server = _address(transport.get_extra_info("sockname"))
        self._client = _address(transport.get_extra_info("peername"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._state.connections.add(cast(Any, self))
        if len(self._state.connections) > self.most:
            self._refuse(503, "too many connections")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._state.connections.discard(cast(Any, self))
        self._calm()
        self._waiting.clear()
        cycle, self._cycle, self._last = self._cycle, None, None
        if cycle is not None:
            cycle.leave()
        self.resume_writing()
        self._parser = None  # which knows us: no circle is left to the collector

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        self.writable = asyncio.Event()
        if self._cycle is not None:
            self._cycle.pause()

    def resume_writing(self) -> None:
        """It does again, or never will."""
        if self.writable is not None:
            self.writable.set()
            self.writable = None
        if self._cycle is not None:
            self._cycle.resume()

    def data_received(self, data: bytes) -> None:
        """Takes bytes; what comes to no whole head, or is no body, may not grow for ever."""
        if self._deaf:
            self._unframed += len(data)
            if self._unframed > _DROPPED:
                self.transport.abort()
            return
        if self._idling:
            self._await_head()
        self._progress = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            self._refuse(400, "this is no HTTP request")
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is no HTTP request: {error}")
        else:
            self._unframed = 0 if self._progress else self._unframed + len(data)
            self._check_head(self._unframed)

    def _stay(self, rest: bytes) -> None:
        """Goes on with a request that offers to go over to HTTP/2, as Java's clients do: that is not spoken here.

        The parser takes what comes after the head for the other protocol's; but it is the body.
        """
        assert self._last is not None
        self._last.keep_alive = False
        framing = [(name, value) for name, value in self._headers if name in _FRAMING]
        self._parser = httptools.HttpRequestParser(_Body(self))
        if not framing:
            self.on_message_complete()
            return
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in framing))
        self.data_received(rest)

    # -- what the parser tells -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        if self._deaf:
            raise ValueError("refused")  # the parser stops there
        self._begun = True
        self._url = b""
        self._headers = []
        self._expects = False
        if self._timer is None:
            self._await_head()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody has asked for."""
        if self._begun:
            name = name.lower()
            self._expects = self._expects or (name == b"expect" and value.lower() == b"100-continue")
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._calm()
        self._begun = False
        self._progress = True
        self._check_head(len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers))
        if len(self._headers) > _HEADERS:
            self._refuse(431, f"the request has more than {_HEADERS} headers")
        if not self._url.startswith((b"/", b"*")) and not self._is_for_host():
            self._refuse(400, "the request's target is another host than its Host header")
        if len(self._waiting) == _WAITING:
            self._hear_no_more()
        if self._deaf:
            raise ValueError("refused")
        self._take_request()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._progress = True
        assert self._last is not None
        if self._last.take_body(body):
            return
        if self._last is self._cycle:
            self.pause_reading()
        else:  # a large one that has to wait: if it were not read, the client's leaving would not be seen
            self._waiting.pop()
            self._last = self._waiting[-1][0] if self._waiting else self._cycle
            self._hear_no_more()

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self._parser.should_upgrade():
            return  # it is the end of the head only
        self._progress = True
        assert self._last is not None
        self._last.end_body()
        if not self._last.keep_alive:
            self._deaf = True

    def _is_for_host(self) -> bool:
        """A target may name the host as well, as to a proxy; what is checked later is the header."""
        host = self._url.partition(b"://")[2].partition(b"/")[0]
        return [host.lower()] == [value.lower() for name, value in self._headers if name == b"host"]

    def _take_request(self) -> None:
        parser = self._parser
        version = parser.get_http_version()
        url = httptools.parse_url(self._url)
        cycle = RequestCycle(
            self,
            method := parser.get_method().decode("ascii"),
            version,
            keep_alive=parser.should_keep_alive(),
            expects=self._expects,
        )
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": method,
            "root_path": "",
            "path": urllib.parse.unquote(url.path.decode("ascii")),
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self._headers,
            "state": self._app_state.copy(),
        }
        if version == "1.1":
            scope[DIRECT_WRITE] = cycle
        self._last = cycle
        if self._cycle is None:
            self._answer(cycle, scope)
        else:
            self._waiting.append((cycle, scope))

    # -- for the requests ----------------------------------------------------------------------------------------

    @property
    def default_headers(self) -> RawHeaders:
        """Of every answer."""
        return self._state.default_headers

    def pause_reading(self) -> None:
        """Takes no more of what the client sends."""
        if self._reads:
            self._reads = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Takes it again."""
        if not self._reads:
            self._reads = True
            self.transport.resume_reading()

    def answered(self, cycle: RequestCycle) -> None:
        """An answer is complete: the next one's turn, or the end."""
        if self.transport.is_closing():
            return
        self._cycle = None
        self.resume_reading()
        if not cycle.keep_alive:
            if cycle.more_body:
                self._end()
            else:
                self._deaf = True
                self.transport.close()
        elif self._waiting:
            self._answer(*self._waiting.pop(0))
        elif self._timer is None:
            self._idling = True
            self._timer = self._loop.call_later(self._idle, self.transport.close)

    def _answer(self, cycle: RequestCycle, scope: Scope) -> None:
        self._cycle = cycle
        tasks = self._state.tasks
        task = self._loop.create_task(cycle.run(self.app, scope))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # -- limits and the end --------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """The server ends: no further request is answered."""
        if self._cycle is None:
            self.transport.close()
        else:
            self._cycle.keep_alive = False

    def _await_head(self) -> None:
        self._calm()
        self._unframed = 0
        self._timer = self._loop.call_later(self.head_time, self._too_slow)

    def _calm(self) -> None:
        self._idling = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_head(self, size: int) -> None:
        if size > _HEAD_BYTES:
            self._refuse(431, f"the head of the request is larger than {_HEAD_BYTES:,} bytes")

    def _too_slow(self) -> None:
        self._timer = None
        if self._cycle is not None:  # the beginning of another request, behind one that is being answered
            self._hear_no_more()
        elif self._begun:
            self._refuse(408, f"no whole request came within {self.head_time:g} s")
        else:
            self.transport.close()  # it never asked for anything

    def _hear_no_more(self) -> None:
        """Answers no request but those that came."""
        self._deaf = True
        if self._last is not None:
            self._last.keep_alive = False

    def _refuse(self, status: int, why: str) -> None:
        if self._deaf or self.transport.is_closing():
            return
        cycle = self._cycle
        if cycle is not None:
            if cycle.started or self._waiting:  # in the middle of one answer is no place for another
                self._deaf = True
                self.transport.abort()
                return
            cycle.leave()  # whatever the application makes of the half of a request
        body = ProblemError(status, why).body
        fields = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINES[status] + fields.encode() + body)
        self._end()

    def _end(self) -> None:
        """Closes the connection, though something may still come.

        Not at once: the system would answer that with a reset, which overtakes what was written.
        """
        self._deaf = True
        self._calm()
        self.transport.write_eof()
        self._timer = self._loop.call_later(_LAST_WORDS, self.transport.abort)


class _Body:
    """What a parser tells a connection that waits for a body and nothing else."""

    def __init__(self, connection: HttpProtocol) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete


def limited(*, head_time: float, most: int) -> type[HttpProtocol]:
    """Returns the protocol with these limits."""
    return type("HttpProtocol", (HttpProtocol,), {"__slots__": (), "head_time": head_time, "most": most})


def _address(found: object) -> tuple[str, int] | None:
    """Returns host and port, of what a transport tells; a socket in a folder has none."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
