"""What a server tells of its models and of itself, and what ollama.com finds."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from tailrace.types.record import Record

__all__ = [
    "ListResponse",
    "ListedModel",
    "ModelDetails",
    "ProcessResponse",
    "RunningModel",
    "ShowResponse",
    "VersionResponse",
    "WebFetchResponse",
    "WebSearchResponse",
    "WebSearchResult",
]


class ModelDetails(Record):
    """What a model is made of."""

    parent_model: str | None = None
    format: str | None = None
    family: str | None = None
    families: Sequence[str] | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None


class ListedModel(Record):
    """A model that the server has."""

    model: str | None = None
    name: str | None = None
    modified_at: datetime.datetime | None = None
    digest: str | None = None
    size: int | None = None
    details: ModelDetails | None = None
    capabilities: Sequence[str] | None = None
    remote_model: str | None = None
    remote_host: str | None = None


class ListResponse(Record):
    """The models that the server has."""

    models: Sequence[ListedModel] = ()

    Model: ClassVar = ListedModel


class RunningModel(Record):
    """A model that is loaded."""

    model: str | None = None
    name: str | None = None
    digest: str | None = None
    expires_at: datetime.datetime | None = None
    size: int | None = None
    size_vram: int | None = None
    details: ModelDetails | None = None
    context_length: int | None = None


class ProcessResponse(Record):
    """The models that are loaded."""

    models: Sequence[RunningModel] = ()

    Model: ClassVar = RunningModel


class ShowResponse(Record):
    """What the server knows of a model."""

    modified_at: datetime.datetime | None = None
    template: str | None = None
    modelfile: str | None = None
    license: str | None = None
    details: ModelDetails | None = None
    modelinfo: Mapping[str, Any] | None = msgspec.field(default=None, name="model_info")
    parameters: str | None = None
    capabilities: Sequence[str] | None = None
    system: str | None = None


class VersionResponse(Record):
    """The server's version."""

    version: str | None = None


class WebSearchResult(Record):
    """One result of a web search."""

    content: str | None = None
    title: str | None = None
    url: str | None = None


class WebSearchResponse(Record):
    """Results of a web search by ollama.com."""

    results: Sequence[WebSearchResult] = ()


class WebFetchResponse(Record):
    """A page fetched by ollama.com."""

    title: str | None = None
    content: str | None = None
    links: Sequence[str] | None = None
