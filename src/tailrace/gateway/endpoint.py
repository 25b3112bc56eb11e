"""An endpoint is one value: a method of a path, what answers it, and all that is known of it.

Each protocol's file in `endpoints/` has a table of them. From the tables are derived the router, the OpenAPI document
(`openapi`), the access check (`access.middleware`), the form of errors (`responses`), and which of several workers
answers (`cluster.routing`). A new endpoint is a new row, and no other file needs to know of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Literal, NoReturn

import msgspec
from starlette.requests import Request
from starlette.routing import Match, Route

from tailrace.gateway.error_form import PROBLEM, ErrorForm
from tailrace.protocols.problems import ProblemError
from tailrace.web.asgi_types import App, Scope

__all__ = ["ENDPOINT", "EVENTS", "RUN", "UPSTREAM", "Endpoint", "EndpointTable", "Endpoints", "endpoint_of"]

ENDPOINT = "tailrace.endpoint"
"""Where a scope has its endpoint, once it was looked for."""

EVENTS = "text/event-stream"
UPSTREAM = (400, 404, 413, 501, 502, 503, 504)
"""The errors of what asks an upstream."""
RUN = (*UPSTREAM, 429, 499)
"""The errors of what starts a run and waits for its answer."""

Access = Literal["open", "key", "admin"]
Node = Literal[
    "any", "all", "owner of the run", "owner of the conversation", "owner of the chat", "owner of the idempotency key"
]


class Endpoint(msgspec.Struct, frozen=True):
    """One method of one path.

    Attributes:
        method: in capitals; what answers GET answers HEAD.
        path: as Starlette has it; its first part is a word, no parameter.
        handler: answers it.
        summary: one sentence for the OpenAPI document; empty: it is not in there.
        takes: the type of its JSON body.
        optional: the body may be left out.
        query: its query parameters.
        headers: its header parameters.
        status: of its answer.
        also: further statuses that are no errors.
        gives: the type of its JSON answer; a media type for another one; None for an empty one.
        streams: the media type of its streamed answer, if it may be streamed.
        errors: the statuses of its errors, besides those of the access check.
        error_form: how its clients are told of an error; by default as its table says.
        access: ``open``: to everybody; ``key``: to who has a key, where there are keys; ``admin``: to those who may
            change models.
        node: which of several workers answers it: whichever gets it; all together; or the one that has in its memory
            what the path (or the body, or the header) names.
    """

    method: str
    path: str
    handler: Callable[[Request], Awaitable[App]]
    summary: str = ""
    takes: Any = None
    optional: bool = False
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    status: int = 200
    also: tuple[int, ...] = ()
    gives: Any = None
    streams: str = ""
    errors: tuple[int, ...] = ()
    error_form: ErrorForm = PROBLEM
    access: Access = "key"
    node: Node = "any"


class EndpointTable(msgspec.Struct, frozen=True):
    """The endpoints of one protocol.

    Attributes:
        rows: the endpoints.
        root: below this path everything is the protocol's, also what it does not have; empty: it has no such path.
        error_form: how its clients are told of an error, where a row says nothing else.
    """

    rows: tuple[Endpoint, ...]
    root: str = ""
    error_form: ErrorForm = PROBLEM

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The rows, each with its form of errors."""
        return tuple(
            msgspec.structs.replace(row, error_form=self.error_form) if row.error_form is PROBLEM else row
            for row in self.rows
        )


class Endpoints:
    """All endpoints of one gateway.

    Args:
        tables: of the protocols that it speaks.
    """

    def __init__(self, tables: Iterable[EndpointTable]) -> None:
        tables = tuple(tables)
        self.all = tuple(endpoint for table in tables for endpoint in table.endpoints)
        self.routes = [Route(each.path, each.handler, methods=[each.method]) for each in self.all]
        self._by_word: dict[str, list[tuple[Route, Endpoint]]] = {}
        for route, endpoint in zip(self.routes, self.all, strict=True):
            self._by_word.setdefault(_first_word(endpoint.path), []).append((route, endpoint))
        self._missing = [(table.root, _missing(table.error_form)) for table in tables if table.root]

    def find(self, scope: Scope) -> Endpoint:
        """Returns the endpoint of a request, with the parameters of its path in the scope.

        Of a path with other methods it is one of those; below a protocol's root, where there is nothing, one that has
        the protocol's form of errors.
        """
        other: Endpoint | None = None
        for route, endpoint in self._near(scope):
            match, found = route.matches(scope)
            if match is Match.FULL or (match is Match.PARTIAL and other is None):
                scope["path_params"] = found["path_params"]
                other = endpoint
            if match is Match.FULL:
                return endpoint
        return other or self._below(scope["path"])

    def _near(self, scope: Scope) -> Iterable[tuple[Route, Endpoint]]:
        """Returns those whose path begins with the same word: a tenth of all, and a request is looked at twice."""
        if scope.get("root_path"):  # mounted in another application
            return zip(self.routes, self.all, strict=True)
        return self._by_word.get(_first_word(scope["path"]), ())

    def _below(self, path: str) -> Endpoint:
        return next((each for root, each in self._missing if path == root or path.startswith(f"{root}/")), _NOTHING)

    def methods(self, scope: Scope) -> set[str]:
        """Returns the methods that a path has."""
        here = [route for route, _ in self._near(scope) if route.matches(scope)[0] is not Match.NONE]
        return {"OPTIONS", *(method for route in here for method in route.methods or ())}


def _first_word(path: str) -> str:
    """Returns what stands before the second slash; Starlette's paths match with a newline at their end as well."""
    return path[1:].partition("/")[0].removesuffix("\n")


async def _nothing(_request: Request) -> NoReturn:
    raise ProblemError(404, "there is nothing here")


def _missing(error_form: ErrorForm) -> Endpoint:
    return Endpoint("", "", _nothing, error_form=error_form)


_NOTHING = _missing(PROBLEM)


def endpoint_of(scope: Scope) -> Endpoint:
    """Returns the endpoint that a request is for; it is looked for once."""
    found = scope.get(ENDPOINT)
    if found is None:
        found = scope[ENDPOINT] = scope["app"].state.endpoints.find(scope)
    assert isinstance(found, Endpoint)
    return found
