"""Requests, messages, options and responses, with Ollama's field names.

Each is a msgspec struct that also answers to ``r["message"]["content"]``, ``r.get(name, default)`` and ``name in r``,
as ollama-python's do: a field that is not set is not ``in`` and raises `KeyError`. Field meanings: Ollama's API
(`/api/chat`, `/api/generate` and so on). Durations are nanoseconds.

Internal: the modules of this package, and what they hold beyond the names below.
"""

from __future__ import annotations

from tailrace.types.images import Image as Image
from tailrace.types.messages import Message as Message
from tailrace.types.messages import MessageToolCall as MessageToolCall
from tailrace.types.messages import ToolCallFunction as ToolCallFunction
from tailrace.types.models import ListedModel as ListedModel
from tailrace.types.models import ListResponse as ListResponse
from tailrace.types.models import ModelDetails as ModelDetails
from tailrace.types.models import ProcessResponse as ProcessResponse
from tailrace.types.models import RunningModel as RunningModel
from tailrace.types.models import ShowResponse as ShowResponse
from tailrace.types.models import VersionResponse as VersionResponse
from tailrace.types.models import WebFetchResponse as WebFetchResponse
from tailrace.types.models import WebSearchResponse as WebSearchResponse
from tailrace.types.models import WebSearchResult as WebSearchResult
from tailrace.types.plain import plain as plain
from tailrace.types.record import Record as Record
from tailrace.types.requests import ChatRequest as ChatRequest
from tailrace.types.requests import ContinueRequest as ContinueRequest
from tailrace.types.requests import GenerateRequest as GenerateRequest
from tailrace.types.requests import Options as Options
from tailrace.types.responses import ChatResponse as ChatResponse
from tailrace.types.responses import EmbeddingsResponse as EmbeddingsResponse
from tailrace.types.responses import EmbedResponse as EmbedResponse
from tailrace.types.responses import GenerateResponse as GenerateResponse
from tailrace.types.responses import Logprob as Logprob
from tailrace.types.responses import ProgressResponse as ProgressResponse
from tailrace.types.responses import StatusResponse as StatusResponse
from tailrace.types.responses import SystemOneAnswer as SystemOneAnswer
from tailrace.types.responses import SystemOneResponse as SystemOneResponse
from tailrace.types.responses import SystemOneUsage as SystemOneUsage
from tailrace.types.responses import TokenLogprob as TokenLogprob
from tailrace.types.tools import Tool as Tool
from tailrace.types.tools import ToolFunction as ToolFunction
from tailrace.types.tools import ToolParameters as ToolParameters
from tailrace.types.tools import ToolProperty as ToolProperty

__all__ = [
    "ChatRequest",
    "ChatResponse",
    "ContinueRequest",
    "EmbedResponse",
    "EmbeddingsResponse",
    "GenerateRequest",
    "GenerateResponse",
    "Image",
    "ListResponse",
    "Logprob",
    "Message",
    "ModelDetails",
    "Options",
    "ProcessResponse",
    "ProgressResponse",
    "Record",
    "ShowResponse",
    "StatusResponse",
    "SystemOneResponse",
    "TokenLogprob",
    "Tool",
    "WebFetchResponse",
    "WebSearchResponse",
    "plain",
]
