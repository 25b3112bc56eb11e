"""What both clients share: resolving the upstream, and turning a call into a run or a single request."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tailrace.backends.base import Backend
from tailrace.backends.resolve import Resolver
from tailrace.client.continuing import Continuation
from tailrace.client.limits import limit_of
from tailrace.client.requests import keep_alive_of, messages_of, model_of, options_of, without_none
from tailrace.client.unsupported import refuse
from tailrace.errors import ClientClosedError, ProtocolError, RequestError, TimedOutError
from tailrace.events import Queued
from tailrace.run.exchange import Exchange, Opener, Report
from tailrace.run.log import MemoryLog
from tailrace.run.run import Observer, Run
from tailrace.run.timeouts import Timeouts
from tailrace.types import (
    ChatRequest,
    ContinueRequest,
    EmbedResponse,
    GenerateRequest,
    ListResponse,
    ProcessResponse,
    ShowResponse,
    plain,
)

__all__ = ["UNSET", "BaseClient", "Headers", "create_body", "now"]

T = TypeVar("T")

Headers = Mapping[str, str | None] | Sequence[tuple[str, str]] | None
"""Headers by name; None as a value takes one away that the client would send."""

_WEB = "https://ollama.com/api"
_BLOB_CHUNK = 256 * 1024


class _Unset:
    """Marks that no timeout was given: then the defaults apply, while None means no limits."""

    def __repr__(self) -> str:
        return "default limits"


UNSET = _Unset()

Observe = Callable[[ChatRequest | GenerateRequest, Callable[[], Backend | None]], Observer]
"""Returns the observer of a request's run; the second argument returns its backend, once that is known."""


class BaseClient:
    """What both clients are made of: the upstream, the limits, and how a call becomes a run.

    `Client` and `AsyncClient` document the arguments.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        follow_redirects: bool = True,
        timeout: Any = UNSET,
        headers: Headers = None,
        api_key: str | None = None,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        cert: Any = None,
        auth: Any = None,
        cookies: Any = None,
        params: Any = None,
        proxy: Any = None,
        trust_env: bool = True,
        limits: Any = None,
        **unsupported: Any,
    ) -> None:
        from tailrace.transport.options import HttpOptions, header_names

        refuse(type(self).__name__, unsupported)
        self._closed = False
        self._limit = limit_of(limits)
        options = HttpOptions.of(
            verify=verify,
            cert=cert,
            proxy=proxy,
            trust_env=trust_env,
            follow_redirects=follow_redirects,
            auth=auth,
            cookies=cookies,
            params=params,
        )
        self.timeouts = Timeouts() if timeout is UNSET else Timeouts.of(timeout)
        self._resolver = Resolver(
            host,
            headers=header_names(headers),
            api_key=api_key,
            options=options,
            connect=self.timeouts.connect,
        )
        self.observe: Observe | None = None
        self.new_log: Callable[[], MemoryLog] = MemoryLog  # a gateway keeps its runs' logs within bounds

    @property
    def upstream(self) -> str:
        """The upstream, as far as it is known without a request; ``auto`` before the first call."""
        backend = self._resolver.known
        return backend.url if backend is not None else "auto"

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    def known_backend(self) -> Backend | None:
        """Returns the backend, if it is known without a request."""
        return self._resolver.known

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError(
                "this client is closed", hint="make a new one, or do what is left to do within its `with` block"
            )

    async def _backend(self, headers: Headers = None) -> Backend:
        """Returns the backend, with the headers of a call."""
        self._check_open()
        changed = _named(headers)
        backend = await self._resolver.get()
        return backend.with_headers(changed) if changed else backend

    async def backend(self) -> Backend:
        """Returns the backend, for callers that forward requests unchanged."""
        return await self._backend()

    # -- runs ----------------------------------------------------------------------------------------------------

    def _run(self, open: Opener, model: str) -> Run:
        self._check_open()
        return Run(open, model=model, timeouts=self.timeouts, log=self.new_log())

    def opener(self, request: ChatRequest | GenerateRequest, headers: Headers = None) -> Opener:
        """Returns the opener for a request, for callers that create the run themselves.

        Args:
            request: the request.
            headers: sent with it, beside the client's own.
        """
        _named(headers)

        async def open(report: Report) -> Exchange:
            backend = await self._backend(headers)
            if isinstance(request, ContinueRequest):
                return await backend.continue_chat(request)(report)
            opener = backend.chat(request) if isinstance(request, ChatRequest) else backend.generate(request)
            return await opener(report)

        return self._within_limit(open)

    def _within_limit(self, open: Opener) -> Opener:
        """Returns an opener that waits for a place if there are only so many connections."""
        limit = self._limit
        if limit is None:
            return open

        async def when_there_is_a_place(report: Report) -> Exchange:
            await limit.enter(lambda: report(Queued()))
            try:
                return limit.counted(await open(report))
            except BaseException:
                limit.leave()
                raise

        return when_there_is_a_place

    def _request_run(self, request: ChatRequest | GenerateRequest, headers: Headers = None) -> Run:
        run = self._run(self.opener(request, headers), request.model)
        if self.observe is not None:
            run.observer = self.observe(request, self.known_backend)
        return run

    def _chat_run(self, request: ChatRequest, headers: Headers = None) -> tuple[Run, Continuation]:
        def again(request: ChatRequest) -> tuple[Run, Continuation]:
            return self._chat_run(request, headers)

        return self._request_run(request, headers), Continuation(request, again)

    def _generate_run(self, request: GenerateRequest, headers: Headers = None) -> Run:
        return self._request_run(request, headers)

    def progress_run(
        self, operation: str, body: dict[str, Any], log: MemoryLog | None = None, *, headers: Headers = None
    ) -> Run:
        """Returns a run of ``pull``, ``push`` or ``create``, for callers that manage runs themselves."""
        self._check_open()
        _named(headers)

        async def open(report: Report) -> Exchange:
            return await (await self._backend(headers)).progress(operation, body)(report)

        model = model_of(body.get("model"))
        # Nothing is sent for a long time while the digest of a large model is checked.
        limits = msgspec.structs.replace(self.timeouts, idle=self.timeouts.first_token)
        return Run(self._within_limit(open), model=model, timeouts=limits, log=log)

    # -- single answers ------------------------------------------------------------------------------------------

    async def _answer(self, asking: Coroutine[Any, Any, T], *, by_model: bool = False) -> T:
        """Waits for a single answer.

        Args:
            asking: the request.
            by_model: a model works for it, so that it may take as long as a first token, before which nothing comes
                either.

        Raises:
            TimedOutError: it does not come in time.
        """
        try:
            async with self._limited(by_model=by_model):
                return await asking
        finally:
            asking.close()  # if there was no place for it

    @contextlib.asynccontextmanager
    async def _limited(self, *, by_model: bool) -> AsyncIterator[Callable[[], None]]:
        """Limits what is done within the block; yields a function that gives it all the time anew."""
        import asyncio

        backend = self.known_backend()
        if backend is not None and backend.kind == "embedded":
            by_model = True  # the engine is started by whatever is asked first, and may fetch its model
        phases = ("first_token", "total") if by_model else ("answer", "first_token", "total")
        limits = [(limit, phase) for phase in phases if (limit := getattr(self.timeouts, phase)) is not None]
        seconds, phase = min(limits, default=(None, ""))
        scope = asyncio.timeout(seconds)

        def anew() -> None:
            if seconds is not None:
                scope.reschedule(asyncio.get_running_loop().time() + seconds)

        try:
            async with scope, self._limit.place() if self._limit is not None else contextlib.nullcontext():
                yield anew
        except TimeoutError:
            if not scope.expired():
                raise
            hint = f"raise it with timeout=Timeouts({phase}=SECONDS)"
            backend = self._resolver.known
            where = f"{self.upstream} {backend.way() if backend is not None else ''}".rstrip()
            late = TimedOutError(f"{where} did not answer within {seconds:g} s", hint=hint)
            late.phase = phase
            raise late from None

    async def pass_on(self, method: str, path: str, body: Any = None, *, by_model: bool = False) -> bytes:
        """Sends a request of the server's own API within the limits of a single answer; returns a success's body.

        For callers that forward requests unchanged. `by_model` says that a model works for it.
        """
        return await self._answer((await self._backend()).call(method, path, body), by_model=by_model)

    async def _post(
        self,
        path: str,
        body: dict[str, Any],
        kind: type[T],
        method: str = "POST",
        headers: Headers = None,
        *,
        by_model: bool = False,
    ) -> T:
        if "model" in body:
            model_of(body["model"])
        asking = (await self._backend(headers)).call(method, path, without_none(body))
        data = await self._answer(asking, by_model=by_model)
        return _decoded(data or b"{}", kind, self.upstream)

    async def _list(self, headers: Headers = None) -> ListResponse:
        return await self._answer((await self._backend(headers)).list())

    async def _ps(self, headers: Headers = None) -> ProcessResponse:
        return await self._answer((await self._backend(headers)).ps())

    async def _show(self, model: str, headers: Headers = None) -> ShowResponse:
        return await self._answer((await self._backend(headers)).show(model_of(model)))

    async def _default_model(self, headers: Headers = None) -> str:
        """Returns the model that is meant when none is named."""
        named = os.environ.get("TAILRACE_MODEL", "").strip()
        backend = await self._backend(headers)
        if named:
            return named
        if backend.kind == "embedded":
            from tailrace.backends.embedded.models import DEFAULT_MODEL

            path = backend.url.removeprefix("embedded:")
            return Path(path).name if path else DEFAULT_MODEL
        loaded = (await self._ps(headers)).models if backend.kind == "ollama" else []
        names = [entry.model or entry.name or "" for entry in loaded]
        if not any(names):
            listed = (await self._list(headers)).models
            able = [entry for entry in listed if not entry.capabilities or "completion" in entry.capabilities]
            names = [entry.model or entry.name or "" for entry in able]
        found = next(filter(None, names), "")
        if not found:
            raise RequestError(f"{backend.url} has no model", hint="get one, for example `ollama pull qwen3:0.6b`")
        return found

    async def _version(self, headers: Headers = None) -> str:
        return await self._answer((await self._backend(headers)).version())

    async def _embed(self, *, headers: Headers = None, **body: Any) -> EmbedResponse:
        return await self.embed_body(body, headers)

    async def embed_body(self, body: Mapping[str, Any], headers: Headers = None) -> EmbedResponse:
        """Returns embeddings, for callers that have a body with more in it than `embed` takes."""
        model_of(body.get("model"))
        values = create_body(body)
        return await self._answer((await self._backend(headers)).embed(values), by_model=True)

    async def _create_blob(self, path: str | os.PathLike[str], headers: Headers = None) -> str:
        import asyncio
        import hashlib

        def digest() -> str:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        name = f"sha256:{await asyncio.to_thread(digest)}"
        backend = await self._backend(headers)
        async with self._limited(by_model=True) as anew:  # from block to block: a large file takes long

            async def content() -> AsyncIterator[bytes]:
                with Path(path).open("rb") as file:  # noqa: ASYNC230  (opening is quick; reading is on a thread)
                    while block := await asyncio.to_thread(file.read, _BLOB_CHUNK):
                        anew()
                        yield block

            await backend.call("POST", f"/api/blobs/{name}", content())
        return name

    def _bearer(self, what: str, headers: Headers = None) -> None:
        self._check_open()
        value = _named(headers).get("authorization") or self._resolver.authorization() or ""
        if not value.startswith("Bearer "):
            raise ValueError(f"Authorization header with Bearer token is required for {what}")

    async def _web(self, path: str, body: dict[str, Any], kind: type[T], headers: Headers = None) -> T:
        asking = self._resolver.post_absolute(f"{_WEB}/{path}", body, _named(headers))
        return _decoded(await self._answer(asking), kind, _WEB)


def _named(headers: Headers) -> dict[str, str | None]:
    """Returns the headers of a call by their names in lower case.

    Raises:
        RequestError: one cannot be sent.
    """
    if headers is None:
        return {}
    from tailrace.transport.options import header_names

    return header_names(headers)


def _decoded(data: bytes, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{where} answered with something unexpected: {error}") from error


_FORMS: dict[str, Callable[[Any], Any]] = {
    "messages": messages_of,
    "options": options_of,
    "parameters": options_of,
    "keep_alive": keep_alive_of,
}


def create_body(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the body of a request as JSON types, without what is not set; ``from`` is a word of Python's.

    Raises:
        RequestError: something in it has no form that could be sent.
    """
    body: dict[str, Any] = {}
    for name, value in without_none(values).items():
        try:
            body["from" if name == "from_" else name] = _FORMS.get(name, plain)(value)
        except TypeError as error:
            raise RequestError(f"{name} holds something that has no form in JSON: {error}") from error
    return body


def now() -> str:
    """Returns the time as responses carry it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
