"""What the wires that we write have in common: events as JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import Ended, Event

__all__ = ["ending_of", "fault_of", "fields_of", "name_of", "text_json"]

_encode = msgspec.json.encode


def text_json(text: str) -> bytes:
    """Returns text as a JSON string, on one line; half a surrogate pair becomes U+FFFD."""
    try:
        return _encode(text)
    except UnicodeEncodeError:
        return _encode(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


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
        told["status"] = fault.status_code
    if fault.hint:
        told["hint"] = fault.hint
    return told
