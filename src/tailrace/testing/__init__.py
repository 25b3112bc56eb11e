"""Fake model servers on real sockets, for your tests and ours.

    from tailrace.testing import FakeOllama, hold, say

    with FakeOllama() as server:
        server.script(say("Hel"), hold(), say("lo"))
        ...                                   # your program talks to server.url
        record = server.wait_for_request()
        server.release()                      # the model goes on
        assert record.wait_until_ended()

Standard library only. See docs/testing.md.
"""

from tailrace.testing.catalogue import FakeModel
from tailrace.testing.ollama import FakeOllama
from tailrace.testing.records import Record, Sent
from tailrace.testing.server import FakeServer
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
)

__all__ = [
    "FakeModel",
    "FakeOllama",
    "FakeServer",
    "Record",
    "Sent",
    "Step",
    "bad_chunk_size",
    "blank_lines",
    "bom",
    "chunk",
    "close_delimited",
    "cut",
    "delay",
    "done",
    "error",
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
]
