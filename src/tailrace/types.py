"""Requests, messages, options and responses, with Ollama's field names.

Each is a msgspec struct that also answers to ``r["message"]["content"]``, ``r.get(name, default)`` and ``name in r``,
as ollama-python's do: a field that is not set is not ``in`` and raises `KeyError`. Field meanings: Ollama's API
(`/api/chat`, `/api/generate` and so on). Durations are nanoseconds.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tailrace.errors import RequestError

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
    "Message",
    "ModelDetails",
    "Options",
    "ProcessResponse",
    "ProgressResponse",
    "Record",
    "ShowResponse",
    "StatusResponse",
    "SystemOneResponse",
    "Tool",
    "WebFetchResponse",
    "WebSearchResponse",
    "plain",
]


def plain(value: Any) -> Any:
    """Turns a value of ours, a pydantic model or collections of them into JSON types; unset fields are left out."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Image):
        return value.base64()
    if isinstance(value, msgspec.Struct):
        fields = ((f.encode_name, getattr(value, f.name)) for f in msgspec.structs.fields(value))
        return {name: plain(item) for name, item in fields if item is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "model_dump"):  # pydantic models, ollama-python's own among them
        return plain(value.model_dump(exclude_none=True, by_alias=True))
    return msgspec.to_builtins(value)


class Record(msgspec.Struct, repr_omit_defaults=True):
    """Base of the public records: attributes, and the habits of a mapping."""

    def __getitem__(self, key: str) -> Any:
        value = getattr(self, key, None) if key in self.__struct_fields__ else None
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __contains__(self, key: object) -> bool:
        return key in self.__struct_fields__ and getattr(self, str(key)) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the field, or `default` if it is not set."""
        value = getattr(self, key, None) if key in self.__struct_fields__ else None
        return default if value is None else value

    def keys(self) -> list[str]:
        """Names of the fields that are set; makes ``dict(record)`` work."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None]

    def model_dump(self, *, exclude_none: bool = False, **_: Any) -> dict[str, Any]:
        """Returns a plain dictionary (the name is pydantic's, for code written for ollama-python)."""
        if exclude_none:
            return dict(plain(self))
        return {
            name: None if value is None else plain(value)
            for name in self.__struct_fields__
            for value in (getattr(self, name),)
        }

    def model_dump_json(self, *, exclude_none: bool = False, **_: Any) -> str:
        """Returns JSON (the name is pydantic's, for code written for ollama-python)."""
        return msgspec.json.encode(self.model_dump(exclude_none=exclude_none)).decode()


class Options(Record, kw_only=True, omit_defaults=True):
    """Model options by Ollama's names; a plain dict does as well, and keeps names this class does not know."""

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    draft_num_predict: int | None = None
    num_keep: int | None = None
    seed: int | None = None
    num_predict: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: Sequence[str] | None = None
    # Names that older clients send; current servers ignore them.
    numa: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    logits_all: bool | None = None
    vocab_only: bool | None = None
    use_mlock: bool | None = None
    embedding_only: bool | None = None
    tfs_z: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    penalize_newline: bool | None = None


# First bytes of what the servers' "images" field carries: PNG, JPEG, GIF, WebP and WAV, BMP, TIFF, Ogg, FLAC, MP3.
_SIGNATURES = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*"),
    *(b"OggS", b"fLaC", b"ID3", b"\xff\xfb"),
)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class Image(msgspec.Struct):
    """An image for a multimodal model: a path, raw bytes, or base64 text."""

    value: str | bytes | Path

    def base64(self) -> str:
        """Returns the image as base64, the form of Ollama's wire.

        Raises:
            RequestError: the file is missing or no image, or the text is neither a path nor base64.
        """
        value = self.value
        if isinstance(value, (bytes, bytearray, memoryview)):
            return base64.b64encode(value).decode()
        if isinstance(value, PathLike):
            return self._read(Path(value))
        if not isinstance(value, str):
            raise RequestError(f"an image is a path, bytes or base64 text, not {type(value).__name__}")
        try:
            is_file = len(value) < 4096 and Path(value).exists()
        except (OSError, ValueError):
            is_file = False  # long base64 is not a valid path
        if is_file:
            return self._read(Path(value))
        if value.lower().endswith(_IMAGE_SUFFIXES):
            raise RequestError(f"File {value} does not exist")
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            shown = value if len(value) <= 40 else value[:37] + "..."
            raise RequestError(
                f"Invalid image data {shown!r}: expected a path to an image file, bytes or base64"
            ) from None
        return value

    @staticmethod
    def _read(path: Path) -> str:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RequestError(f"Cannot read image {path}: {error.strerror or error}") from error
        if not data.startswith(_SIGNATURES) and data[4:8] != b"ftyp":  # ftyp: HEIC, AVIF, MP4 audio
            raise RequestError(f"{path} is not an image: expected PNG, JPEG, WebP, GIF or BMP")
        return base64.b64encode(data).decode()


class ToolCallFunction(Record):
    """The function a tool call names, with its arguments."""

    name: str
    arguments: Mapping[str, Any] = {}
    index: int | None = None


class MessageToolCall(Record):
    """A tool call in a message. `id` pairs it with the tool's answer (`Message.tool_call_id`)."""

    function: ToolCallFunction
    id: str | None = None

    Function: ClassVar = ToolCallFunction


class Message(Record, gc=False):
    """A message of a conversation."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: Sequence[Any] | None = None
    tool_name: str | None = None
    tool_calls: Sequence[MessageToolCall] | None = None
    tool_call_id: str | None = None

    ToolCall: ClassVar = MessageToolCall


class ToolProperty(Record):
    """One parameter of a tool, as JSON Schema."""

    type: str | Sequence[str] | None = None
    items: Any = None
    description: str | None = None
    enum: Sequence[Any] | None = None


class ToolParameters(Record):
    """The parameters of a tool, as JSON Schema."""

    type: str | None = "object"
    defs: Any = msgspec.field(default=None, name="$defs")
    items: Any = None
    required: Sequence[str] | None = None
    properties: Mapping[str, Any] | None = None

    Property: ClassVar = ToolProperty


class ToolFunction(Record):
    """The function that a tool is."""

    name: str | None = None
    description: str | None = None
    parameters: ToolParameters | None = None

    Parameters: ClassVar = ToolParameters


class Tool(Record):
    """A tool the model may call; plain dicts and Python functions do as well."""

    type: str | None = "function"
    function: ToolFunction | None = None

    Function: ClassVar = ToolFunction


class ChatRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of `/api/chat`; already plain JSON types."""

    model: str
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    stream: bool | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    format: Any = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None
    shift: bool | None = None


class ContinueRequest(ChatRequest):
    """A chat whose last message is the beginning of an answer, from whose end the model is to go on."""


class GenerateRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of `/api/generate`; already plain JSON types."""

    model: str
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    stream: bool | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    raw: bool | None = None
    format: Any = None
    images: list[str] | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None


class ChatResponse(Record, gc=False, omit_defaults=True):
    """A chunk of a chat stream, or a whole answer."""

    message: Message
    model: str | None = None
    created_at: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: Sequence[Any] | None = None


class GenerateResponse(Record, gc=False, omit_defaults=True):
    """A chunk of a generate stream, or a whole answer."""

    response: str | None = None
    model: str | None = None
    created_at: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    thinking: str | None = None
    context: Sequence[int] | None = None
    logprobs: Sequence[Any] | None = None
    tool_calls: Sequence[MessageToolCall] | None = None
    image: str | None = None
    completed: int | None = None
    total: int | None = None


class EmbedResponse(Record, kw_only=True):
    """Embeddings of the inputs, one list of floats each."""

    embeddings: Sequence[Sequence[float]] = ()
    model: str | None = None
    created_at: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class EmbeddingsResponse(Record):
    """The embedding of one prompt (the older endpoint)."""

    embedding: Sequence[float] = ()


class StatusResponse(Record):
    """``success`` or what went wrong."""

    status: str | None = None


class ProgressResponse(Record):
    """A line of progress of pull, push or create; sizes in bytes."""

    status: str | None = None
    completed: int | None = None
    total: int | None = None
    digest: str | None = None


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


class SystemOneAnswer(Record):
    """One answer of System One; which members are set depends on the question's type."""

    type: str | None = None
    choice: str | None = None
    noul: float | None = None
    score: float | None = None
    legend: Mapping[str, str] | None = None
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None


class SystemOneUsage(Record):
    """Tokens that System One counted."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class SystemOneResponse(Record):
    """Answers of a System One model, by the names of the questions."""

    model: str | None = None
    answers: Mapping[str, SystemOneAnswer] = {}
    usage: SystemOneUsage | None = None


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
