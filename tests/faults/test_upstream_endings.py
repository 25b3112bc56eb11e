"""Upstream faults in how an answer begins and ends: U1 to U8, U17, U19, U20, U26, U27, U30, U32."""

from __future__ import annotations

import asyncio

import pytest
from tests.faults.faces import MESSAGES, Face, Upstream

from tailrace import AsyncClient
from tailrace.errors import ConnectionError, ResponseError, TimedOutError, TruncatedError
from tailrace.events import Ended, Event, Loading, Outcome, Prefill, ToolCall
from tailrace.run.timeouts import Timeouts
from tailrace.testing import (
    FakeOllama,
    NeverAccepts,
    Step,
    chunk,
    closed_port,
    cut,
    delay,
    done,
    error,
    fin,
    half_close,
    half_line,
    head,
    hold,
    ping,
    queue,
    raw,
    rst,
    say,
    slow_load,
    stall,
    status,
    think,
    together,
    tool_call,
)
from tailrace.testing.records import Phase

# Ends that are no good end. The text that came before is kept, and nothing is asked again.
RST, CUT, HALF_CLOSE, CLEAN_END = [rst()], [cut()], [half_close()], [fin()]
HALF_LINE = [half_line(" never shown"), fin()]

GHOST = {
    "ollama": {"model": "m", "message": {"role": "assistant", "content": "ghost"}, "done": False},
    "openai": {"choices": [{"index": 0, "delta": {"content": "ghost"}}]},
}


def test_u1_slow_first_byte(upstream: Upstream, kind: str) -> None:
    """A server that is silent before the first token is waited for: the idle limit does not count yet."""
    face = Face(kind, upstream.host, timeout=Timeouts(connect=20, first_token=20, idle=0.2))
    upstream.script(slow_load(), delay(0.5), together(say("Hel", "lo"), done()))
    upstream.server.release("load")
    face.chat().whole("Hello")
    upstream.is_let_go(face)


def test_u1_slow_first_byte_is_shown(ollama: Upstream, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Ollama is silent the run says that the model is loaded, and then that it reads the prompt."""
    monkeypatch.setattr("tailrace.backends.ollama._WATCH_AFTER", 0.05)
    server = ollama.server
    server.always(status(200, {"models": []}), path="/api/ps")

    def watch(event: Event) -> None:
        if type(event) is Loading:
            server.always(status(200, {"models": [{"name": "m:latest", "model": "m:latest"}]}), path="/api/ps")
        if type(event) is Prefill:
            server.release("load")

    server.script(slow_load(), say("Hel", "lo"), path="/api/chat")
    seen = Face(kind, ollama.host).chat(watch)
    seen.whole("Hello")
    assert seen.events[:2] == [Loading("m"), Prefill()]
    assert server.wait_until_idle()


@pytest.mark.parametrize(("phase", "step"), [("queued", queue()), ("loading", slow_load()), ("holding", hold())])
def test_u1_cancel_before_the_first_byte(upstream: Upstream, kind: str, phase: Phase, step: Step) -> None:
    """Cancel works before the first byte, whatever the server does meanwhile; it sees us leave."""
    face = Face(kind, upstream.host)
    upstream.script(step, say("never"))
    seen = face.cancelled(upstream.server, phase)
    assert seen.events == [Ended(Outcome.CANCELLED)]
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


def test_u1_connect_has_its_own_limit(kind: str) -> None:
    """A server that never accepts times out in the phase `connect`."""
    with NeverAccepts() as server:
        seen = Face(kind, server.url, timeout=Timeouts(connect=0.2, first_token=20)).chat()
    assert seen.broke(TimedOutError, Outcome.TIMED_OUT) == "no connection within 0.2 s"
    assert seen.ended.reason == "connect"


def test_u1_first_token_has_its_own_limit(upstream: Upstream, kind: str) -> None:
    """A server that accepts and says nothing times out in the phase `first_token`, heads and all."""
    face = Face(kind, upstream.host, timeout=Timeouts(connect=20, first_token=0.3, idle=20))
    upstream.script(head(now=True), stall())
    seen = face.chat()
    assert seen.broke(TimedOutError, Outcome.TIMED_OUT) == "no first token within 0.3 s"
    assert isinstance(seen.error, TimedOutError)
    assert (seen.error.phase, seen.ended.reason) == ("first_token", "first_token")
    assert seen.error.hint == "raise it with timeout=Timeouts(first_token=SECONDS)"
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


@pytest.mark.parametrize(("step", "text", "thinking"), [(say("Hel", "lo"), "Hello", ""), (think("H", "m"), "", "Hm")])
def test_u2_stall_in_the_middle(upstream: Upstream, kind: str, step: Step, text: str, thinking: str) -> None:
    """A stream that stalls with its socket open ends at the idle limit; what came is kept, and the server is let go."""
    face = Face(kind, upstream.host, timeout=Timeouts(connect=20, first_token=20, idle=0.3))
    upstream.script(together(step), stall())
    seen = face.chat()
    assert seen.broke(TimedOutError, Outcome.TIMED_OUT, text) == "no further token for 0.3 s"
    assert isinstance(seen.error, TimedOutError)
    assert (seen.error.phase, seen.ended.reason) == ("idle", "idle")
    assert seen.reply.thinking == thinking
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


def test_u2_stall_after_a_tool_call(ollama: Upstream, kind: str) -> None:
    """A tool call is content: the idle limit counts from it, and the call is kept."""
    face = Face(kind, ollama.host, timeout=Timeouts(connect=20, first_token=20, idle=0.3))
    ollama.script(tool_call("f", {"a": 1}, id="c1"), stall())
    seen = face.chat()
    seen.broke(TimedOutError, Outcome.TIMED_OUT)
    assert seen.ended.reason == "idle"
    assert seen.reply.tool_calls == [ToolCall("f", {"a": 1}, "c1", 0)]
    ollama.is_let_go(face)


def is_truncated(upstream: Upstream, kind: str, ending: list[Step], said: tuple[str, ...]) -> None:
    """The run is `truncated`, never success: the text is kept, nothing is asked again, and our socket is closed."""
    face = Face(kind, upstream.host)
    upstream.script(*([say(*said)] if said else []), *ending)
    seen = face.chat()
    seen.broke(TruncatedError, Outcome.TRUNCATED, "".join(said))
    assert seen.texts[-1:] == list(said[-1:])
    upstream.is_let_go(face)


in_the_middle_or_before = pytest.mark.parametrize("said", [("Hel", "lo"), ()], ids=["in the middle", "before any text"])


@in_the_middle_or_before
def test_u3_reset(upstream: Upstream, kind: str, said: tuple[str, ...]) -> None:
    """A connection that is reset truncates the answer."""
    is_truncated(upstream, kind, RST, said)


@in_the_middle_or_before
def test_u4_end_inside_a_chunk(upstream: Upstream, kind: str, said: tuple[str, ...]) -> None:
    """So does one that ends inside a chunk of HTTP."""
    is_truncated(upstream, kind, CUT, said)


@in_the_middle_or_before
def test_u5_half_close(upstream: Upstream, kind: str, said: tuple[str, ...]) -> None:
    """So does a server that ends its side and still reads; our side is closed at once."""
    is_truncated(upstream, kind, HALF_CLOSE, said)


@in_the_middle_or_before
def test_u6_clean_end(upstream: Upstream, kind: str, said: tuple[str, ...]) -> None:
    """So does a clean end without the final record, which others take for success."""
    is_truncated(upstream, kind, CLEAN_END, said)


@in_the_middle_or_before
def test_u8_half_a_line(upstream: Upstream, kind: str, said: tuple[str, ...]) -> None:
    """So does a last line that was cut in half; that half is not shown."""
    is_truncated(upstream, kind, HALF_LINE, said)


@pytest.mark.parametrize("ending", [RST, CUT, CLEAN_END, HALF_LINE], ids=["u3", "u4", "u6", "u8"])
def test_u3_u4_u6_u8_without_a_stream(ollama: Upstream, kind: str, ending: list[Step]) -> None:
    """An answer without a stream that breaks off raises as well."""
    face = Face(kind, ollama.host)
    ollama.script(say("Hel", "lo"), *ending)
    with pytest.raises(TruncatedError) as caught:
        face.call("chat", "m", MESSAGES)
    assert caught.value.reply.outcome is Outcome.TRUNCATED
    ollama.is_let_go(face)


def test_u6_the_missing_record_is_named(upstream: Upstream, kind: str) -> None:
    """A clean end without the final record says which record is missing."""
    upstream.script(say("Hello"), fin())
    message = Face(kind, upstream.host).chat().broke(TruncatedError, Outcome.TRUNCATED, "Hello")
    missing = {"ollama": '"done": true', "openai": "a finish_reason or [DONE]"}[upstream.wire]
    assert message == f"the server closed the stream without {missing}"


@pytest.mark.parametrize("method", ["chat", "generate"])
def test_u6_on_every_method(upstream: Upstream, kind: str, method: str) -> None:
    """Chat and generate judge a clean end alike."""
    upstream.script(say("Hello"), fin())
    seen = Face(kind, upstream.host).stream(method, "m", "hi" if method == "generate" else MESSAGES)
    seen.broke(TruncatedError, Outcome.TRUNCATED, "Hello")


def test_u6_pull_without_success(ollama: Upstream, kind: str) -> None:
    """A pull that stops before `success` is truncated."""
    ollama.server.script(chunk({"status": "pulling manifest"}), fin(), path="/api/pull")
    seen = Face(kind, ollama.host).pull()
    assert seen.broke(TruncatedError, Outcome.TRUNCATED) == 'the server closed the stream without "success"'


def test_u7_reason_without_the_marker(upstream: Upstream, kind: str) -> None:
    """A reason without `done: true` (or `[DONE]`) is an ending, with a warning."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), done("stop", marker=False))
    reply = face.chat().whole("Hello")
    assert reply.reason == "stop"
    assert (
        reply.warnings
        == {
            "ollama": ('the server sent done_reason "stop" but never done: true',),
            "openai": ("the server closed the stream without [DONE]",),
        }[upstream.wire]
    )
    upstream.is_let_go(face)


def test_u7_length_without_the_marker(upstream: Upstream, kind: str) -> None:
    """The same with the reason `length`."""
    upstream.script(say("Hel", "lo"), done("length", marker=False))
    assert len(Face(kind, upstream.host).chat().whole("Hello", Outcome.LENGTH).warnings) == 1


def test_u7_done_without_a_reason(upstream: Upstream, kind: str) -> None:
    """The other way round, `done: true` or `[DONE]` without a reason, is an ending too."""
    upstream.script(say("Hel", "lo"), done(None))
    assert Face(kind, upstream.host).chat().whole("Hello").reason == ""


def test_u17_error_in_the_stream(upstream: Upstream, kind: str) -> None:
    """An error in the stream fails the run with the server's text and keeps what came."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), error("the sky fell"))
    seen = face.chat()
    assert seen.broke(ResponseError, Outcome.FAILED, "Hello") == "the sky fell (status code: -1)"
    assert isinstance(seen.error, ResponseError)
    assert (seen.error.error, seen.error.status_code) == ("the sky fell", -1)
    upstream.is_let_go(face)


def test_u19_done_twice(upstream: Upstream, kind: str) -> None:
    """A second ending is ignored, and counted."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), together(done("stop", eval_count=2), done("length", eval_count=9)))
    reply = face.chat().whole("Hello")
    assert (reply.reason, reply.usage and reply.usage.output_tokens) == ("stop", 2)
    assert [warning for warning in reply.warnings if "after the end" in warning] == list(reply.warnings)
    assert len(reply.warnings) == 1
    upstream.is_let_go(face)


@pytest.mark.parametrize("in_one_read", [True, False])
def test_u20_data_after_done(upstream: Upstream, kind: str, in_one_read: bool) -> None:
    """Text after the ending is never shown; what came in the same read is counted; the connection is not used again."""
    face = Face(kind, upstream.host)
    ghosts = [chunk(GHOST[upstream.wire]), chunk(GHOST[upstream.wire])]
    if in_one_read:
        upstream.script(say("Hel", "lo"), together(done(), *ghosts))
    else:
        upstream.script(say("Hel", "lo"), done(), *ghosts)
    reply = face.chat().whole("Hello")
    if in_one_read:
        what = {"ollama": "lines", "openai": "events"}[upstream.wire]
        assert reply.warnings == (f"2 {what} after the end of the answer were dropped",)
    upstream.is_let_go(face)


@pytest.mark.parametrize(
    "text",
    [
        "an error was encountered while running the model: unexpected EOF",
        "llama-server process has terminated: signal: killed",
        "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error",
        "CUDA error: out of memory",
    ],
)
def test_u26_the_model_dies(upstream: Upstream, kind: str, text: str) -> None:
    """A runner that crashes in the middle fails the run with advice; the next run works."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), error(text))
    seen = face.chat()
    seen.broke(ResponseError, Outcome.FAILED, "Hello")
    assert isinstance(seen.error, ResponseError)
    assert seen.error.error == text
    assert "smaller" in seen.error.hint
    assert seen.ended.fault is not None
    assert seen.ended.fault.hint == seen.error.hint
    upstream.is_let_go(face)


def test_u27_restarted_between_runs(kind: str) -> None:
    """A server that was restarted between two runs is none the wiser: there is no stale socket to trip over."""
    with FakeOllama(port=closed_port()) as first:  # its port is kept for the second one
        face = Face(kind, first.url)
        first.script(say("one"))
        face.chat().whole("one")
        port = first.port
    with FakeOllama(port=port) as second:
        second.script(say("two"))
        face.chat().whole("two")
        assert len(second.requests) == 1
        assert second.wait_until_idle()


def test_u27_killed_while_it_answers(kind: str) -> None:
    """A server that dies under a run truncates it; the next run says that nothing answers, and the one after works."""
    with FakeOllama(port=closed_port()) as first:
        face = Face(kind, first.url)
        first.script(say("Hel", "lo"), hold(), done())

        def watch(event: Event) -> None:
            if getattr(event, "text", "") == "lo":
                first.drop_connections()

        face.chat(watch).broke(TruncatedError, Outcome.TRUNCATED, "Hello")
        port = first.port
    face.chat().broke(ConnectionError, Outcome.FAILED)
    with FakeOllama(port=port) as second:
        second.script(say("again"))
        face.chat().whole("again")


def test_u30_trickle(upstream: Upstream, kind: str) -> None:
    """Bytes that make no event do not count as life: blanks and comments for ever end at the idle limit."""
    face = Face(kind, upstream.host, timeout=Timeouts(connect=20, first_token=20, idle=0.4))
    byte = ping() if upstream.wire == "openai" else raw(b" ")
    upstream.script(say("Hello"), *[byte, delay(0.05)] * 400, done())
    seen = face.chat()
    assert seen.broke(TimedOutError, Outcome.TIMED_OUT, "Hello") == "no further token for 0.4 s"
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


def test_u30_trickle_before_the_first_token(upstream: Upstream, kind: str) -> None:
    """The same before the first token ends at that limit."""
    face = Face(kind, upstream.host, timeout=Timeouts(connect=20, first_token=0.4, idle=20))
    byte = ping() if upstream.wire == "openai" else raw(b" ")
    upstream.script(*[byte, delay(0.05)] * 400, done())
    face.chat().broke(TimedOutError, Outcome.TIMED_OUT)
    upstream.is_let_go(face)


def test_u30_total(upstream: Upstream, kind: str) -> None:
    """A server that talks on for ever, fast enough for the idle limit, ends at the total limit."""
    face = Face(kind, upstream.host, timeout=Timeouts(connect=20, first_token=20, idle=20, total=0.5))
    upstream.script(say(*["a"] * 400, every=0.05))
    seen = face.chat()
    seen.broke(TimedOutError, Outcome.TIMED_OUT, "a" * len(seen.texts))
    assert seen.ended.reason == "total"
    assert upstream.server.requests[0].wait_until_left()


@pytest.mark.parametrize("ending", [RST, CUT, CLEAN_END], ids=["reset", "cut", "clean end"])
def test_u32_never_goes_on_by_itself(upstream: Upstream, kind: str, ending: list[Step]) -> None:
    """After content a broken answer is not asked for again, though the server would give it, prefix and all."""
    face = Face(kind, upstream.host)
    upstream.server.always(say("Hel", "lo", ", world"))
    upstream.script(say("Hel", "lo"), *ending)
    seen = face.chat()
    seen.broke(TruncatedError, Outcome.TRUNCATED, "Hello")
    assert upstream.server.wait_until_idle()
    assert len(upstream.server.requests) == 1


def test_u2_two_readers_see_the_same_time_out(ollama: Upstream) -> None:
    """Two tasks that read one run see the same text and the same error."""

    async def run() -> None:
        client = AsyncClient(ollama.host, timeout=Timeouts(idle=0.3))
        stream = await client.chat("m", MESSAGES, stream=True)

        async def read() -> str:
            got = [event async for event in stream.events()]
            with pytest.raises(TimedOutError) as caught:
                await stream.wait()
            return f"{len(got)} {caught.value.reply.text} {caught.value}"

        ollama.script(together(say("Hel", "lo")), stall())
        first, second = await asyncio.gather(read(), read())
        assert first == second == "3 Hello no further token for 0.3 s"

    asyncio.run(run())
