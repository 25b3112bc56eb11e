"""`tailrace serve --workers`: every worker answers for every run, whichever connection a request comes on."""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.gateway.cluster.crew import Line, Stream, lines, pids, worker_of
from tests.gateway.serving import Gateway, numbers, said, serving
from tests.web.reader import PATIENCE

from tailrace.gateway.cluster.worker_ids import home_of
from tailrace.testing import Record, Step, hold, say, stall

COUNT = 3


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway of three workers, whose runs wait for readers as long as they like."""
    with serving("--workers", str(COUNT), "--on-leave", "continue") as gateway:
        yield gateway
        assert gateway.call("GET", "/runs?state=running").json == {"runs": []}
        assert gateway.upstream.wait_until_idle(PATIENCE)


# -- runs --------------------------------------------------------------------------------------------------------------


def test_run_is_read_resumed_and_stopped_through_every_other_worker(gateway: Gateway) -> None:
    """Whoever started it: another worker reads it, reads on without loss or doubling, and a third one stops it."""
    words = [f"{number} " for number in range(200)]
    for owner, reader, stopper in itertools.permutations(range(COUNT)):
        with lines(gateway, COUNT) as each:
            id, record = each[owner].begin(say(*words[:100]), hold(), say(*words[100:]), stall())
            each[owner].stream(f"/runs/{id}/events").until(b'"99 "')
            before = each[reader].stream(f"/runs/{id}/events?follow=false").all()
            stream = each[reader].stream(f"/runs/{id}/events", before[-1].id)
            gateway.upstream.release()
            stream.until(b'"199 "')
            status, stopped = each[stopper].call("DELETE", f"/runs/{id}")
            after = stream.all()

        assert record.wait_until_left(PATIENCE)
        assert (status, stopped["outcome"], stopped["id"]) == (200, "cancelled", id)
        assert said(before) + said(after) == "".join(words)
        assert numbers([*before, *after]) == list(range(1, len(before) + len(after) + 1))
        assert json.loads(after[-1].data)["outcome"] == "cancelled"


def test_answers_are_the_same_bytes_through_every_worker(gateway: Gateway) -> None:
    """Another worker's answer comes as it is, on every wire, with its own headers and no others."""
    with lines(gateway, COUNT) as each:
        id, _ = each[0].begin(say("Hel", "lo **you**"))
        each[0].stream(f"/runs/{id}/events").all()
        hexadecimal = id.removeprefix("run_")
        for path in (
            f"/runs/{id}",
            f"/runs/{id}/events?wire=plain",
            f"/runs/{id}/events?wire=openai",
            f"/runs/{id}/events?wire=ai",
            f"/runs/{id}/events?render=html",
            f"/v1/chat/completions/chatcmpl-{hexadecimal}",
            f"/v1/chat/completions/{hexadecimal}",
            f"/ai/chat/{id}/stream",
        ):
            answers = [line.ask("GET", path) for line in each]
            bodies = [re.sub(rb"\Aretry: \d+", b"", answer.read()) for answer in answers]
            heads = [[field for field in answer.getheaders() if field[0] != "date"] for answer in answers]
            assert {answer.status for answer in answers} == {200}, path
            assert bodies[0] == bodies[1] == bodies[2], path
            assert heads[0] == heads[1] == heads[2], path
            assert all(len(answer.headers.get_all("date", [])) == 1 for answer in answers)


def test_heads_refusals_and_methods_are_the_same(gateway: Gateway) -> None:
    """What has no body, what is refused and what is not allowed is so through every worker."""
    with lines(gateway, COUNT) as each:
        id, _ = each[0].begin(say("x"))
        each[0].stream(f"/runs/{id}/events").all()
        last = f"3-{id[4:12]}"
        for method, path, headers, status in (
            ("HEAD", f"/runs/{id}", {}, 200),
            ("HEAD", f"/runs/{id}/events", {}, 200),
            ("GET", f"/runs/{id}/events", {"Last_Event_ID": last.replace("3-", "2-")}, 204),
            ("GET", f"/runs/{id}/events", {"Last_Event_ID": "x"}, 400),
            ("GET", f"/runs/{id}", {"Origin": "https://elsewhere.example"}, 403),
            ("GET", f"/runs/{id}", {"Host": "elsewhere.example"}, 403),
            ("PUT", f"/runs/{id}", {}, 405),
            ("GET", f"/runs/{id[:-1]}", {}, 404),
            ("GET", "/v1/chat/completions/x", {}, 404),
        ):
            answers = [line.ask(method, path, **headers) for line in each]
            assert [answer.status for answer in answers] == [status] * COUNT, (method, path)
            assert len({(answer.headers.get("content-type"), answer.read()) for answer in answers}) == 1
            lengths = {answer.headers.get("content-length") for answer in answers}
            assert len(lengths) == 1, (method, path)


def test_clients_leaving_is_seen_at_once_through_another_worker(gateway: Gateway) -> None:
    """A reader that goes is no reader any more where the run is, while the model is silent."""
    with lines(gateway, COUNT) as each:
        id, _ = each[0].begin(say("x"), hold())
        each[1].stream(f"/runs/{id}/events").until(b'"x"')
        each[2].stream(f"/runs/{id}/events").until(b'"x"')
        assert each[0].call("GET", f"/runs/{id}")[1]["readers"] == 2
        each[1].connection.sock.shutdown(socket.SHUT_RDWR)
        while each[0].call("GET", f"/runs/{id}")[1]["readers"] == 2:
            pass
        assert each[0].call("GET", f"/runs/{id}")[1]["readers"] == 1
        gateway.upstream.release()


def test_reader_who_takes_nothing_is_let_go_through_another_worker() -> None:
    """It is no reader any more, and its connection ends in the middle; the run goes on."""
    with (
        serving("--workers", "2", "--on-leave", "continue", "--send-timeout", "0.5") as gateway,
        lines(gateway, 2, rcvbuf=4096) as each,
    ):
        id, _ = each[0].begin(*[say("x" * 4000)] * 1500, hold())
        stream = each[1].ask("GET", f"/runs/{id}/events")
        while not each[0].call("GET", f"/runs/{id}")[1]["readers"]:
            pass
        while each[0].call("GET", f"/runs/{id}")[1]["readers"]:
            pass
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            stream.read()
        gateway.upstream.release()
        assert each[0].stream(f"/runs/{id}/events").all()[-1].type == "ended"


# -- what begins runs --------------------------------------------------------------------------------------------------


def test_idempotent_requests_that_race_start_one_run(gateway: Gateway) -> None:
    """However many connections a request comes on at once, its key starts one run, at one worker."""
    for number in range(4):
        asked = gateway.asked
        gateway.upstream.script(say("x"), path="/api/chat")

        def post(_: int, key: str = f"race-{number}") -> tuple[int, str]:
            answer = gateway.call("POST", "/runs", {"message": "hi", "model": "m"}, Idempotency_Key=key)
            return answer.status, answer.json["id"]

        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(post, range(48)))
        gateway.ended(f"/runs/{answers[0][1]}")

        assert len({id for _, id in answers}) == 1
        assert sorted(status for status, _ in answers) == [200] * 47 + [201]
        assert gateway.asked == asked + 1


def test_idempotency_key_of_another_request_is_known_everywhere(gateway: Gateway) -> None:
    """422 through every worker, as through the one that started the run."""
    with lines(gateway, COUNT) as each:
        gateway.upstream.script(say("x"), path="/api/chat")
        _, first = each[0].call("POST", "/runs", {"message": "hi", "model": "m"}, Idempotency_Key="other")
        told = [
            line.call("POST", "/runs", {"message": "ho", "model": "m"}, Idempotency_Key="other")[0] for line in each
        ]
    gateway.ended(f"/runs/{first['id']}")
    assert told == [422] * COUNT


@pytest.mark.parametrize("framing", ["length", "chunked", "expect"])
def test_bodies_come_whole_to_another_worker(gateway: Gateway, framing: str) -> None:
    """A large one, in one piece, in chunks, and one that waits to be asked for."""
    text = "".join(f"{number} " for number in range(100_000))
    body = json.dumps({"message": text, "model": "m"}).encode()
    with lines(gateway, COUNT) as each:
        for line in each:
            asked = gateway.asked
            gateway.upstream.script(say("x"), path="/api/chat")
            key = f"Idempotency-Key: whole-{framing}-{line.worker}\r\nContent-Type: application/json\r\n"
            head = f"POST /runs HTTP/1.1\r\nHost: localhost\r\n{key}"
            sock = line.connection.sock
            if framing == "chunked":
                chunks = b"".join(
                    b"%x\r\n%b\r\n" % (len(part), part)
                    for part in (body[start : start + 9999] for start in range(0, len(body), 9999))
                )
                sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n")
            elif framing == "expect":
                sock.sendall(f"{head}Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n".encode())
                assert sock.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
                sock.sendall(body)
            else:
                sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            response = _answer(sock)
            record = gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
            assert response[0] == 201
            assert record.json["messages"][0]["content"] == text
            gateway.ended(f"/runs/{response[1]['id']}")


def _answer(sock: socket.socket) -> tuple[int, Any]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, rest = data.partition(b"\r\n\r\n")
    found = re.search(rb"\r\ncontent-length: (\d+)", head)
    assert found is not None, head
    length = int(found[1])
    while len(rest) < length:
        rest += sock.recv(65536)
    return int(head.split()[1]), json.loads(rest)


def test_body_that_is_too_large_is_refused_through_every_worker(gateway: Gateway) -> None:
    """413 before it is there, and the connection is closed."""
    with lines(gateway, COUNT) as each:
        for line in each:
            sock = line.connection.sock
            head = "POST /runs HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: large\r\nContent-Length: 5000000\r\n\r\n"
            sock.sendall(head.encode())
            status, told = _answer(sock)
            assert (status, told["detail"]) == (413, "the body is larger than 4,194,304 bytes")
            while sock.recv(65536):
                pass


# -- conversations and chats -------------------------------------------------------------------------------------------


def test_conversation_is_one_through_every_worker(gateway: Gateway) -> None:
    """Its turn begins, is seen while it comes, is stopped and goes on, each through another worker."""
    with lines(gateway, COUNT) as each:
        for first, second, third in itertools.permutations(each):
            made = first.call("POST", "/conversations", {"model": "m"})[1]
            path = f"/conversations/{made['id']}"
            asked = gateway.asked
            gateway.upstream.script(say("Hel"), stall(), path="/api/chat")
            status, turn = second.call("POST", f"{path}/turns", {"content": "hi"})
            record = gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
            record.wait_until_phase("stalling", timeout=PATIENCE)
            while not (shown := third.call("GET", path)[1]["messages"][-1])["content"]:
                pass
            first.call("DELETE", f"/runs/{turn['run']['id']}")
            gateway.upstream.script(say("lo"), path="/api/chat")
            more = third.call("POST", f"{path}/turns", {"continue": turn["answer"]["id"]})[1]
            second.stream(f"/runs/{more['run']['id']}/events").all()
            whole = first.call("GET", path)[1]["messages"][-1]

            assert status == 201
            assert (shown["content"], shown["state"]) == ("Hel", "running")
            assert worker_of(turn["run"]["id"]) == worker_of(more["run"]["id"])
            assert (whole["content"], whole["state"]) == ("Hello", "complete")


def test_many_conversations_are_written_by_all_workers_at_once(gateway: Gateway) -> None:
    """Every word of every answer is kept, and nothing is said of a lock."""
    words = [f"{number} " for number in range(60)]
    for _ in range(60):
        gateway.upstream.script(*[say(word) for word in words], path="/api/chat")

    def talk(number: int) -> tuple[int, Any]:
        path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
        for question in ("one", "two"):
            leaf = gateway.call("GET", path).json["leaf"]
            turn = gateway.call("POST", f"{path}/turns", {"content": question, "parent": leaf})
            assert turn.status == 201, turn.body
            gateway.call("PATCH", path, {"title": f"talk {number}"})
            gateway.ended(f"/runs/{turn.json['run']['id']}")
        return worker_of(turn.json["run"]["id"]), gateway.call("GET", path).json

    with ThreadPoolExecutor(10) as threads:
        told = list(threads.map(talk, range(30)))
    assert {worker for worker, _ in told} == set(range(COUNT))
    for number, (_, conversation) in enumerate(told):
        assert conversation["title"] == f"talk {number}"
        assert [each["content"] for each in conversation["messages"]] == ["one", "".join(words), "two", "".join(words)]
        assert {each["state"] for each in conversation["messages"]} == {"complete"}
    assert "lock" not in gateway.server.output


def _chat(id: str, text: str = "hi") -> dict[str, Any]:
    return {
        "id": id,
        "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]}],
        "model": "m",
    }


def test_chat_of_the_ai_sdk_is_one_through_every_worker(gateway: Gateway) -> None:
    """It is asked, read on by its id, and stopped, each through another worker; other chats are elsewhere."""
    homes = set()
    for number in range(9):
        with lines(gateway, COUNT) as each:
            first, second, third = each[number % 3], each[(number + 1) % 3], each[(number + 2) % 3]
            asked = gateway.asked
            gateway.upstream.script(say("Hel"), stall(), path="/api/chat")
            answer = first.ask("POST", "/ai/chat", _chat(f"chat-{number}"))
            Stream(answer).until(b"Hel")
            Stream(second.ask("GET", f"/ai/chat/chat-{number}/stream")).until(b"Hel")
            status, stopped = third.call("POST", f"/ai/chat/chat-{number}/stop")
            record = gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
            assert record.wait_until_left(PATIENCE)
            assert (status, stopped["outcome"]) == (200, "cancelled")
            assert stopped["id"] == answer.headers["x-run-id"]
            homes.add(worker_of(stopped["id"]))
    assert homes == set(range(COUNT))


def test_next_question_of_a_chat_takes_the_place_of_an_answer_nobody_reads(gateway: Gateway) -> None:
    """Also when it comes on a connection to another worker."""
    for number in range(3):
        with lines(gateway, COUNT) as each:
            asked = gateway.asked
            gateway.upstream.script(say("old"), stall(), path="/api/chat")
            Stream(each[number].ask("POST", "/ai/chat", _chat("twice"))).until(b"old")
            each[number].close()
            record = gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
            gateway.upstream.script(say("new"), path="/api/chat")
            new = Stream(each[(number + 1) % 3].ask("POST", "/ai/chat", _chat("twice")))
            new.all()
            assert b'"new"' in new.raw
            assert record.wait_until_left(PATIENCE)


def test_chat_that_is_none_is_refused_by_whoever_gets_it(gateway: Gateway) -> None:
    """A body that is no JSON, and ones without an id."""
    with lines(gateway, COUNT) as each:
        for line in each:
            for body, status in ((b"{", 400), (b"[]", 400), (b'{"id": 1}', 400)):
                answer = line.ask("POST", "/ai/chat", body)
                answer.read()
                assert answer.status == status


# -- what all tell -----------------------------------------------------------------------------------------------------


def _figures(line: Line) -> dict[str, float]:
    text = line.ask("GET", "/metrics").read().decode()
    samples = [each.rpartition(" ") for each in text.splitlines() if not each.startswith("#")]
    return {name: float(value) for name, _, value in samples}


def test_figures_and_lists_are_those_of_all_workers(gateway: Gateway) -> None:
    """Runs of each worker, one under way at each: every worker tells the same sums and lists."""
    with lines(gateway, COUNT) as each:
        before = _figures(each[0])
        ids = [line.begin(say("x", "y"), hold())[0] for line in each]
        streams = [line.stream(f"/runs/{id}/events") for line, id in zip(each, ids, strict=True)]
        for stream in streams:
            stream.until(b'"y"')
        with lines(gateway, COUNT) as others:
            during = [_figures(line) for line in others]
            queues = [line.call("GET", "/queue")[1] for line in others]
            listed = [line.call("GET", "/runs?state=running")[1]["runs"] for line in others]
            shorter = [line.call("GET", "/runs?limit=2")[1]["runs"] for line in others]
            assert [line.call("GET", "/readyz")[0] for line in others] == [200] * COUNT
            assert [line.call("GET", "/runs?limit=0")[0] for line in others] == [400] * COUNT
            gateway.upstream.release(count=COUNT)
            for stream in streams:
                stream.all()
            after = _figures(others[0])

    for figures in during:
        assert figures["tailrace_runs_running"] == COUNT
        assert figures["tailrace_readers"] == COUNT
        assert figures["tailrace_workers"] == COUNT
    for queue in queues:
        assert queue["upstreams"] == [{"url": gateway.upstream.url, "running": COUNT, "waiting": 0, "out": False}]
    for runs in listed:
        assert [run["id"] for run in runs] == ids[::-1]
    for runs in shorter:
        assert len(runs) == 2
    name = 'tailrace_runs_total{outcome="complete"}'
    probes = COUNT  # at least: the second set of lines began runs too
    assert after[name] - before[name] >= COUNT + probes
    assert after["tailrace_run_duration_seconds_count"] == after['tailrace_run_duration_seconds_bucket{le="+Inf"}']
    assert after["tailrace_run_duration_seconds_count"] - before["tailrace_run_duration_seconds_count"] == (
        after[name] - before[name]
    )


# -- limits and doors --------------------------------------------------------------------------------------------------


def test_limits_are_shared_out_and_count_the_true_client() -> None:
    """Two workers, two runs a client: one at each. Who a client is is no other because its request was passed on."""
    with serving("--workers", "2", "--max-per-key", "2", "--on-leave", "continue") as gateway:
        fresh = itertools.count()
        for home, _ in itertools.product(range(2), range(2)):
            with lines(gateway, 2) as each:
                for line in each:
                    lie = {"X_Tailrace_Client": '["127.0.0.9", 1, "http", "1.1"]'}
                    first, _ = _at(line, home, next(fresh), stall(), **lie)
                    key = _key_for(home, next(fresh))
                    more = line.call("POST", "/runs", {"message": "ho", "model": "m"}, Idempotency_Key=key, **lie)
                    assert more[0] == 429
                    with Line(gateway, source="127.0.0.2") as other:
                        theirs, _ = _at(other, home, next(fresh), say("x"), **lie)
                        other.stream(f"/runs/{theirs}/events").all()
                    assert line.call("DELETE", f"/runs/{first}")[0] == 200


def _at(line: Line, home: int, number: int, *script: Step, **headers: str) -> tuple[str, Record]:
    """Starts a run at a worker, on a connection to any; returns its id, and what the model server saw."""
    upstream, asked = line.gateway.upstream, line.gateway.asked
    upstream.script(*script, path="/api/chat")
    headers["Idempotency_Key"] = _key_for(home, number)
    status, begun = line.call("POST", "/runs", {"message": "hi", "model": "m"}, **headers)
    assert (status, worker_of(begun["id"])) == (201, home), begun
    return begun["id"], upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")


def _key_for(worker: int, number: int) -> str:
    keys = (f"key-{number}-{attempt}" for attempt in itertools.count())
    return next(key for key in keys if home_of(key, 2) == worker)


def test_keys_and_owners_hold_through_every_worker() -> None:
    """Without a key nothing, with another's key no run of mine, whichever worker is asked."""
    alice, bob = {"Authorization": "Bearer alice-key"}, {"Authorization": "Bearer bob-key-1"}
    options = ("--api-key", "alice:alice-key", "--api-key", "bob:bob-key-1")
    with (
        serving("--workers", "2", "--on-leave", "continue", *options) as gateway,
        lines(gateway, 2, headers=alice) as hers,
        lines(gateway, 2, headers=bob) as his,
    ):
        id, _ = hers[0].begin(say("x"), hold())
        for line in his:
            assert line.call("GET", f"/runs/{id}")[0] == 404
            assert line.call("DELETE", f"/runs/{id}")[0] == 404
            assert [run["id"] for run in line.call("GET", "/runs?state=running")[1]["runs"]] == []
            for path in (f"/runs/{id}", "/runs", "/metrics"):
                assert line.call("GET", path, Authorization="")[0] == 401
        for line in hers:
            assert line.call("GET", f"/runs/{id}")[1]["state"] == "streaming"
            assert [run["id"] for run in line.call("GET", "/runs?state=running")[1]["runs"]] == [id]
        gateway.upstream.release()
        assert hers[1].stream(f"/runs/{id}/events").all()[-1].type == "ended"


def test_one_worker_is_one_process() -> None:
    """The default: no parent, no children, and ids as they always were."""
    with serving("--workers", "1") as gateway:
        gateway.upstream.script(say("x"), path="/api/chat")
        assert gateway.call("POST", "/runs", {"message": "hi", "model": "m"}).status == 201
        assert pids(gateway) == {}
