"""``/conversations``: what the page keeps, and the turns that write to it. What `docs/gateway.md` says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from tailrace.gateway.access import limits
from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import GatewayContext, context_of
from tailrace.gateway.conversations.service import Conversations, Turn
from tailrace.gateway.conversations.values import Conversation, Message, Summary
from tailrace.gateway.endpoint import UPSTREAM, Endpoint, EndpointTable, Node
from tailrace.gateway.endpoints.answering import unless_left
from tailrace.gateway.endpoints.body import read_body, read_json
from tailrace.gateway.endpoints.runs import Described, describe, key_of, whole_of
from tailrace.gateway.responses import json, response
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import check_name, parse_json

if TYPE_CHECKING:
    from tailrace.gateway.conversations.store import Store

__all__ = ["ENDPOINTS", "Change", "Listed", "Turned"]

_TITLE = 1000  # characters
_SYSTEM = 200_000  # characters of a system prompt: longer than what most models can read
_SEARCH = 10.0  # seconds


class Change(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a conversation is to be: what is given is set."""

    title: str | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    system: str | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    think: bool | str | UnsetType | None = UNSET
    leaf: str | UnsetType = UNSET


class Turned(msgspec.Struct, kw_only=True):
    """What a turn began."""

    question: Message | None
    answer: Message
    run: Described


class Listed(msgspec.Struct, kw_only=True):
    """A page of conversations."""

    conversations: list[Summary]


def conversations_of(request: Request) -> Conversations:
    """Returns the service of the application's conversations."""
    kept = request.app.state.conversations
    assert isinstance(kept, Conversations)
    return kept


async def _here(request: Request) -> tuple[GatewayContext, Conversations, Store, str]:
    """Returns what a request is about: its conversation is the caller's own.

    Raises:
        MissingError: it is not, or there is none.
    """
    context = context_of(request)
    kept, id = conversations_of(request), request.path_params.get("id", "")
    store, _ = await kept.opened()
    if id and context.settings.keys:
        await store.check(id, caller_of(request.scope).owner)
    return context, kept, store, id


def _owner(request: Request) -> str | None:
    """Whose conversations are shown; without keys everybody's are, those of a time with keys too."""
    return caller_of(request.scope).owner if context_of(request).settings.keys else None


async def listing(request: Request) -> Response:
    """``GET /conversations``."""
    context, _, store, _ = await _here(request)
    query = request.query_params
    limit = query.get("limit", "50")
    if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= 500):
        raise ProblemError(400, "limit is a number from 1 to 500")
    q, before = query.get("q", ""), query.get("before")
    looking = store.page(q, limit=int(limit[:9]), before=before, owner=_owner(request))
    if not q:
        return json(Listed(conversations=await looking))
    return json(
        Listed(conversations=await unless_left(request, _found(context, caller_of(request.scope).key, looking)))
    )


async def _found(context: GatewayContext, client: str, looking: Coroutine[Any, Any, list[Summary]]) -> list[Summary]:
    """Searches in a client's turn, for a while.

    Raises:
        ProblemError: 429, 503: there are too many searches; 503: it takes too long.
    """
    turns = context.searching
    try:
        with turns.place(client):
            async with asyncio.timeout(_SEARCH), turns.turn(client):
                return await looking
    except TimeoutError:
        raise ProblemError(503, f"the search takes longer than {_SEARCH:g} s", hint="look for less") from None
    finally:
        looking.close()


def _checked(settings: Change | Turn) -> None:
    """Holds a conversation's settings to limits of their own: they come back in each list, or with each turn.

    Raises:
        ProblemError: 400: one of them is too large; it says which.
    """
    for name, most in (("title", _TITLE), ("system", _SYSTEM)):
        if isinstance(value := getattr(settings, name, None), str) and len(value) > most:
            raise ProblemError(400, f"the {name} has {len(value):,} characters, and may have {most:,}")
    if isinstance(settings.model, str):
        check_name(settings.model)
    limits.check_word("think", settings.think)
    if isinstance(settings.options, dict):
        limits.check_size(settings.options)


async def create(request: Request) -> Response:
    """``POST /conversations``."""
    _, _, store, _ = await _here(request)
    change = await read_json(request, Change)
    _checked(change)
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    given.pop("leaf", None)
    made = await store.create(**given, owner=caller_of(request.scope).owner)
    return json(made, 201, {"Location": f"/conversations/{made.id}"})


async def show(request: Request) -> Response:
    """``GET /conversations/{id}``."""
    _, kept, store, id = await _here(request)
    await kept.catch_up(id)
    return json(await store.get(id))


async def change(request: Request) -> Response:
    """``PATCH /conversations/{id}``."""
    _, _, store, id = await _here(request)
    change = await read_json(request, Change)
    _checked(change)
    return json(await store.update(id, **msgspec.structs.asdict(change)))


async def delete(request: Request) -> Response:
    """``DELETE /conversations/{id}``: its runs are stopped."""
    _, kept, _, id = await _here(request)
    await kept.delete(id, caller_of(request.scope))
    return Response(status_code=204)


async def export(request: Request) -> Response:
    """``GET /conversations/{id}/export``."""
    _, kept, store, id = await _here(request)
    format = request.query_params.get("format", "md")
    if format not in ("md", "json"):
        raise ProblemError(400, "format is md or json")
    await kept.catch_up(id)
    title = (await store.get(id)).title or id
    if format == "md":
        data, kind = (await store.export_markdown(id)).encode(), "text/markdown; charset=utf-8"
    else:
        data, kind = await store.export_json(id), "application/json"
    name = quote("".join(char if char.isalnum() or char in " -_." else "_" for char in title)[:60].strip() or id)
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}.{format}"}
    return response(data, headers=headers, media_type=kind)


async def turn(request: Request) -> Response:
    """``POST /conversations/{id}/turns``."""
    context, kept, _, id = await _here(request)
    body = await read_body(request)
    asked: Turn = parse_json(body, Turn)
    _checked(asked)
    whole = whole_of(request, body)
    begun, new = await kept.turn(id, asked, caller_of(request.scope), key_of(request), whole)
    turned = Turned(question=begun.question, answer=begun.answer, run=describe(context, begun.run))
    return json(turned, 201 if new else 200, {"Location": f"/runs/{turned.run.id}"})


_KEPT = (404, 503)
_OWNER: Node = "owner of the conversation"

ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "GET",
            "/conversations",
            listing,
            "List or search conversations, the one changed last first.",
            query=("q", "limit", "before"),
            gives=Listed,
            errors=(400, 429, 503),
        ),
        Endpoint(
            "POST",
            "/conversations",
            create,
            "Begin a conversation.",
            takes=Change,
            optional=True,
            status=201,
            gives=Conversation,
            errors=(400, 413, 503),
        ),
        Endpoint(
            "GET",
            "/conversations/{id}",
            show,
            "Show a conversation.",
            gives=Conversation,
            errors=_KEPT,
            node=_OWNER,
        ),
        Endpoint(
            "PATCH",
            "/conversations/{id}",
            change,
            "Change a conversation.",
            takes=Change,
            optional=True,
            gives=Conversation,
            errors=(400, 413, *_KEPT),
            node=_OWNER,
        ),
        Endpoint(
            "DELETE",
            "/conversations/{id}",
            delete,
            "Delete a conversation; its runs are stopped.",
            status=204,
            errors=_KEPT,
            node=_OWNER,
        ),
        Endpoint(
            "GET",
            "/conversations/{id}/export",
            export,
            "Take a conversation along, as Markdown or JSON.",
            query=("format",),
            gives="application/octet-stream",
            errors=(400, *_KEPT),
            node=_OWNER,
        ),
        Endpoint(
            "POST",
            "/conversations/{id}/turns",
            turn,
            "Ask, ask again, or have an interrupted answer go on.",
            takes=Turn,
            headers=("Idempotency-Key",),
            status=201,
            also=(200,),
            gives=Turned,
            errors=(*UPSTREAM, 409, 413, 422),
            node=_OWNER,
        ),
    )
)
