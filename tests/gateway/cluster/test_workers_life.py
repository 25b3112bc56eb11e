"""The life of workers: one that is killed, all that are stopped, a parent that is gone, and what cannot start."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.cluster.crew import Line, Watch, lines, pids, worker_of
from tests.gateway.serving import Gateway, numbers, said, serve, serving
from tests.web.process import ROOT
from tests.web.reader import PATIENCE, Reader

from tailrace.errors import RequestError
from tailrace.gateway.cluster.parent import Parent
from tailrace.gateway.settings import Settings
from tailrace.testing import FakeOllama, hold, say, stall

COUNT = 2


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of two workers."""
    with serving("--workers", str(COUNT), "--on-leave", "continue", "--drain", "60", data=tmp_path) as gateway:
        yield gateway


def _until_said(gateway: Gateway, text: str) -> None:
    while text not in gateway.server.output:
        assert gateway.server.process.poll() is None, gateway.server.output


def _folder(gateway: Gateway) -> Path:
    """Where the private sockets are."""
    inodes = {str(fd.readlink()) for fd in Path(f"/proc/{gateway.server.process.pid}/fd").iterdir()}
    sockets = (line.split() for line in Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:])
    paths = {Path(each[7]).parent for each in sockets if len(each) == 8 and f"socket:[{each[6]}]" in inodes}
    assert len(paths) == 1
    return paths.pop()


# -- killed ------------------------------------------------------------------------------------------------------------


def test_worker_that_is_killed_takes_its_own_runs_only_and_is_back(gateway: Gateway) -> None:
    """Its readers are cut off and told when they come back, once; the other's runs go on; a new one has its place."""
    upstream = gateway.upstream
    with lines(gateway, COUNT) as each:
        lost = each[0].begin(say("one"), stall())[0]
        kept = each[1].begin(say("two"), hold(), say("three"))[0]
        seen = each[1].stream(f"/runs/{lost}/events").until(b'"one"')
    with lines(gateway, COUNT) as each, lines(gateway, COUNT) as others:
        through_it, direct = each[0].stream(f"/runs/{kept}/events"), each[1].stream(f"/runs/{kept}/events")
        before = through_it.until(b'"two"')
        last = before[-1].id
        direct.until(b'"two"')
        held = others[1].stream(f"/runs/{lost}/events", seen[-1].id)

        os.kill(pids(gateway)[0], signal.SIGKILL)

        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            held.all()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            through_it.all()
        _until_said(gateway, "worker 1 (pid")
        upstream.release()
        assert said(direct.all()) == "twothree"

    with lines(gateway, COUNT) as each:
        assert [line.generation for line in each] == [2, 1]
        assert pids(gateway).keys() == {0, 1}
        for line in each:
            rest = line.stream(f"/runs/{kept}/events", last).all()
            assert said([*before, *rest]) == "twothree"
            status, told = line.call("GET", f"/runs/{lost}")
            assert (status, told["state"], told["outcome"]) == (200, "ended", "owner_lost")
            assert told["error"]["type"] == "OwnerLostError"
            assert line.call("DELETE", f"/runs/{lost}")[1]["outcome"] == "owner_lost"
            ending = line.stream(f"/runs/{lost}/events", seen[-1].id).all()
            assert [event.type for event in ending] == ["ended"]
            assert numbers(ending) == [numbers(seen)[-1] + 1]
            assert json.loads(ending[0].data)["outcome"] == "owner_lost"
            assert line.call("GET", f"/runs/{lost}/events", Last_Event_ID=ending[0].id) == (204, None)
            response = line.ask("GET", f"/runs/{lost[:4]}{'0' * 20}{lost[24:]}0")
            assert (response.status, response.read()[:1]) == (404, b"{")
    assert gateway.server.output.count("the answers it was giving are lost") == 1
    assert "SIGKILL" in gateway.server.output


def test_lost_run_is_told_on_every_wire(gateway: Gateway) -> None:
    """As the failure that it is, in each protocol's words; and nobody waits for more."""
    with lines(gateway, COUNT) as each:
        lost = each[1].begin(say("one"), stall())[0]
        os.kill(pids(gateway)[1], signal.SIGKILL)
        _until_said(gateway, "worker 2 (pid")
        line = each[0]
        plain = line.stream(f"/runs/{lost}/events?wire=plain").all()
        html = line.stream(f"/runs/{lost}/events?render=html").all()
        whole = {
            wire: line.ask("GET", f"/runs/{lost}/events?wire={wire}").read() for wire in ("openai", "ollama", "ai")
        }
        answer = line.ask("GET", f"/v1/chat/completions/chatcmpl-{lost.removeprefix('run_')}")
        refused = json.loads(answer.read())
        wrong = [line.call("GET", f"/runs/{lost}/events", Last_Event_ID=cursor)[0] for cursor in ("x", "1-00000000")]

    assert "OwnerLostError" in plain[0].data.decode()
    assert [event.type for event in plain] == ["message", "ended"]
    assert [event.type for event in html][-1] == "ended"
    assert b"gone" in whole["openai"]
    assert b"[DONE]" not in whole["openai"]
    assert b'"error"' in whole["ollama"]
    assert b'"type":"error"' in whole["ai"].replace(b" ", b"")
    assert answer.status >= 500
    assert "gone" in refused["error"]["message"]
    assert wrong == [400, 400]


def test_answers_of_a_killed_worker_are_interrupted_and_those_of_others_are_not(gateway: Gateway) -> None:
    """The conversation keeps what had come, and can go on; the other worker's answer is still being written."""

    def talk(line: Line) -> tuple[str, Any]:
        while True:  # until one lives at this line's worker
            path = f"/conversations/{line.call('POST', '/conversations', {'model': 'm'})[1]['id']}"
            asked = gateway.asked
            gateway.upstream.script(say("Hel"), hold(), say("lo"), path="/api/chat")
            turn = line.call("POST", f"{path}/turns", {"content": "hi"})[1]
            gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
            if worker_of(turn["run"]["id"]) == line.worker:
                while not line.call("GET", path)[1]["messages"][-1]["content"]:
                    pass
                return path, turn
            line.call("DELETE", f"/runs/{turn['run']['id']}")

    with lines(gateway, COUNT) as each:
        (lost, _), (kept, running) = talk(each[0]), talk(each[1])
        os.kill(pids(gateway)[0], signal.SIGKILL)
        _until_said(gateway, "worker 1 (pid")
        line = each[1]
        cut = line.call("GET", lost)[1]["messages"][-1]
        still = line.call("GET", kept)[1]["messages"][-1]
        gateway.upstream.release(count=100)
        line.stream(f"/runs/{running['run']['id']}/events").all()
        gateway.upstream.script(say(" again"), path="/api/chat")
        more = line.call("POST", f"{lost}/turns", {"continue": cut["id"]})[1]
        line.stream(f"/runs/{more['run']['id']}/events").all()

        assert (cut["content"], cut["state"], cut["outcome"]) == ("Hel", "interrupted", "owner_lost")
        assert (still["content"], still["state"]) == ("Hel", "running")
        assert line.call("GET", kept)[1]["messages"][-1]["content"] == "Hello"
        assert line.call("GET", lost)[1]["messages"][-1]["content"] == "Hel again"


def test_answers_of_an_earlier_gateway_are_interrupted_by_a_new_one(tmp_path: Path) -> None:
    """Whatever the number of its workers was."""
    with FakeOllama(models=["m"]) as upstream:
        paths: list[str] = []
        for workers in ("1", "2", "3"):
            with serving("--workers", workers, "--on-leave", "continue", upstream=upstream, data=tmp_path) as gateway:
                for path in paths:
                    last = gateway.call("GET", path).json["messages"][-1]
                    assert (last["content"], last["state"]) == ("Hel", "interrupted")
                path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
                upstream.script(say("Hel"), stall(), path="/api/chat")
                assert gateway.call("POST", f"{path}/turns", {"content": "hi"}).status == 201
                while not gateway.call("GET", path).json["messages"][-1]["content"]:
                    pass
                paths.append(path)
                watch = Watch(*pids(gateway).values())
                gateway.server.process.kill()
                gateway.server.process.wait(PATIENCE)
                assert watch.wait_until_gone()


# -- stopped -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_the_parent_drains_all_workers(gateway: Gateway, number: signal.Signals) -> None:
    """Each answer comes to its end for readers on any connection; until then all connections are served."""
    with lines(gateway, COUNT) as each, lines(gateway, COUNT) as others:
        ids = []
        for line in each:
            ids.append(line.begin(say("Hel"), hold(), say("lo"))[0])
        streams = [line.stream(f"/runs/{id}/events") for line, id in zip(each, ids[::-1], strict=True)]
        for stream in streams:
            stream.until(b'"Hel"')
        folder = _folder(gateway)
        assert folder.stat().st_mode & 0o777 == 0o700
        gateway.server.process.send_signal(number)
        for line in others:
            while (told := line.call("GET", "/readyz"))[0] == 200:
                pass
            assert (told[0], told[1]["detail"]) == (503, "server stopping")
            assert line.call("GET", "/healthz")[0] == 200
        gateway.upstream.release(count=COUNT)
        assert [said(stream.all()) for stream in streams] == ["Hello", "Hello"]
        assert gateway.server.process.wait(PATIENCE) == 0
    assert not folder.exists()
    with pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", gateway.server.port), PATIENCE):
        pass
    assert len(gateway.server.output.splitlines()) == 1


def test_answers_that_do_not_end_in_time_are_ended_at_all_workers(tmp_path: Path) -> None:
    """Their readers are told, on whichever connection they read."""
    with (
        serving("--workers", "2", "--drain", "0.2", "--on-leave", "continue", data=tmp_path) as gateway,
        lines(gateway, COUNT) as each,
    ):
        ids = []
        for line in each:
            ids.append(line.begin(say("Hel"), stall())[0])
        streams = [line.stream(f"/runs/{id}/events") for line, id in zip(each, ids[::-1], strict=True)]
        for stream in streams:
            stream.until(b'"Hel"')
        gateway.server.process.terminate()
        endings = [json.loads(stream.all()[-1].data) for stream in streams]
        assert gateway.server.process.wait(PATIENCE) == 0
    assert {ending["reason"] for ending in endings} == {"server stopping"}


def test_second_signal_ends_all_at_once(gateway: Gateway) -> None:
    """With answers under way, and time left for them: workers and parent are gone, with the signal's code."""
    with lines(gateway, COUNT) as each:
        for line in each:
            line.begin(say("x"), stall())
        watch = Watch(*pids(gateway).values())
        folder = _folder(gateway)
        gateway.server.process.terminate()
        while each[0].call("GET", "/readyz")[0] == 200:
            pass
        gateway.server.process.terminate()
        assert gateway.server.process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert watch.wait_until_gone()
    assert not folder.exists()


def test_workers_end_with_their_parent(gateway: Gateway) -> None:
    """Killed, it can tell them nothing; they end, their readers are told, and the sockets' folder is gone."""
    with lines(gateway, COUNT) as each:
        id = each[0].begin(say("x"), stall())[0]
        stream = each[0].stream(f"/runs/{id}/events")
        stream.until(b'"x"')
        watch = Watch(*pids(gateway).values())
        folder = _folder(gateway)
        gateway.server.process.kill()
        gateway.server.process.wait(PATIENCE)
        ended = stream.all()[-1]
        assert watch.wait_until_gone()
    assert json.loads(ended.data)["reason"] == "server stopping"
    assert not folder.exists()


def test_worker_that_is_stopped_by_itself_drains_and_is_back(gateway: Gateway) -> None:
    """SIGTERM to one worker: its answers come to their end, and another has its place, on the same sockets."""
    with lines(gateway, COUNT) as each:
        id = each[0].begin(say("Hel"), hold(), say("lo"))[0]
        stream = each[1].stream(f"/runs/{id}/events")
        stream.until(b'"Hel"')
        os.kill(pids(gateway)[0], signal.SIGTERM)
        gateway.upstream.release()
        assert said(stream.all()) == "Hello"
        _until_said(gateway, "worker 1 (pid")
    with lines(gateway, COUNT) as each:
        assert [line.generation for line in each] == [2, 1]
        for line in each:
            id = line.begin(say("x"))[0]
            for other in each:
                assert said(other.stream(f"/runs/{id}/events").all()) == "x"


# -- one that hangs ----------------------------------------------------------------------------------------------------

_IMPATIENT = """
import sys
from tailrace.cli import main
from tailrace.gateway.cluster import parent
parent._BEAT, parent._HUNG, parent._HUNG_AT_END = 0.1, 1.0, 1.0
sys.argv = sys.argv[3:]
main()
"""
"""The command, with a parent that waits for less."""


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of two workers whose parent soon takes one for hung."""
    options = ("--workers", str(COUNT), "--on-leave", "continue", "--drain", "300")
    with serving(*options, data=tmp_path, prefix=(sys.executable, "-c", _IMPATIENT)) as gateway:
        yield gateway


def test_p21_worker_that_hangs_without_dying_is_replaced(impatient: Gateway) -> None:
    """It is ended and another has its place, as if it had died; the other's runs go on."""
    with lines(impatient, COUNT) as each:
        kept = each[1].begin(say("Hel"), hold(), say("lo"))[0]
        lost = each[0].begin(say("x"), stall())[0]
        stream = each[1].stream(f"/runs/{kept}/events")
        stream.until(b'"Hel"')
        os.kill(pids(impatient)[0], signal.SIGSTOP)
        _until_said(impatient, "Starting it again")
        impatient.upstream.release()
        assert said(stream.all()) == "Hello"
    with lines(impatient, COUNT) as each:
        assert [line.generation for line in each] == [2, 1]
        assert each[1].call("GET", f"/runs/{lost}")[1]["outcome"] == "owner_lost"
    assert impatient.server.output.count("hangs: nothing came from it") == 1


def test_p21_end_does_not_wait_for_a_worker_that_hangs(impatient: Gateway) -> None:
    """SIGTERM lets the answers of the others come to their end, whatever time answers get; the hung one is ended."""
    with lines(impatient, COUNT) as each:
        id = each[1].begin(say("Hel"), hold(), say("lo"))[0]
        stream = each[1].stream(f"/runs/{id}/events")
        stream.until(b'"Hel"')
        watch = Watch(*pids(impatient).values())
        os.kill(pids(impatient)[0], signal.SIGSTOP)
        impatient.server.process.terminate()
        _until_said(impatient, "hangs: nothing came from it")
        impatient.upstream.release()
        assert said(stream.all()) == "Hello"
        assert impatient.server.process.wait(PATIENCE) == 128 + signal.SIGKILL
        assert watch.wait_until_gone()


# -- what cannot start -------------------------------------------------------------------------------------------------


def _refused(*options: str) -> tuple[int, str]:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*serve(0, "http://127.0.0.1:1"), "--data", folder, *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "option", [("--max-running", "2"), ("--max-queued", "1"), ("--max-per-key", "2"), ("--max-runs", "2")]
)
def test_limit_smaller_than_the_number_of_workers(option: tuple[str, str]) -> None:
    """It cannot be shared out: an error that names both, and nothing is started."""
    code, told = _refused("--workers", "3", *option)

    assert code == 1
    assert f"{option[0]} {option[1]} cannot be shared out among 3 workers" in told
    assert "serving" not in told


def test_port_of_other_workers_is_in_use(gateway: Gateway) -> None:
    """A second gateway does not share the first one's port by accident; nor one that has a single process."""
    for workers in ("2", "1"):
        code, told = _refused("--workers", workers, "--port", str(gateway.server.port))
        assert code == 1
        assert f"cannot listen on 127.0.0.1:{gateway.server.port}" in told


def test_what_a_worker_cannot_start_with_is_told_once() -> None:
    """In the worker's own words, by the parent, and all end."""
    code, told = _refused("--workers", "3", "--allow-origin", "nonsense")

    assert code == 1
    assert told.count("not an origin") == 1


def test_system_without_shared_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows: an error that says so, before anything is started."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(RequestError, match="cannot share one port"):
        Parent(Settings(), 2, ready=print, note=print)


def test_address_is_told_once(tmp_path: Path) -> None:
    """One line, with the port that the system chose, once all workers serve."""
    process = subprocess.Popen(
        [*serve(0, "http://127.0.0.1:1"), "--data", str(tmp_path), "--workers", "3"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TAILRACE_HOME": str(tmp_path)},
    )
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split(" at ")[1].split(" ")[0]
        for _ in range(30):
            with Reader(url, "/healthz", method="GET") as reader:
                assert reader.json == {"status": "ok"}
    finally:
        process.terminate()
        rest, code = process.communicate(timeout=PATIENCE)[1], process.returncode
    assert rest == ""
    assert code == 0
