"""Events as JSON, shared by the encoders."""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import Ended, Event, Loading, Prefill, Queued, Usage
from tailrace.protocols import sse
from tailrace.protocols.faults import whole

__all__ = [
    "call_id",
    "ending_of",
    "ending_text",
    "fault_of",
    "fields_of",
    "json_bytes",
    "name_of",
    "text_json",
    "waiting_comment",
]

_encode = msgspec.json.encode


def text_json(text: str) -> bytes:
    """Returns text as a JSON string, on one line; half a surrogate pair becomes U+FFFD."""
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def json_bytes(value: Any) -> bytes:
    """Returns JSON types as JSON; half a surrogate pair becomes U+FFFD."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(whole(value))


def call_id(run: str, number: int) -> str:
    """Returns an id for a tool call that the server gave none: the same for every reader of the run."""
    return f"call_{run.removeprefix('run_')[:8]}_{number}"


def name_of(event: Event) -> str:
    """Returns the name of an event's kind, as its JSON has it in ``type``."""
    return str(type(event).__struct_config__.tag)


def fields_of(event: Event) -> dict[str, Any]:
    """Returns an event's fields as JSON types, those left out that say nothing."""
    values: dict[str, Any] = msgspec.to_builtins(event)
    values.pop("type")
    return values


def ending_of(ended: Ended, metrics: Any) -> dict[str, Any]:
    """Returns the ending's fields, with the run's times and counts, and what went wrong as ``error``."""
    values = {**fields_of(ended), "metrics": metrics}
    values.pop("context", None)
    if values.pop("fault", None) is not None:
        values["error"] = fault_of(ended)
    return values


def fault_of(ended: Ended) -> dict[str, Any]:
    """Returns what went wrong as every wire of ours tells it."""
    fault = ended.fault
    if fault is None:
        return {"message": ended.outcome.value, "type": ended.outcome.value}
    told: dict[str, Any] = {"message": fault.message, "type": fault.kind}
    if fault.status_code > 0:
        told["status"] = fault.status_code if fault.status_code < 600 else 502
    if fault.hint:
        told["hint"] = fault.hint
    return told


def counts_of(usage: Usage | None, spoken: bool) -> tuple[int, int] | None:
    """Returns the server's counts of the prompt's and the answer's tokens; None if it did not tell both.

    Args:
        usage: what the server counted.
        spoken: whether the answer says anything: then 0 tokens are tokens that nobody counted.
    """
    if usage is None or not usage.prompt_tokens or (spoken and not usage.output_tokens):
        return None
    return usage.prompt_tokens, usage.output_tokens


def ending_text(ended: Ended) -> str:
    """Returns in one line why a run ended before its time."""
    fault = ended.fault
    if fault is None:
        return "the answer was stopped" + (f": {ended.reason}" if ended.reason else "")
    return f"{fault.message}; {fault.hint}" if fault.hint else fault.message


def waiting_comment(event: Event) -> bytes:
    """Returns what a run waits for as a comment, for wires that have no event for it; empty for other events."""
    if isinstance(event, Queued):
        return sse.comment("queued" if event.position is None else f"queued {event.position}")
    if isinstance(event, Loading):
        return sse.comment("loading")
    if isinstance(event, Prefill):
        return sse.comment("prefill" if event.total is None else f"prefill {event.processed or 0}/{event.total}")
    return b""
