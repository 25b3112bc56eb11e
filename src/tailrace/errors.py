"""Everything tailrace raises, in one tree.

::

    TailraceError
    ├── RequestError (ValueError)         the request is not one: nothing was sent
    │   └── ClientClosedError (RuntimeError)  the client was closed before
    ├── ConnectionError (builtins.ConnectionError)  nothing answers: refused, no such host, TLS
    ├── ResponseError                     the server answered, and the answer is no
    │   ├── ModelNotFoundError            404: the server does not have the model
    │   ├── BusyError                     429 or 503: full for now
    │   ├── UnsupportedError              this upstream cannot do that
    │   └── NotModelServerError           a web page, a redirect elsewhere: wrong host or port
    ├── StreamError                       the answer began, or was due, and broke off
    │   ├── TruncatedError                the server closed without its final record
    │   ├── TimedOutError (TimeoutError)  a phase took longer than its limit
    │   ├── ProtocolError                 the server sent what its protocol does not allow
    │   ├── LogFullError                  the answer outgrew the memory that a run may take
    │   ├── EvictedError                  a reader came too late: what it wants is no longer kept
    │   └── OwnerLostError                the process or loop that talked to the model is gone
    ├── ModelError                        a model file is missing, broken or no model
    │   └── FetchError                    the default model could not be fetched
    ├── EngineError                       the embedded engine is not installed, or it crashed
    ├── ToolError                         a tool of the caller's failed, or the model did not stop calling tools
    └── StoreError                        conversations cannot be kept, or read, for now

Every error of a run carries what was generated until then as ``reply`` (see `tailrace.Reply`).

Programs written for ollama-python catch httpx's exceptions where that lets them out. Where httpx has been imported, a
`ConnectionError` is an ``httpx.ConnectError`` too, a `TimedOutError` an ``httpx.ReadTimeout``, a `TruncatedError` and a
`ProtocolError` an ``httpx.RemoteProtocolError``: the same ``except`` catches both. httpx is never imported for that.

This module imports nothing of the package, so that any layer may raise.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from typing import Any, ClassVar

__all__ = [
    "BusyError",
    "ClientClosedError",
    "ConnectionError",
    "EngineError",
    "EvictedError",
    "FetchError",
    "LogFullError",
    "ModelError",
    "ModelNotFoundError",
    "NotModelServerError",
    "OwnerLostError",
    "ProtocolError",
    "RequestError",
    "ResponseError",
    "StoreError",
    "StreamError",
    "TailraceError",
    "TimedOutError",
    "ToolError",
    "TruncatedError",
    "UnsupportedError",
]


class TailraceError(Exception):
    """Base of everything tailrace raises.

    Attributes:
        reply: what a run had generated when it ended, a `tailrace.Reply`; None outside runs.
        hint: what to do next, one line; empty if there is nothing to add.
        about: what is to be set right, in a word or two: ``key``, ``proxy``, ``certificate``, ``ollama`` …; empty where
            nothing of that kind is known.
    """

    reply: Any = None
    about: str = ""
    _httpx: ClassVar[str] = ""  # the exception of httpx that this is as well
    _request = None  # of httpx's exceptions

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        _join_httpx(type(self))
        super().__init__(message)
        self.hint = hint


def _join_httpx(cls: type[TailraceError]) -> None:
    """Makes a class one of httpx's exceptions too, once the program has imported httpx."""
    httpx = sys.modules.get("httpx")
    for kind in cls.__mro__ if httpx is not None else ():
        theirs = getattr(httpx, kind.__dict__.get("_httpx", ""), None)
        if theirs is not None and not issubclass(kind, theirs):
            with contextlib.suppress(TypeError):  # somebody's subclass that does not fit: it stays ours alone
                kind.__bases__ += (theirs,)


class RequestError(TailraceError, ValueError):
    """The request is not one (no model, an image that is none, an unknown tool form); nothing was sent.

    Attributes:
        error: the reason, as in ollama-python.
        http_status: what a web server of ours answers with.
    """

    http_status: ClassVar[int] = 400

    def __init__(self, error: str, *, hint: str = "") -> None:
        super().__init__(error, hint=hint)
        self.error = error


class ClientClosedError(RequestError, RuntimeError):
    """The client was closed, and is asked all the same; nothing was sent. A `RuntimeError` too, as httpx's is."""


class ConnectionError(TailraceError, builtins.ConnectionError):
    """Nothing answers at the upstream's address, or no connection can be made."""

    _httpx = "ConnectError"


class ResponseError(TailraceError):
    """The server answered with an error.

    Attributes:
        error: the server's own text.
        status_code: the HTTP status; -1 when the error came inside a stream whose status was 200.
    """

    def __init__(self, error: str, status_code: int = -1, *, hint: str = "") -> None:
        super().__init__(error, hint=hint)
        self.error = error
        self.status_code = status_code

    def __str__(self) -> str:
        return f"{self.error} (status code: {self.status_code})"


class ModelNotFoundError(ResponseError):
    """The server does not have the model (404)."""


class BusyError(ResponseError):
    """The server is full for now (429, 503).

    Attributes:
        retry_after: seconds the server asked us to wait; None if it did not say.
    """

    retry_after: float | None = None


class UnsupportedError(ResponseError):
    """This kind of upstream cannot do what was asked (501)."""


class NotModelServerError(ResponseError):
    """What answers is not a model server: a web page, or a redirect to another host."""


class StreamError(TailraceError):
    """An answer broke off, or never came."""


class TruncatedError(StreamError):
    """The server closed the stream without its final record."""

    _httpx = "RemoteProtocolError"


class TimedOutError(StreamError, builtins.TimeoutError):
    """A phase of a run took longer than its limit.

    Attributes:
        phase: ``connect``, ``first_token``, ``idle`` or ``total``.
    """

    phase: str = ""
    _httpx = "ReadTimeout"


class ProtocolError(StreamError):
    """The server sent what its protocol does not allow."""

    _httpx = "RemoteProtocolError"


class LogFullError(StreamError):
    """The answer is larger than what the log of a run may keep; what had come until then is kept."""


class EvictedError(StreamError):
    """A reader wants events that its run's log no longer keeps."""


class OwnerLostError(StreamError):
    """The process or event loop that talked to the model is gone, and nobody will end this run."""


class ModelError(TailraceError):
    """A model file is missing, truncated or not a GGUF file."""


class FetchError(ModelError):
    """The default model could not be fetched; nothing half-written is ever used."""


class ToolError(TailraceError):
    """A tool failed (its own exception is the cause), or the model did not stop calling tools.

    Attributes:
        call: the `tailrace.ToolCall` that failed; None if none did.
    """

    def __init__(self, message: str = "", *, hint: str = "", call: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.call = call


class EngineError(TailraceError):
    """The embedded engine is not installed, could not start, or crashed."""


class StoreError(TailraceError):
    """Conversations cannot be kept, or read, for now; runs go on.

    Attributes:
        reason: ``locked``, ``full``, ``readonly``, ``corrupt``, ``newer`` (made by a later tailrace), ``foreign`` (a
            database of another program), ``unreachable`` or ``failed`` (anything else).
    """

    def __init__(self, message: str, *, reason: str = "failed", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
