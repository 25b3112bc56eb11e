"""HTTP/1.1 on a connection, within bounds: what a server needs that stands behind no proxy.

A connection that sends no whole head in time is closed, and so is one whose head is too large, or that takes nothing of
what is written to it for long; what is no HTTP/1.1 or 1.0 is answered with a problem. A connection that is open and
silent costs a few kilobytes, and there are no more than so many. HTTP/1.0 gets what it understands: a stream that ends
where its connection does.

The parser is llhttp. What it leaves to its user is done here (RFC 9112): versions and transfer codings that are not
spoken, trailers, which are dropped, and the size of everything. Nothing that comes behind a request keeps the
connection from being read: otherwise nobody would see the client leave.

uvicorn makes one of these for each connection (``Config(http=…)``), whatever its version: nothing of its own protocols
is used, whose insides change.
"""

from __future__ import annotations

import asyncio
import re
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
_HEADERS = 200  # of a request, and as many trailers
_FRAMING_BYTES = 64 * 1024  # chunk sizes, their extensions and trailers, beyond the following
_A_BYTE = 2  # bytes that may come for each byte of a body, itself included: small chunks cost most to read
_VERSIONS = ("1.1", "1.0")
_FRAMING = (b"content-length", b"transfer-encoding")
_WAITING = 64  # requests that wait behind one that is being answered
_WAITING_BYTES = 128 * 1024  # of them, heads and bodies
_LAST_WORDS = 2.0  # seconds that a peer gets to read why it was refused, while what it still sends is dropped
_DROPPED = 64 * 1024 * 1024  # bytes of that
_SCHEMES = (b"http", b"https")
_AUTHORITY_END = re.compile(rb"[/?#]")
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
        write_time: seconds after which a client that takes nothing of what was written is let go.
        transport: of the connection.
        batch: collects the writes of one iteration of the loop, if it does so.
        writable: set once the client takes what is written; None while it does.
    """

    __slots__ = (
        *("_app_state", "_begun", "_client", "_cycle", "_deaf", "_expects", "_framing", "_headers", "_held", "_idle"),
        *("_idling", "_last", "_loop", "_parser", "_reads", "_scheme", "_server", "_stalled", "_state", "_timer"),
        *("_trailers", "_unwritten", "_url", "_waiting", "app", "transport", "batch", "writable"),
    )
    head_time: ClassVar[float] = 10.0
    most: ClassVar[int] = 20_000
    write_time: ClassVar[float] = 60.0
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
        self._framing = 0  # bytes that have come of a head, or around a body
        self._trailers = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects = False
        # The requests.
        self._cycle: RequestCycle | None = None  # that is being answered
        self._last: RequestCycle | None = None  # that came last
        self._waiting: list[tuple[RequestCycle, Scope]] = []  # behind the one that is being answered
        self._held = 0  # bytes of those
        # What is written.
        self._stalled: asyncio.TimerHandle | None = None  # while the client does not take it
        self._unwritten = 0  # bytes, when that was looked at last

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

    def eof_received(self) -> None:
        """The client sends no more: it has left, though what was written may not be on its way yet."""
        self._waiting.clear()
        if self._cycle is not None:
            self._cycle.leave()

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
        self._watch_writing()
        if self._cycle is not None:
            self._cycle.pause()

    def resume_writing(self) -> None:
        """It does again, or never will."""
        if self.writable is not None:
            self.writable.set()
            self.writable = None
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._cycle is not None:
            self._cycle.resume()

    def _watch_writing(self) -> None:
        self._unwritten = self.transport.get_write_buffer_size()
        self._stalled = self._loop.call_later(self.write_time, self._look_at_writing)

    def _look_at_writing(self) -> None:
        """Lets go of a client that has taken nothing: its answer would be kept for as long as it likes."""
        if self.transport.get_write_buffer_size() < self._unwritten:
            self._watch_writing()
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Takes bytes; what comes to no whole head, or is no body, may not grow for ever."""
        self._framing += len(data)
        if self._deaf:
            if self._framing > _DROPPED:
                self.transport.abort()
            return
        if self._idling:
            self._await_head()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            self._refuse(400, "this is no HTTP request")
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is no HTTP request: {error}")
        else:
            self._check_framing()

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
        self._framing = 0
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
        """A header; or a trailer, which nobody has asked for, and which never is a header (RFC 9110, 6.5.1)."""
        if self._begun:
            name = name.lower()
            self._expects = self._expects or (name == b"expect" and value.lower() == b"100-continue")
            self._headers.append((name, value))
            return
        self._trailers += 1
        if self._trailers > _HEADERS:
            self._refuse(431, f"the request has more than {_HEADERS} trailers")
            raise ValueError("refused")

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._calm()
        self._begun = False
        self._framing = self._trailers = 0
        size = len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)
        self._check_head(size)
        if len(self._headers) > _HEADERS:
            self._refuse(431, f"the request has more than {_HEADERS} headers")
        version = self._parser.get_http_version()
        self._check_version(version)
        if self._url != b"*" and not self._url.startswith(b"/") and not self._is_for_host():
            self._refuse(400, "the request's target is not of the host in its Host header")
        if self._waiting and (len(self._waiting) == _WAITING or self._held + size > _WAITING_BYTES):
            self._hear_no_more()
        if self._deaf:
            raise ValueError("refused")
        self._take_request(version, size)

    def _check_version(self, version: str) -> None:
        """Refuses what is spoken by nobody who is to be answered, and bodies that are coded in ways not known here."""
        if version not in _VERSIONS:
            self._refuse(400, f"HTTP/{version} is not spoken here")
        coded = [value.strip(b" \t").lower() for name, value in self._headers if name == b"transfer-encoding"]
        if coded and version == "1.0":  # whose framing is not to be trusted (RFC 9112, 6.1)
            self._refuse(400, "HTTP/1.0 has no Transfer-Encoding")
        elif coded and not coded[-1].endswith(b"chunked"):
            self._refuse(400, "a body whose last transfer coding is not chunked has no end")
        elif coded and coded != [b"chunked"]:
            self._refuse(400, "no transfer coding but chunked is understood here")

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._framing = max(0, self._framing - _A_BYTE * len(body))
        last = self._last
        assert last is not None
        room = last.take_body(body)
        if last is self._cycle:
            if not room:
                self.pause_reading()
        elif not last.complete:
            last.held += len(body)
            self._held += len(body)
            if self._held > _WAITING_BYTES or not room:  # it is let go of: if it were not read, no more would be
                self._drop_last()

    def _drop_last(self) -> None:
        """Forgets the last request, which waits and is too large for that."""
        cycle, _ = self._waiting.pop()
        self._held -= cycle.held
        self._last = self._waiting[-1][0] if self._waiting else self._cycle
        self._hear_no_more()

    def on_message_complete(self) -> None:
        """The end of a request."""
        if self._parser.should_upgrade():
            return  # it is the end of the head only
        self._framing = 0
        assert self._last is not None
        self._last.end_body()
        if not self._last.keep_alive:
            self._deaf = True

    def _is_for_host(self) -> bool:
        """A target may name the host as well, as to a proxy; what is checked later is the header."""
        scheme, _, rest = self._url.partition(b"://")
        if scheme.lower() not in _SCHEMES:
            return False
        host = _AUTHORITY_END.split(rest, maxsplit=1)[0]
        return [host.lower()] == [value.lower() for name, value in self._headers if name == b"host"]

    def _take_request(self, version: str, size: int) -> None:
        parser = self._parser
        url = httptools.parse_url(self._url)
        cycle = RequestCycle(
            self,
            method := parser.get_method().decode("ascii"),
            version,
            keep_alive=parser.should_keep_alive(),
            expects=self._expects,
        )
        path = url.path or b"/"  # an absolute target may have none
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": method,
            "root_path": "",
            "path": urllib.parse.unquote(path.decode("ascii")),
            "raw_path": path,
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
            cycle.held = size
            self._held += size
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
            following, scope = self._waiting.pop(0)
            self._held -= following.held
            self._answer(following, scope)
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
        self._timer = self._loop.call_later(self.head_time, self._too_slow)

    def _calm(self) -> None:
        self._idling = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_head(self, size: int) -> None:
        if size > _HEAD_BYTES:
            self._refuse(431, f"the head of the request is larger than {_HEAD_BYTES:,} bytes")

    def _check_framing(self) -> None:
        if self._begun or self._last is None:
            self._check_head(self._framing)
        elif self._framing > _FRAMING_BYTES:
            self._refuse(431, f"trailers and chunk extensions are larger than {_FRAMING_BYTES:,} bytes")

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
        if cycle is not None and not cycle.more_body:  # what is wrong comes behind it
            if self._last is not None and self._last.more_body:
                self._drop_last()
            self._hear_no_more()
            return
        if cycle is not None:
            if cycle.started:  # in the middle of one answer is no place for another
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


def limited(*, head_time: float, most: int, write_time: float = HttpProtocol.write_time) -> type[HttpProtocol]:
    """Returns the protocol with these limits."""
    limits = {"head_time": head_time, "most": most, "write_time": write_time}
    return type("HttpProtocol", (HttpProtocol,), {"__slots__": (), **limits})


def _address(found: object) -> tuple[str, int] | None:
    """Returns host and port, of what a transport tells; a socket in a folder has none."""
    return (str(found[0]), int(found[1])) if isinstance(found, tuple) else None
