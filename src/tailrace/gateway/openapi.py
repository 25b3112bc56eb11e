"""``/openapi.json``: the interface as an OpenAPI 3.1 document, derived from the tables of endpoints."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace._version import __version__
from tailrace.gateway.endpoint import EVENTS, Endpoint, EndpointTable

__all__ = ["ENDPOINTS", "document"]

_ACCESS = (400, 401, 403)  # the errors of the access check, which any request may meet


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Returns the OpenAPI document, as JSON types."""
    described = [each for each in endpoints if each.summary]
    told = (kind for each in described for kind in (each.gives, each.takes, each.error_form.kind))
    ordered = sorted(
        {kind for kind in told if isinstance(kind, type) and kind is not str},
        key=lambda kind: (kind.__name__, kind.__module__),
    )
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    by_kind = {**dict(zip(ordered, schemas, strict=True)), str: {"type": "string"}}
    paths: dict[str, Any] = {}
    for each in described:
        paths.setdefault(each.path.replace(":path", ""), {})[each.method.lower()] = _described(each, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tailrace", "version": __version__, "description": "The streaming layer for local models."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],  # where the server has keys
    }


def _described(each: Endpoint, schemas: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": each.summary, "responses": {}}
    parameters = [_parameter("query", name) for name in each.query]
    parameters += [_parameter("header", name) for name in each.headers]
    if 429 in each.errors:  # where a run may have to wait in the queue
        parameters.append({**_parameter("header", "X-Priority"), "schema": {"enum": ["interactive", "batch"]}})
    if "{id" in each.path:
        parameters.append({**_parameter("path", "id"), "required": True})
    if parameters:
        told["parameters"] = parameters
    if each.takes is not None:
        content = {"application/json": {"schema": schemas[each.takes]}}
        told["requestBody"] = {"required": not each.optional, "content": content}
    for status in (each.status, *each.also):
        told["responses"][str(status)] = _response(each, schemas, empty=status == 204)
    media = each.error_form.media_type.partition(";")[0]
    error = {"description": "A problem.", "content": {media: {"schema": schemas[each.error_form.kind]}}}
    told["responses"].update({str(status): error for status in sorted({*each.errors, *_ACCESS})})
    return told


def _parameter(where: str, name: str) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": "string"}}


def _response(each: Endpoint, schemas: dict[Any, Any], *, empty: bool) -> dict[str, Any]:
    if empty or each.gives is None:
        return {"description": "Done."}
    if isinstance(each.gives, str):
        # Of a stream of events this version of OpenAPI has no schema.
        told: dict[str, Any] = {} if each.gives == EVENTS else {"schema": {"type": "string"}}
        return {"description": "Done.", "content": {each.gives: told}}
    content: dict[str, Any] = {"application/json": {"schema": schemas[each.gives]}}
    if each.streams:
        content[each.streams] = {}
    return {"description": "Done.", "content": content}


@functools.lru_cache(2)  # there is a gateway with the page, and one without
def _encoded(endpoints: tuple[Endpoint, ...]) -> bytes:
    return msgspec.json.encode(document(endpoints))


async def serve(request: Request) -> Response:
    """``GET /openapi.json``."""
    return Response(_encoded(request.app.state.endpoints.all), media_type="application/json")


ENDPOINTS = EndpointTable((Endpoint("GET", "/openapi.json", serve),))
