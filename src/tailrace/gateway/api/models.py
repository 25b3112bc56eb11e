"""``/models``: what the upstream has, for pickers."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tailrace.errors import TailraceError
from tailrace.gateway.house import house_of
from tailrace.gateway.replies import json
from tailrace.web.problems import problem_of

__all__ = ["ModelEntry", "Models", "routes"]


class ModelEntry(msgspec.Struct, kw_only=True):
    """A model of the upstream; ``size`` in bytes."""

    name: str
    size: int | None = None
    family: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    capabilities: list[str] | None = None
    loaded: bool = False


class Models(msgspec.Struct, kw_only=True):
    """The upstream, the model that is meant when none is named (empty if there is none), and all of its models."""

    upstream: str
    default: str
    models: list[ModelEntry]


async def listing(request: Request) -> Response:
    """``GET /models``."""
    house = house_of(request)
    try:
        listed = (await house.client.list()).models
    except TailraceError as error:
        raise problem_of(error) from error
    try:
        loaded = {entry.model or entry.name for entry in (await house.client.ps()).models}
    except TailraceError:
        loaded = set()  # not every upstream tells
    try:
        default = house.settings.model or await house.client.default_model()
    except TailraceError:
        default = ""
    models = []
    for entry in listed:
        name, details = entry.model or entry.name or "", entry.details
        models.append(
            ModelEntry(
                name=name,
                size=entry.size,
                family=details.family if details else None,
                parameters=details.parameter_size if details else None,
                quantization=details.quantization_level if details else None,
                capabilities=list(entry.capabilities) if entry.capabilities else None,
                loaded=name in loaded,
            )
        )
    return json(Models(upstream=house.client.upstream, default=default, models=models))


def routes() -> list[BaseRoute]:
    """Returns the routes."""
    return [Route("/models", listing)]
