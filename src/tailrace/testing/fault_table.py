"""Misbehaviours: what model servers have been seen to do, as scripts, with what tailrace makes of each.

    from tailrace.testing import misbehaviours

    @pytest.mark.parametrize("case", misbehaviours(), ids=str)
    def test_survives(case):
        with case.server() as server:
            server.always(*case.script)
            ...                                   # your program talks to server.url

docs/faults.md lists them all. They are those that need no patience; a server that is silent for minutes is `stall()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tailrace.testing.ollama import FakeOllama
from tailrace.testing.openai import FakeOpenAI
from tailrace.testing.steps import (
    ErrorForm,
    Step,
    bad_chunk_size,
    blank_lines,
    bom,
    chunk,
    close_delimited,
    cut,
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
    html,
    interim,
    raw,
    redirect,
    say,
    split,
    stall,
    status,
    think,
    together,
    tool_call,
    tool_fragment,
    whole,
)

__all__ = ["Misbehaviour", "misbehaviours"]

Wire = Literal["ollama", "openai"]
Outcome = Literal["complete", "length", "truncated", "failed"]


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Something that a model server does.

    Attributes:
        id: The fault's id, with a word for this form of it.
        wire: Whose server does it.
        does: What it does.
        script: The steps of it, for `FakeServer.script`.
        outcome: How tailrace ends such an answer.
        text: The text that is kept of it.
        whole: Whether the script also serves a request that asks for no stream.
    """

    id: str
    wire: Wire
    does: str
    script: tuple[Step, ...]
    outcome: Outcome
    text: str = ""
    whole: bool = True

    def __str__(self) -> str:
        return f"{self.id}-{self.wire}"

    def server(self) -> FakeOllama | FakeOpenAI:
        """Make a fake server of the kind that does it."""
        return FakeOllama() if self.wire == "ollama" else FakeOpenAI()


_HELLO = (say("Hel"), say("lo"))
_DONE = raw(b"data: [DONE]\n\n")
_OLLAMA_TEXT = b'{"message":{"role":"assistant","content":"%b"},"done":false}\n'
_OPENAI_TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n'
_MANY = "Zażółć 水車 🎡👩‍👩‍👧 𝔘𝔫𝔦 ∑"
_BREAKS = "a\u2028b\u2029c\u0085d\x0be\x0cf"

Row = tuple[str, str, Sequence[Step], Outcome, str]


def _endings() -> Iterator[Row]:
    yield "u5", "half-closes the connection in the midst", [*_HELLO, half_close()], "truncated", "Hello"
    yield "u4", "closes inside a chunk of HTTP", [*_HELLO, cut()], "truncated", "Hello"
    yield "u6", "ends well for HTTP, without its final record", [*_HELLO, fin()], "truncated", "Hello"
    yield "u6-nothing", "says nothing at all", [fin()], "truncated", ""
    yield (
        "u7-length",
        "says `length`, and leaves the last mark out",
        [*_HELLO, done("length", marker=False)],
        "length",
        "Hello",
    )
    yield "u7", "says why it ended, and leaves the last mark out", [*_HELLO, done(marker=False)], "complete", "Hello"
    yield "u7-no-reason", "ends without a reason", [*_HELLO, done(None)], "complete", "Hello"
    yield "u8", "cuts its last line in half", [*_HELLO, half_line(), fin()], "truncated", "Hello"
    yield "u19", "ends twice", [*_HELLO, done(), done("length")], "complete", "Hello"
    yield "u20", "goes on after its end", [*_HELLO, together(done(), say("ghost"))], "complete", "Hello"
    for reason in ("error", "abort", "banana"):
        yield f"u35-{reason}", f"ends with the reason `{reason}`", [*_HELLO, done(reason)], "failed", "Hello"
    yield "u35-alone", "ends with the reason `abort`, and no text", [done("abort")], "failed", ""
    yield (
        "u38",
        "is silent after its reason, on an open connection",
        [*_HELLO, done(marker=False), stall()],
        "complete",
        "Hello",
    )


def _errors() -> Iterator[Row]:
    yield "u17", "says an error in the stream", [*_HELLO, error("boom")], "failed", "Hello"
    yield "u17-first", "says an error as the first thing", [error("boom")], "failed", ""
    yield (
        "u17-object",
        "says an error as an object",
        [*_HELLO, error({"message": "boom", "code": 503})],
        "failed",
        "Hello",
    )
    yield "u17-list", "says an error as a list", [*_HELLO, error(["boom"])], "failed", "Hello"
    yield "u17-words", "says an error of 100 kB", [*_HELLO, error("x" * 100_000)], "failed", "Hello"
    died = "an error was encountered while running the model: CUDA error: out of memory"
    yield "u26", "loses the model's process", [*_HELLO, error(died)], "failed", "Hello"
    for code in (400, 401, 403, 404, 422, 500, 501, 502, 504):
        yield f"u18-{code}", f"answers {code} with its words", [status(code, {"error": "no"})], "failed", ""
    yield "u18-text", "answers 500 in plain text", [status(500, "Internal Server Error")], "failed", ""
    yield "u18-empty", "answers 500 without a word", [status(500)], "failed", ""
    yield "u18-model", "does not have the model", [status(404, {"error": "model 'm' not found"})], "failed", ""
    for code in (429, 503):
        busy = status(code, {"error": "busy"}, {"Retry-After": "0"})
        yield f"u25-{code}", f"is busy for good ({code})", [busy], "failed", ""
    for code in (600, 777, 999):
        yield f"u41-{code}", f"answers {code}", [status(code, {"error": "what"})], "failed", ""
    yield "u41-empty", "answers 999 without a word", [status(999)], "failed", ""
    invalid = {"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}
    yield "u44", "answers 422 as FastAPI does", [status(422, invalid)], "failed", ""
    yield "u44-long", "answers 500 with 64 KiB", [status(500, "x" * 65_536)], "failed", ""
    date = {"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}
    yield "u44-date", "is busy until a date", [status(503, {"error": "busy"}, date)], "failed", ""


def _strangers() -> Iterator[Row]:
    page = "<!doctype html><html><head><title>Welcome</title></head><body>Hi</body></html>"
    yield "u22-502", "is a proxy's error page", [html()], "failed", ""
    yield "u22-200", "is a captive portal", [html(page, 200)], "failed", ""
    yield "u22-text", "is a web page that calls itself text, at 502", [status(502, page)], "failed", ""
    yield "u36-html", "is a web page that calls itself text, at 200", [status(200, page)], "failed", ""
    yield "u36-text", "answers in plain text", [status(200, "Hello there, I am no model server")], "failed", ""
    yield "u36-lines", "answers in lines of plain text", [status(200, "Hello\nthere\n")], "failed", ""
    yield "u36-json", "answers with other JSON", [status(200, {"ok": True})], "failed", ""
    yield "u36-list", "answers with a list", [status(200, [1, 2])], "failed", ""
    yield "u36-string", "answers with a string", [status(200, b'"hello"')], "failed", ""
    yield "u36-detail", "refuses at 200, as FastAPI's handlers may", [status(200, {"detail": "no"})], "failed", ""
    yield "u36-other", "answers with lines of JSON of its own", [status(200, b'{"a":1}\n{"b":2}\n')], "failed", ""
    yield "u23", "redirects to another host", [redirect(307, "http://model.invalid/")], "failed", ""
    yield "u23-nowhere", "redirects to what is no address", [redirect(302, "file:///etc/passwd")], "failed", ""
    yield "u21", "has the wrong content type", [head(content_type="text/plain"), *_HELLO, done()], "complete", "Hello"
    yield (
        "u24-br",
        "packs with what nobody asked for",
        [head(headers={"Content-Encoding": "br"}), *_HELLO],
        "failed",
        "",
    )
    yield "u24-lie", "says gzip, and does not pack", [head(headers={"Content-Encoding": "gzip"}), *_HELLO], "failed", ""
    yield "u24", "packs with gzip", [gzip(), *_HELLO, done()], "complete", "Hello"
    yield "u29-size", "sends a chunk size that is none", [*_HELLO, bad_chunk_size()], "failed", "Hello"
    yield "u29-flood", "floods with headers", [header_flood(2000)], "failed", ""
    yield "u29-interim", "says 100 first", [interim(), *_HELLO, done()], "complete", "Hello"
    yield "u29-close", "speaks HTTP/1.0", [close_delimited(), *_HELLO, done()], "complete", "Hello"
    yield "u29-cut", "speaks HTTP/1.0, and breaks off", [close_delimited(), *_HELLO, fin()], "truncated", "Hello"
    yield "u40", "answers with one document", [whole(), *_HELLO, done()], "complete", "Hello"
    yield "u40-lines", "answers with a document over several lines", [whole(2), *_HELLO, done()], "complete", "Hello"


def _bytes() -> Iterator[Row]:
    yield "u9", "sends each byte by itself", [split(every=1), say(_MANY), done()], "complete", _MANY
    yield "u11", "cuts a character in two", [say("a\ud83d"), say("\ude00b"), done()], "complete", "a😀b"
    yield "u11-alone", "sends half a character", [say("a\ud83d"), say("b"), done()], "complete", "a\ufffdb"
    yield "u12", "sends what others take for line ends", [say(_BREAKS), done()], "complete", _BREAKS
    yield (
        "u15",
        "sends blank lines",
        [blank_lines(3), say("Hel"), blank_lines(3, b"\r\n"), say("lo"), done()],
        "complete",
        "Hello",
    )
    yield "u15-bom", "begins with a byte order mark", [bom(), *_HELLO, done()], "complete", "Hello"
    yield "u15-empty", "sends empty pieces", [say("", "Hel", "", "lo", ""), done()], "complete", "Hello"
    yield "u16-null", "sends null", [*_HELLO, chunk(None), done()], "failed", "Hello"
    yield "u16-list", "sends a list", [*_HELLO, chunk([]), done()], "failed", "Hello"
    yield "u16-number", "sends a number", [*_HELLO, chunk(5), done()], "failed", "Hello"
    wrong = {"message": 5, "choices": 5}
    yield "u16-types", "sends wrong types", [*_HELLO, chunk(wrong), done()], "failed", "Hello"
    yield "u31", "thinks first", [think("Hm."), *_HELLO, done()], "complete", "Hello"
    yield "u31-call", "calls a tool", [say("Hello"), tool_call("f", {"x": 1}), done()], "complete", "Hello"
    yield (
        "u39-bad",
        "calls a tool with what is no JSON",
        [say("Hello"), tool_call("f", '{"x'), done()],
        "complete",
        "Hello",
    )
    yield "u43", "sends 64 kB of blank lines", [say("Hel"), blank_lines(65_536), say("lo"), done()], "complete", "Hello"
    odd: dict[str, Any] = {"status": "busy", "context": "x", "usage": "many", "timings": [], "total": 1.5}
    yield "u37", "adds members of its own, or of other types", [say("Hel", "lo", **odd), done()], "complete", "Hello"
    for name, value in (("text", "12"), ("float", 12.5), ("null", None), ("negative", -5), ("list", [1])):
        counted = done("stop", eval_count=value)
        yield f"u37-{name}", f"counts tokens as {value!r}", [*_HELLO, counted], "complete", "Hello"
    yield "u37-index", "adds an index that is null", [say("Hel", "lo", index=None), done()], "complete", "Hello"


def _ollama() -> Iterator[Row]:
    yield "u10", "sends invalid UTF-8", [raw(_OLLAMA_TEXT % b"a\xff"), done()], "complete", "a\ufffd"
    yield "u14", "sends what is no JSON", [*_HELLO, raw(b"{]\n"), done()], "failed", "Hello"
    yield "u21-sse", "speaks server-sent events", [raw(b'data: {"message":{"content":"a"}}\n\n')], "failed", ""
    yield "u34-detail", "says an error in a form of its own", [*_HELLO, chunk({"detail": "boom"})], "failed", "Hello"
    forged = chunk({"status": "queued", "position": 3})
    yield (
        "u37-status",
        "sends what looks like a report of ours",
        [say("Hel"), forged, say("lo"), done()],
        "complete",
        "Hello",
    )
    beside = chunk({"status": "ok", "message": {"content": "lo"}, "done": False})
    yield "u37-beside", "sends a status beside its text", [say("Hel"), beside, done()], "complete", "Hello"
    yield "u37-duration", "has a duration of 1234.5", [*_HELLO, done(eval_duration=1234.5)], "complete", "Hello"
    yield "u39", "sends arguments as text", [say("Hello"), tool_call("f", '{"x":1}'), done()], "complete", "Hello"
    yield "u41-line", "says StatusCode 777 in a line", [*_HELLO, error("boom", StatusCode=777)], "failed", "Hello"
    yield "u13", "sends a line of 17 MiB", [giant_line(17 << 20), done()], "failed", ""
    final = raw(b'{"message":{"content":"Hello"},"done":true,"done_reason":"stop"}')
    yield "u38-line", "leaves the last line open, and is silent", [final, stall()], "complete", "Hello"


def _openai() -> Iterator[Row]:
    yield "u10", "sends invalid UTF-8", [raw(_OPENAI_TEXT % b"a\xff"), done()], "complete", "a\ufffd"
    yield "u14", "sends what is no JSON", [*_HELLO, raw(b"data: {]\n\n"), done()], "failed", "Hello"
    for form in get_args(ErrorForm):
        said = error_as(form, "boom")
        yield (
            f"u33-{form}",
            f"says an error in the form `{form}`, then `[DONE]`",
            [*_HELLO, said, _DONE],
            "failed",
            "Hello",
        )
        yield f"u34-{form}", f"says an error in the form `{form}`, and closes", [said, fin()], "failed", ""
    yield (
        "u33-empty",
        "sends an event `error` without a word",
        [*_HELLO, raw(b"event: error\n\n"), _DONE],
        "failed",
        "Hello",
    )
    ndjson = [head(content_type="application/x-ndjson"), raw(b'{"choices":[{"delta":{"content":"a"}}]}\n' * 2)]
    yield "u36-ndjson", "sends lines of JSON", ndjson, "failed", ""
    yield (
        "u36-between",
        "sends something else in between",
        [say("Hel"), raw(b"what?\n\n"), say("lo"), done()],
        "complete",
        "Hello",
    )
    yield "u36-unknown", "sends nothing but unknown events", [chunk({"hello": 1}), _DONE], "failed", ""
    null = {"choices": [{"index": None, "delta": {"content": "Hello"}}]}
    yield "u37-choice", "has a choice whose index is null", [chunk(null), done()], "complete", "Hello"
    pieces = [
        tool_fragment(None, name="f", id="a"),
        tool_fragment(None, "{}"),
        tool_fragment(None, "{}", name="g", id="b"),
    ]
    yield "u39-no-index", "sends calls without an index", [say("Hello"), *pieces, done()], "complete", "Hello"
    twice = [tool_fragment(0, "{}", name="f", id="a"), tool_fragment(0, "{}", name="g", id="b")]
    yield "u39-one-index", "has two calls at one index", [say("Hello"), *twice, done()], "complete", "Hello"
    yield (
        "u41-code",
        "says the code 777 in an error",
        [*_HELLO, error({"message": "boom", "code": 777})],
        "failed",
        "Hello",
    )
    document = raw(b'{"choices":[{"message":{"content":"Hello"},"finish_reason":"stop"}]}')
    silent = [head(content_type="application/json"), document, stall()]
    yield "u38-document", "does not end its document, and is silent", silent, "complete", "Hello"


_BOTH: tuple[Callable[[], Iterator[Row]], ...] = (_endings, _errors, _strangers, _bytes)
# What a request without a stream would wait for, or be told in another way.
_STREAMED = frozenset(
    (
        "u38",
        "u38-line",
        "u16-null",
        "u16-list",
        "u16-number",
        "u16-types",
        "u24-lie",
        "u14",
        "u34-detail",
        "u37-status",
        "u37-beside",
    )
)


def _table() -> Iterator[Misbehaviour]:
    wires: tuple[Wire, Wire] = ("ollama", "openai")
    for rows, of in (*((rows, wires) for rows in _BOTH), (_ollama, wires[:1]), (_openai, wires[1:])):
        for id, does, script, outcome, text in rows():
            for wire in of:
                yield Misbehaviour(id, wire, does, tuple(script), outcome, text, id not in _STREAMED)


def misbehaviours() -> tuple[Misbehaviour, ...]:
    """Return all of them, by the fault's number."""
    return tuple(sorted(_table(), key=lambda case: (int(case.id.partition("-")[0][1:]), case.id)))
