"""What both clients share: resolving the upstream, and turning a call into a run or a single request."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tailrace.backends.base import Backend
from tailrace.backends.resolve import Resolver
from tailrace.client.continuing import Continuation
from tailrace.client.requests import keep_alive_of, messages_of, model_of, options_of, without_none
from tailrace.errors import ProtocolError, RequestError, TimedOutError
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

__all__ = ["UNSET", "BaseClient", "create_body", "now"]

T = TypeVar("T")

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
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
        verify: bool | ssl.SSLContext = True,
    ) -> None:
        self._resolver = Resolver(
            host, headers=headers, api_key=api_key, verify=verify, follow_redirects=follow_redirects
        )
        self.timeouts = Timeouts() if timeout is UNSET else Timeouts.of(timeout)
        self.observe: Observe | None = None
        self.new_log: Callable[[], MemoryLog] = MemoryLog  # a gateway keeps its runs' logs within bounds

    @property
    def upstream(self) -> str:
        """The upstream, as far as it is known without a request; ``auto`` before the first call."""
        backend = self._resolver.known
        return backend.url if backend is not None else "auto"

    def known_backend(self) -> Backend | None:
        """Returns the backend, if it is known without a request."""
        return self._resolver.known

    async def _backend(self) -> Backend:
        return await self._resolver.get()

    async def backend(self) -> Backend:
        """Returns the backend, for callers that forward requests unchanged."""
        return await self._backend()

    # -- runs ----------------------------------------------------------------------------------------------------

    def _run(self, open: Opener, model: str) -> Run:
        return Run(open, model=model, timeouts=self.timeouts, log=self.new_log())

    def opener(self, request: ChatRequest | GenerateRequest) -> Opener:
        """Returns the opener for a request, for callers that create the run themselves."""

        async def open(report: Report) -> Exchange:
            backend = await self._backend()
            if isinstance(request, ContinueRequest):
                return await backend.continue_chat(request)(report)
            opener = backend.chat(request) if isinstance(request, ChatRequest) else backend.generate(request)
            return await opener(report)

        return open

    def _request_run(self, request: ChatRequest | GenerateRequest) -> Run:
        run = self._run(self.opener(request), request.model)
        if self.observe is not None:
            run.observer = self.observe(request, self.known_backend)
        return run

    def _chat_run(self, request: ChatRequest) -> tuple[Run, Continuation]:
        return self._request_run(request), Continuation(request, self._chat_run)

    def _generate_run(self, request: GenerateRequest) -> Run:
        return self._request_run(request)

    def progress_run(self, operation: str, body: dict[str, Any], log: MemoryLog | None = None) -> Run:
        """Returns a run of ``pull``, ``push`` or ``create``, for callers that manage runs themselves."""

        async def open(report: Report) -> Exchange:
            return await (await self._backend()).progress(operation, body)(report)

        model = model_of(body.get("model"))
        # Nothing is sent for a long time while the digest of a large model is checked.
        limits = msgspec.structs.replace(self.timeouts, idle=self.timeouts.first_token)
        return Run(open, model=model, timeouts=limits, log=log)

    # -- single answers ------------------------------------------------------------------------------------------

    async def _answer(self, asking: Coroutine[Any, Any, T]) -> T:
        """Waits for a single answer as long as for a first token: nothing comes before it either."""
        import asyncio

        set_limits = ((getattr(self.timeouts, phase), phase) for phase in ("first_token", "total"))
        limits = [(limit, phase) for limit, phase in set_limits if limit is not None]
        seconds, phase = min(limits, default=(None, ""))
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await asking
        except TimeoutError:
            if not scope.expired():
                raise
            hint = f"raise it with timeout=Timeouts({phase}=SECONDS)"
            late = TimedOutError(f"{self.upstream} did not answer within {seconds:g} s", hint=hint)
            late.phase = phase
            raise late from None

    async def _post(self, path: str, body: dict[str, Any], kind: type[T], method: str = "POST") -> T:
        if "model" in body:
            model_of(body["model"])
        data = await self._answer((await self._backend()).call(method, path, without_none(body)))
        return _decoded(data or b"{}", kind, self.upstream)

    async def _list(self) -> ListResponse:
        return await self._answer((await self._backend()).list())

    async def _ps(self) -> ProcessResponse:
        return await self._answer((await self._backend()).ps())

    async def _show(self, model: str) -> ShowResponse:
        return await self._answer((await self._backend()).show(model_of(model)))

    async def _default_model(self) -> str:
        """Returns the model that is meant when none is named."""
        named = os.environ.get("TAILRACE_MODEL", "").strip()
        backend = await self._backend()
        if named:
            return named
        if backend.kind == "embedded":
            from tailrace.backends.embedded.models import DEFAULT_MODEL

            path = backend.url.removeprefix("embedded:")
            return Path(path).name if path else DEFAULT_MODEL
        loaded = (await self._ps()).models if backend.kind == "ollama" else []
        names = [entry.model or entry.name or "" for entry in loaded]
        if not any(names):
            listed = (await self._list()).models
            able = [entry for entry in listed if not entry.capabilities or "completion" in entry.capabilities]
            names = [entry.model or entry.name or "" for entry in able]
        found = next(filter(None, names), "")
        if not found:
            raise RequestError(f"{backend.url} has no model", hint="get one, for example `ollama pull qwen3:0.6b`")
        return found

    async def _version(self) -> str:
        return await self._answer((await self._backend()).version())

    async def _embed(self, **body: Any) -> EmbedResponse:
        model_of(body.get("model"))
        values = create_body(body)
        return await self._answer((await self._backend()).embed(values))

    async def _create_blob(self, path: str | os.PathLike[str]) -> str:
        import asyncio
        import hashlib

        def digest() -> str:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        async def content() -> AsyncIterator[bytes]:
            with Path(path).open("rb") as file:  # noqa: ASYNC230  (opening is quick; reading is on a thread)
                while block := await asyncio.to_thread(file.read, _BLOB_CHUNK):
                    yield block

        name = f"sha256:{await asyncio.to_thread(digest)}"
        await (await self._backend()).call("POST", f"/api/blobs/{name}", content())
        return name

    def _bearer(self, what: str) -> None:
        value = self._resolver.authorization() or ""
        if not value.startswith("Bearer "):
            raise ValueError(f"Authorization header with Bearer token is required for {what}")

    async def _web(self, path: str, body: dict[str, Any], kind: type[T]) -> T:
        return _decoded(await self._answer(self._resolver.post_absolute(f"{_WEB}/{path}", body)), kind, _WEB)


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
