"""The package's public names. `tailrace` itself imports this when the first of them is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailrace._version import __version__
from tailrace.client.aio import AsyncClient
from tailrace.client.default import default_client, method
from tailrace.client.install import InstalledAsOllama, install_as_ollama
from tailrace.client.partial import PartialCall, PartialJSON
from tailrace.client.streams import (
    AsyncChatStream,
    AsyncGenerateStream,
    AsyncProgressStream,
    ChatStream,
    GenerateStream,
    ProgressStream,
)
from tailrace.client.sync import Client
from tailrace.client.tools import tool_from_function
from tailrace.conversation.chat import AsyncStreamingChat, StreamingChat
from tailrace.conversation.toolbox import Toolbox
from tailrace.errors import (
    BusyError,
    ClientClosedError,
    ConnectionError,
    EngineError,
    EvictedError,
    FetchError,
    LogFullError,
    ModelError,
    ModelNotFoundError,
    NotModelServerError,
    OwnerLostError,
    ProtocolError,
    RequestError,
    ResponseError,
    StoreError,
    StreamError,
    TailraceError,
    TimedOutError,
    ToolError,
    TruncatedError,
    UnsupportedError,
)
from tailrace.events import (
    Ended,
    Event,
    Fault,
    Loading,
    Outcome,
    Prefill,
    Progress,
    Queued,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tailrace.helpers import CancellableStream, stream_chat, stream_with_progress
from tailrace.run.metrics import Metrics
from tailrace.run.reply import Reply
from tailrace.run.run import CancelReceipt
from tailrace.run.timeouts import Timeouts
from tailrace.types import (
    ChatResponse,
    EmbeddingsResponse,
    EmbedResponse,
    GenerateResponse,
    Image,
    ListResponse,
    Message,
    ModelDetails,
    Options,
    ProcessResponse,
    ProgressResponse,
    ShowResponse,
    StatusResponse,
    SystemOneResponse,
    Tool,
    WebFetchResponse,
    WebSearchResponse,
)

if TYPE_CHECKING:
    _client = Client()
    chat = _client.chat
    continue_chat = _client.continue_chat
    copy = _client.copy
    create = _client.create
    create_blob = _client.create_blob
    delete = _client.delete
    embed = _client.embed
    embeddings = _client.embeddings
    generate = _client.generate
    list = _client.list
    ps = _client.ps
    pull = _client.pull
    push = _client.push
    show = _client.show
    systemone = _client.systemone
    version = _client.version
    web_fetch = _client.web_fetch
    web_search = _client.web_search
else:
    chat = method(Client.chat)
    continue_chat = method(Client.continue_chat)
    copy = method(Client.copy)
    create = method(Client.create)
    create_blob = method(Client.create_blob)
    delete = method(Client.delete)
    embed = method(Client.embed)
    embeddings = method(Client.embeddings)
    generate = method(Client.generate)
    list = method(Client.list)
    ps = method(Client.ps)
    pull = method(Client.pull)
    push = method(Client.push)
    show = method(Client.show)
    systemone = method(Client.systemone)
    version = method(Client.version)
    web_fetch = method(Client.web_fetch)
    web_search = method(Client.web_search)

__all__ = [
    "AsyncChatStream",
    "AsyncClient",
    "AsyncGenerateStream",
    "AsyncProgressStream",
    "AsyncStreamingChat",
    "BusyError",
    "CancelReceipt",
    "CancellableStream",
    "ChatResponse",
    "ChatStream",
    "Client",
    "ClientClosedError",
    "ConnectionError",
    "EmbedResponse",
    "EmbeddingsResponse",
    "Ended",
    "EngineError",
    "Event",
    "EvictedError",
    "Fault",
    "FetchError",
    "GenerateResponse",
    "GenerateStream",
    "Image",
    "InstalledAsOllama",
    "ListResponse",
    "Loading",
    "LogFullError",
    "Message",
    "Metrics",
    "ModelDetails",
    "ModelError",
    "ModelNotFoundError",
    "NotModelServerError",
    "Options",
    "Outcome",
    "OwnerLostError",
    "PartialCall",
    "PartialJSON",
    "Prefill",
    "ProcessResponse",
    "Progress",
    "ProgressResponse",
    "ProgressStream",
    "ProtocolError",
    "Queued",
    "Reply",
    "RequestError",
    "ResponseError",
    "ShowResponse",
    "StatusResponse",
    "StoreError",
    "StreamError",
    "StreamingChat",
    "SystemOneResponse",
    "TailraceError",
    "TextDelta",
    "ThinkingDelta",
    "TimedOutError",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolError",
    "Toolbox",
    "TruncatedError",
    "UnsupportedError",
    "Usage",
    "WebFetchResponse",
    "WebSearchResponse",
    "__version__",
    "chat",
    "continue_chat",
    "copy",
    "create",
    "create_blob",
    "default_client",
    "delete",
    "embed",
    "embeddings",
    "generate",
    "install_as_ollama",
    "list",
    "ps",
    "pull",
    "push",
    "show",
    "stream_chat",
    "stream_with_progress",
    "systemone",
    "tool_from_function",
    "version",
    "web_fetch",
    "web_search",
]
