"""Names of ollama-python's private modules, for libraries that import them: see `tailrace.client.install`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tailrace import types
from tailrace.types import Record, Tool

__all__ = [
    "CONNECTION_ERROR_MESSAGE",
    "ChatRequest",
    "CopyRequest",
    "CreateRequest",
    "DeleteRequest",
    "EmbedRequest",
    "EmbeddingsRequest",
    "GenerateRequest",
    "PullRequest",
    "PushRequest",
    "ShowRequest",
    "SubscriptableBaseModel",
    "WebFetchRequest",
    "WebSearchRequest",
    "_copy_tools",
]

CONNECTION_ERROR_MESSAGE = "nothing answers at"
"""What the message of a `tailrace.ConnectionError` begins with."""

SubscriptableBaseModel = Record


def _dump_as_sent(self: Record, **how: Any) -> dict[str, Any]:
    """Returns a plain dictionary with the names that are sent, whether they are asked for or not, as there."""
    return Record.model_dump(self, **{**how, "by_alias": True})


def _request(name: str, fields: str, rename: Mapping[str, str] | None = None) -> Any:
    """Returns a record of a request's fields."""
    members: dict[str, Any] = dict.fromkeys(fields.split())
    members["__annotations__"] = dict.fromkeys(members, Any)
    if rename:
        members["model_dump"] = _dump_as_sent
    members |= {"__module__": __name__, "__doc__": f"The fields of a request, as ollama-python's {name} has them."}
    metaclass: Any = type(Record)
    return metaclass(name, (Record,), members, kw_only=True, omit_defaults=True, rename=rename)


def _like(kind: type[msgspec.Struct]) -> Any:
    return _request(kind.__name__, " ".join(field.name for field in msgspec.structs.fields(kind)))


ChatRequest = _like(types.ChatRequest)
GenerateRequest = _like(types.GenerateRequest)
CopyRequest = _request("CopyRequest", "source destination")
CreateRequest = _request(
    "CreateRequest",
    "model stream quantize from_ files adapters template license system parameters messages",
    {"from_": "from"},
)
DeleteRequest = _request("DeleteRequest", "model")
EmbedRequest = _request("EmbedRequest", "model input truncate options keep_alive dimensions")
EmbeddingsRequest = _request("EmbeddingsRequest", "model prompt options keep_alive")
PullRequest = _request("PullRequest", "model stream insecure")
PushRequest = _request("PushRequest", "model stream insecure")
ShowRequest = _request("ShowRequest", "model")
WebFetchRequest = _request("WebFetchRequest", "url")
WebSearchRequest = _request("WebSearchRequest", "query max_results")


def _copy_tools(
    tools: Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | None = None,
) -> Iterator[Tool]:
    """Yields tools as records: of functions what their annotations and docstrings tell."""
    from tailrace.client.tools import tool_from_function

    for tool in tools or ():
        if isinstance(tool, Tool):
            yield tool
        elif isinstance(tool, Mapping):
            yield Tool(**tool)
        else:
            yield tool_from_function(tool)
