"""Real WSGI servers: what a browser gets from each, and what the model server sees when the browser goes."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Iterator

import pytest
from tests.web.flask_app import MAX_BODY
from tests.web.nginx import nginx
from tests.web.reader import PATIENCE, Reader, text, texts
from tests.web.wsgi_servers import SERVERS, THREADS, WSGIServer, serving

from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.testing import Record, error, hold, say, stall, status, think

FREED = 2.5  # seconds in which the model is to be free once the browser has gone: a requirement
SEND_TIMEOUT = 2.0


@pytest.fixture(scope="module", params=SERVERS)
def one_server(request: pytest.FixtureRequest) -> Iterator[WSGIServer]:
    """Each server in turn; the application is loaded, and has asked something, before gunicorn forks."""
    with serving(request.param, env={"SEND_TIMEOUT": str(SEND_TIMEOUT), "ASK_AT_IMPORT": "1"}) as served:
        yield served


@pytest.fixture
def served(one_server: WSGIServer) -> Iterator[WSGIServer]:
    """A server without readers; in the end it has none again."""
    yield one_server
    one_server.until_quiet()


@pytest.fixture(params=["direct", "nginx"])
def way(request: pytest.FixtureRequest, served: WSGIServer) -> Iterator[str]:
    """The address of a server: its own, and that of an nginx with default settings in front of it."""
    if request.param == "direct":
        yield served.url
        return
    with nginx(served.url) as front:
        yield front.url


# -- reading -----------------------------------------------------------------------------------------------------------


def test_c13_the_first_comment_comes_before_the_first_token(served: WSGIServer, way: str) -> None:
    """Headers and a comment are there while the model is silent; then each piece as it comes, and the ending."""
    with served.answering(hold(), say("Hel"), hold(), say("lo"), url=way) as (reader, _):
        reader.until(b": tailrace\n\n")
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.headers["cache-control"] == "no-cache, no-transform"
        assert reader.run.startswith("/chat/stream/run_")
        assert reader.raw.startswith(b"retry: ")

        served.model.release()
        assert json.loads(reader.next().data) == {"content": "Hel"}
        served.model.release()
        events = reader.all()

    assert texts(events) == ["lo"]
    assert events[-1].data == b"[DONE]"
    ended = json.loads(events[-2].data)
    assert (events[-2].type, ended["content"], ended["outcome"]) == ("ended", "", "complete")
    assert ended["metrics"]["output_tokens"] == 2


def test_x_accel_buffering_is_off(served: WSGIServer) -> None:
    """nginx is told not to keep the answer back (it takes the header for itself)."""
    with served.ask(say("x")) as reader:
        assert reader.headers["x-accel-buffering"] == "no"
        reader.body()


def test_c13_silence_is_filled_with_pings(served: WSGIServer, way: str) -> None:
    """While the model is silent a comment comes again and again."""
    with served.answering(stall(), url=way) as (reader, _):
        reader.until(b": ping\n\n: ping\n\n")


def test_the_tutorials_reader_prints_the_answer(served: WSGIServer) -> None:
    """A reader that knows `data:` lines, `content` and `[DONE]`, as the tutorial writes them, needs no change."""
    served.model.script(think("Hm"), say("你", "好\n\u2028🌊"))
    connection = http.client.HTTPConnection("127.0.0.1", served.server.port, timeout=PATIENCE)
    body = json.dumps({"message": "你好"}).encode()
    connection.request("POST", "/chat/stream", body, {"Content-Type": "application/json"})
    response = connection.getresponse()

    printed = ""
    for line in response:
        if line.startswith(b"data: "):
            data = line[len(b"data: ") :].strip()
            if data == b"[DONE]":
                break
            printed += json.loads(data)["content"]
    connection.close()

    assert printed == "你好\n\u2028🌊"
    assert served.model.requests[-1].json["messages"] == [{"role": "user", "content": "你好"}]


def test_the_message_may_be_in_the_query(served: WSGIServer) -> None:
    """`?message=` is what the tutorial's FastAPI code reads."""
    served.model.script(say("ok"))
    with Reader(served.url, "/chat/stream?message=h%C3%A9%20%26") as reader:
        assert text(reader.all()) == "ok"
    assert served.model.requests[-1].json["messages"] == [{"role": "user", "content": "hé &"}]


def test_an_endpoint_of_ones_own(served: WSGIServer) -> None:
    """`StreamResponse` in a view streams, and its reader's leaving frees the model."""
    with served.answering(say("a"), hold(), say("b"), path="/ask") as (reader, _):
        assert json.loads(reader.next().data) == {"content": "a"}
        served.model.release()
        assert text(reader.all()) == "b"
    with served.answering(say("a"), stall(), path="/ask") as (reader, record):
        reader.until(b'"a"')
        reader.leave()
        assert record.wait_until_left(PATIENCE)


def test_c15_an_old_client_gets_an_answer_that_ends_with_the_connection(served: WSGIServer) -> None:
    """HTTP/1.0 has no chunks: the answer is the same, and the connection's end is its end."""
    served.model.script(say("Hel", "lo"))
    with Reader(served.url, body={"message": "hi"}, version="1.0") as reader:
        chunked = "transfer-encoding" in reader.headers
        assert chunked == (served.name == "flask")  # whose server sends chunks to everybody
        assert text(reader.all()) == "Hello"


def test_c15_head_has_headers_and_no_body(served: WSGIServer) -> None:
    """HEAD of a run answers at once and holds nobody's place."""
    with served.ask(say("x"), linger=60) as reader:
        reader.body()
    for _ in range(THREADS + 1):
        with Reader(served.url, reader.run, method="HEAD") as head:
            assert (head.status, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_error_of_the_model_server_comes_in_band(served: WSGIServer) -> None:
    """What goes wrong in the middle is an event; there is no `[DONE]`, and what had come stays."""
    with served.ask(say("half"), error("the runner crashed")) as reader:
        events = reader.all()

    assert text(events[:1]) == "half"
    fault = json.loads(events[1].data)
    assert (events[1].type, fault["content"], fault["error"]["message"]) == ("message", "", "the runner crashed")
    assert (events[2].type, json.loads(events[2].data)["outcome"]) == ("ended", "failed")
    assert len(events) == 3


def test_an_error_before_the_first_token_comes_in_band(served: WSGIServer) -> None:
    """The answer had begun when the model server refused, so that its refusal is an event as well."""
    with served.ask(status(500, {"error": "out of memory"})) as reader:
        first = json.loads(reader.next().data)
    assert first["error"]["message"] == "out of memory"


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/chat/stream", b"{", 400),
        ("/chat/stream", b"[]", 400),
        ("/chat/stream", b"", 400),
        ("/chat/stream", b'{"message": 1}', 400),
        ("/chat/stream", b'{"message": "a\\ud800"', 400),
        ("/chat/stream", b"\xff", 400),
        ("/chat/stream", b'{"messages":' + b"[" * 50_000, 400),
        ("/chat/stream", b'{"prompt": "p"}', 400),
        ("/chat/stream", b'{"message": "m", "linger": -1}', 400),
        ("/chat/stream", b" " * (MAX_BODY + 1), 413),
    ],
)
def test_c7_a_bad_request_is_a_problem(served: WSGIServer, path: str, body: bytes, code: int) -> None:
    """Each is answered with a status and a JSON problem, and nothing is asked of the model."""
    asked = len(served.model.requests)
    with Reader(served.url, path, body) as reader:
        problem = reader.json
    assert (reader.status, reader.headers["content-type"]) == (code, "application/problem+json")
    assert (problem["status"], bool(problem["detail"])) == (code, True)
    assert len(served.model.requests) == asked


# -- leaving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_c1_a_browser_gone_before_the_first_token_frees_the_model(served: WSGIServer, way: str, how: str) -> None:
    """The model server sees its client leave within 2.5 s after the browser has."""
    with served.answering(stall(), url=way) as (reader, record):
        reader.until(b": tailrace\n\n")
        assert record.wait_until_phase("stalling", timeout=PATIENCE)
        _leaves(reader, record, how)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_c2_a_browser_gone_mid_stream_frees_the_model(served: WSGIServer, way: str, how: str) -> None:
    """So it is when the model falls silent in the middle of its answer."""
    with served.answering(say("a"), stall(), url=way) as (reader, record):
        reader.until(b'"a"')
        assert record.wait_until_phase("stalling", timeout=PATIENCE)
        _leaves(reader, record, how)


def _leaves(reader: Reader, record: Record, how: str) -> None:
    gone = time.monotonic()
    reader.leave(how)
    assert record.wait_until_left(PATIENCE)
    assert record.left_at is not None
    assert record.left_at - gone < FREED


def test_c2_a_browser_gone_while_the_model_talks_frees_the_model(served: WSGIServer) -> None:
    """A model that says something all the time is let go of as well."""
    with served.answering(say(*["word "] * 4000, every=0.02)) as (reader, record):
        reader.until(b'"word "')
        reader.leave()
        assert record.wait_until_left(PATIENCE)


def test_c3_a_reader_that_comes_back_gets_exactly_the_rest(served: WSGIServer, way: str) -> None:
    """With a linger time the run waits for its reader, who goes on where it was."""
    with served.answering(say("one "), stall(), url=way, linger=300) as (reader, record):
        event = reader.next()
        run = reader.run
    assert json.loads(event.data) == {"content": "one "}
    # Its place is free, and it is no reader any more: the server has noticed that it has gone.
    assert not record.client_left
    with served.again(run, event.id, url=way) as second:
        second.until(b": ping")
        assert second.events == []
        assert served.stop(run)["outcome"] == "cancelled"
        assert [event.type for event in second.all()] == ["ended", "message"]


def test_a_run_goes_on_without_its_reader(served: WSGIServer) -> None:
    """What came while nobody read is there for who comes back, from the first event on or after any other."""
    with served.answering(hold(), say("one ", "two "), hold(), say("three"), linger=300) as (reader, record):
        reader.until(b": tailrace")
        run = reader.run
    served.model.release(count=2)
    assert record.wait_until_ended(PATIENCE)

    with served.again(run) as second:
        events = second.all()
    assert (text(events), events[-1].data) == ("one two three", b"[DONE]")
    with served.again(run, events[0].id) as third:
        assert text(third.all()) == "two three"
    with served.again(run, events[-1].id) as fourth:
        assert fourth.status == 204  # which ends an EventSource


def test_two_readers_of_one_run_both_get_all(served: WSGIServer) -> None:
    """The second comes while the first reads; one generation is behind them."""
    with served.answering(say("a"), hold(), say("b")) as (first, _):
        first.until(b'"a"')
        with served.again(first.run) as second:
            second.until(b'"a"')
            served.model.release()
            assert text(first.all()) == text(second.all()) == "ab"


# -- cursors -----------------------------------------------------------------------------------------------------------


def test_c9_a_bad_cursor_is_a_clear_answer(served: WSGIServer) -> None:
    """Nonsense and ids of other runs are 400; an id ahead of the log begins with a reset."""
    with served.ask(say("a", "b"), linger=60) as reader:
        tag = reader.next().id.partition("-")[2]
        run = reader.run
        reader.body()
    bad_cursors = ["x", "-1", "1" * 30, "1-00000000", "1-", "1 2"]
    if served.name != "granian":  # which leaves out headers that are not ASCII: then it is a reader without a cursor
        bad_cursors.append("²")
    for cursor in bad_cursors:
        with served.again(run, cursor) as bad:
            assert (bad.status, bad.headers["content-type"]) == (400, "application/problem+json"), cursor
    with served.again(run, f"99-{tag}") as ahead:
        events = ahead.all()
    assert (events[0].type, text(events)) == ("reset", "ab")
    with Reader(served.url, f"{run}?after=1", method="GET") as query:
        assert text(query.all()) == "b"


def test_an_unknown_run_is_404(served: WSGIServer) -> None:
    """Reading and stopping a run that is not there are problems."""
    for method in ("GET", "DELETE"):
        with Reader(served.url, "/chat/stream/run_0", method=method) as reader:
            assert (reader.json["status"], reader.status) == (404, 404)


# -- stopping ----------------------------------------------------------------------------------------------------------


def test_a_stop_from_another_connection_before_the_first_token(served: WSGIServer) -> None:
    """DELETE answers when the model server has let go; the reader gets the ending."""
    with served.answering(stall()) as (reader, record):
        run = reader.run
        assert record.wait_until_phase("stalling", timeout=PATIENCE)
        stopped = served.stop(run)
        assert record.wait_until_left(PATIENCE)
        events = reader.all()

    assert (stopped["id"], stopped["outcome"]) == (run.rpartition("/")[2], "cancelled")
    assert [event.type for event in events] == ["ended", "message"]
    assert json.loads(events[0].data)["outcome"] == "cancelled"


def test_a_stop_while_it_streams_keeps_what_was_said(served: WSGIServer) -> None:
    """Then too; what had come stays, and a second stop says how the first ended."""
    with served.answering(say("Hel", "lo"), stall()) as (reader, record):
        reader.until(b'"lo"')
        assert served.stop(reader.run)["confirmed"]
        assert record.wait_until_left(PATIENCE)
        assert text(reader.all()) == "Hello"
        assert served.stop(reader.run)["outcome"] == "cancelled"


# -- threads -----------------------------------------------------------------------------------------------------------


def test_p14_when_threads_run_out_the_next_stream_is_refused_at_once(served: WSGIServer) -> None:
    """Of four silent streams at once the first three stream and the fourth is a 503; all else is still answered."""
    allowed = THREADS - 1 if served.limited else 2 * THREADS
    for _ in range(allowed):
        served.model.script(stall())
    came = [Reader(served.url, body={"message": "hi"}) for _ in range(max(THREADS, allowed))]
    readers = [reader for reader in came if reader.status == 200]
    refused = [reader for reader in came if reader.status != 200]

    assert len(readers) == allowed
    for reader in refused:
        assert (reader.status, reader.headers["retry-after"], reader.json["status"]) == (503, "1", 503)
        with served.again(readers[0].run) as more:
            assert more.status == 503  # whoever reads on needs a thread too
        reader.leave()

    assert served.streams() == len(readers)
    for reader in readers:  # the thread that is left stops them
        assert served.stop(reader.run)["outcome"] == "cancelled"
        assert [event.type for event in reader.all()] == ["ended", "message"]
        reader.leave()


def test_c4_a_reader_that_never_reads(served: WSGIServer) -> None:
    """The model is done with, however much it says. What becomes of the thread is up to each server.

    gunicorn and Flask's own server: the system ends the connection after `send_timeout`. waitress: keeps up to 16 MiB
    for the reader and needs no thread for that. granian: keeps the thread until the connection ends.
    """
    with served.answering(say(*["x" * 1000] * 20_000), rcvbuf=4096) as (reader, record):
        assert record.wait_until_ended(PATIENCE)
        if served.name == "granian":
            with served.ask(say("ok")) as other:
                assert text(other.all()) == "ok"
            assert served.streams() == 1
            reader.leave()
        served.until_quiet()


# -- reading on, after every cut ---------------------------------------------------------------------------------------

SCRIPT = (
    think("Hm", "…"),
    say("One ", "línea\n", "data: x\n\n", "水🌊", "\u2028", " end"),
)
ANSWER = "One línea\ndata: x\n\n水🌊\u2028 end"


def test_resume_after_every_event_while_it_streams(served: WSGIServer) -> None:
    """The reader leaves after each event, and comes back for the next: in the end it has all, once."""
    steps = [step for part in ("One ", "two ", "three ", "four") for step in (hold(), say(part))]
    with served.answering(*steps, linger=300) as (reader, _):
        run = reader.run
        events: list[ServerSentEvent] = []
        while not events or events[-1].data != b"[DONE]":
            served.model.release()
            events.append(reader.next())
            if events[-1].type == "ended":
                events.append(reader.next())  # both carry the last id
            reader.leave()
            served.until_quiet()
            reader = served.again(run, events[-1].id)
        assert reader.status == 204
        reader.leave()

    assert texts(events) == ["One ", "two ", "three ", "four"]
    assert [event.type for event in events[-2:]] == ["ended", "message"]


def test_resume_after_cuts_at_any_byte(served: WSGIServer) -> None:
    """The connection is cut at random bytes, again and again; the text read in the end is the text generated."""
    with served.ask(*SCRIPT, linger=300) as reader:
        run = reader.run
        *whole, last = [(event.type, event.data) for event in reader.all()]
        assert last == ("message", b"[DONE]")  # has the ending's id: whoever was cut off before it gets a 204 instead
        size = len(reader.raw)
    draw = random.Random(served.name)
    for _ in range(25):
        events = _read_with_cuts(served, run, draw, size)
        assert text(events) == ANSWER
        assert [(event.type, event.data) for event in events if event.data != b"[DONE]"] == whole


def _read_with_cuts(served: WSGIServer, run: str, draw: random.Random, size: int) -> list[ServerSentEvent]:
    """Reads a run over connections that break after so many bytes of body each."""
    events: list[ServerSentEvent] = []
    cursor = ""
    while True:
        with served.again(run, cursor) as reader:
            if reader.status == 204:
                return events
            decoder, left = SSEDecoder(), draw.randint(0, size)
            while left > 0 and (data := reader.more()):
                events += decoder.feed(data[:left])
                left -= len(data)
            cursor = decoder.last_event_id or cursor


def test_an_ending_that_was_cut_off_comes_again(served: WSGIServer) -> None:
    """A reader that has all but the ending gets it, and is told that there is no more only after that."""
    with served.ask(say("a", "b"), linger=300) as reader:
        events = reader.all()
    ended = next(event for event in events if event.type == "ended")
    before = events[events.index(ended) - 1]
    with served.again(reader.run, before.id) as again:
        assert [event.type for event in again.all()] == ["ended", "message"]
