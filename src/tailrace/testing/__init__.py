"""Fake model servers on real sockets, for your tests and ours.

    from tailrace.testing import FakeOllama, hold, say

    with FakeOllama() as server:
        server.script(say("Hel"), hold(), say("lo"))
        ...                                   # your program talks to server.url
        record = server.wait_for_request()
        server.release()                      # the model goes on
        assert record.wait_until_ended()

It needs the standard library and httptools. See docs/testing.md.

Internal: the modules of this package but `tailrace.testing.plugin`, pytest's fixtures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailrace.testing.catalogue import FakeModel
    from tailrace.testing.fault_table import Misbehaviour, misbehaviours
    from tailrace.testing.ollama import FakeOllama
    from tailrace.testing.openai import FakeOpenAI
    from tailrace.testing.recording import Recording
    from tailrace.testing.recording_proxy import RecordingProxy
    from tailrace.testing.records import Record, Sent
    from tailrace.testing.server import FakeServer
    from tailrace.testing.sockets import NeverAccepts, Silent, closed_port
    from tailrace.testing.steps import (
        Step,
        bad_chunk_size,
        blank_lines,
        bom,
        chunk,
        close_delimited,
        cut,
        delay,
        done,
        error,
        error_as,
        fin,
        giant_line,
        gzip,
        half_close,
        half_line,
        head,
        header_flood,
        hold,
        html,
        interim,
        ping,
        prompt_progress,
        queue,
        raw,
        redirect,
        rst,
        say,
        slow_load,
        split,
        stall,
        status,
        think,
        together,
        tool_call,
        tool_fragment,
        unframed,
        wait_for,
        whole,
    )

__all__ = [
    "FakeModel",
    "FakeOllama",
    "FakeOpenAI",
    "FakeServer",
    "Misbehaviour",
    "NeverAccepts",
    "Record",
    "Recording",
    "RecordingProxy",
    "Sent",
    "Silent",
    "Step",
    "bad_chunk_size",
    "blank_lines",
    "bom",
    "chunk",
    "close_delimited",
    "closed_port",
    "cut",
    "delay",
    "done",
    "error",
    "error_as",
    "fin",
    "giant_line",
    "gzip",
    "half_close",
    "half_line",
    "head",
    "header_flood",
    "hold",
    "html",
    "interim",
    "misbehaviours",
    "ping",
    "prompt_progress",
    "queue",
    "raw",
    "redirect",
    "rst",
    "say",
    "slow_load",
    "split",
    "stall",
    "status",
    "think",
    "together",
    "tool_call",
    "tool_fragment",
    "unframed",
    "wait_for",
    "whole",
]

# Where the names live that are no steps. They are imported when asked for: pytest imports this package at every start,
# through the plugin, and most runs need nothing of it.
_HOMES = {
    "FakeModel": "catalogue",
    "FakeOllama": "ollama",
    "FakeOpenAI": "openai",
    "FakeServer": "server",
    "Misbehaviour": "fault_table",
    "NeverAccepts": "sockets",
    "Record": "records",
    "Recording": "recording",
    "RecordingProxy": "recording_proxy",
    "Sent": "records",
    "Silent": "sockets",
    "closed_port": "sockets",
    "misbehaviours": "fault_table",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'steps')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
