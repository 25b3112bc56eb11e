"""The chat page: its files, its words, and the rules that the browser is to keep for it."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib.resources import files
from typing import NoReturn

from starlette.requests import Request
from starlette.responses import Response

from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.endpoints.ollama_models import greeting
from tailrace.i18n import LANGUAGES
from tailrace.protocols.problems import ProblemError

__all__ = ["ENDPOINTS", "POLICY"]

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
_NAME = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)


@functools.lru_cache(256)  # there are fewer files, and no end of names that are none
def _file(name: str) -> tuple[bytes, str, str] | None:
    """Returns a file of the page, its media type and its tag; None if there is none of that name."""
    kind = _KINDS.get(name.rpartition(".")[2])
    if kind is None or _NAME.fullmatch(name) is None:
        return None
    try:
        data = (files("tailrace.gateway") / "page" / name).read_bytes()
    except OSError:
        return None
    return data, kind, f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _send(request: Request, name: str) -> Response:
    found = _file(name)
    if found is None:
        raise ProblemError(404, "there is no such file")
    data, kind, tag = found
    # Asked for each time, and not sent again: a page and modules of two versions would not fit together.
    headers = {"Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers)


async def index(request: Request) -> Response:
    """The page; and at the root what Ollama says there, to clients that ask for no page."""
    if request.url.path == "/" and "text/html" not in request.headers.get("accept", ""):
        return greeting()
    return _send(request, "index.html")


async def static(request: Request) -> Response:
    """A file of the page."""
    return _send(request, request.path_params["name"])


async def icon(_request: Request) -> NoReturn:
    """What browsers ask for that have not seen the page; the page names its icon itself."""
    raise ProblemError(404, "there is nothing here")


async def words(request: Request) -> Response:
    """The page's words in one language."""
    language = request.path_params["language"]
    if language not in LANGUAGES:
        raise ProblemError(404, "there are en and zh")
    return Response(_words(language), headers={"Cache-Control": "no-store"}, media_type="application/json")


@functools.cache
def _words(language: str) -> bytes:
    return (files("tailrace.gateway") / "page" / "words" / f"{language}.json").read_bytes()


ENDPOINTS = EndpointTable(
    (
        Endpoint("GET", "/", index, access="open"),
        Endpoint("GET", "/c/{id}", index, access="open"),
        Endpoint("GET", "/favicon.ico", icon, access="open"),
        Endpoint("GET", "/static/{name:path}", static, access="open"),
        Endpoint("GET", "/words/{language}.json", words, access="open"),
    )
)
