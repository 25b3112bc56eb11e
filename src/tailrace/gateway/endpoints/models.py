"""``/models``: what the upstreams have, for pickers."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.client.aio import AsyncClient
from tailrace.errors import ConnectionError, TailraceError, TimedOutError
from tailrace.gateway.context import GatewayContext, context_of
from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.endpoints.model_list import listed, name_of
from tailrace.gateway.responses import json
from tailrace.protocols.problems import ProblemError
from tailrace.types import ListedModel

__all__ = ["ENDPOINTS", "ModelEntry", "Models"]

_PATIENCE = 10.0  # seconds that the upstreams have to tell


class ModelEntry(msgspec.Struct, kw_only=True):
    """A model of an upstream; ``size`` in bytes."""

    name: str
    size: int | None = None
    family: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    capabilities: list[str] | None = None
    loaded: bool = False


class Models(msgspec.Struct, kw_only=True):
    """The first upstream, the model that is meant when none is named (empty: there is none), and all models."""

    upstream: str
    default: str
    models: list[ModelEntry]


async def listing(request: Request) -> Response:
    """``GET /models``."""
    context = context_of(request)
    try:
        async with asyncio.timeout(_PATIENCE):
            return json(await _told(context))
    except TimeoutError:
        raise ProblemError(504, f"{context.client.upstream} does not answer within {_PATIENCE:g} s") from None


async def _told(context: GatewayContext) -> Models:
    models = await listed(context)
    loaded = set().union(*await context.upstreams.gather(_loaded))
    try:
        default = context.settings.model or await context.upstreams.default_model()
    except TailraceError:
        default = ""
    entries = [_entry(model, loaded) for model in models]
    return Models(upstream=context.client.upstream, default=default, models=entries)


async def _loaded(client: AsyncClient) -> set[str]:
    try:
        return {entry.model or entry.name or "" for entry in (await client.ps()).models}
    except (ConnectionError, TimedOutError):
        raise
    except TailraceError:
        return set()  # not every upstream tells


def _entry(model: ListedModel, loaded: set[str]) -> ModelEntry:
    name, details = name_of(model), model.details
    return ModelEntry(
        name=name,
        size=model.size,
        family=details.family if details else None,
        parameters=details.parameter_size if details else None,
        quantization=details.quantization_level if details else None,
        capabilities=list(model.capabilities) if model.capabilities else None,
        loaded=name in loaded,
    )


ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "GET",
            "/models",
            listing,
            "List the upstream's models.",
            gives=Models,
            errors=(400, 404, 413, 422, 501, 502, 503, 504),
        ),
    )
)
