"""A restart of the server in mid-answer loses nothing that was generated, however the server went."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.serving import Gateway, serving
from tests.web.reader import PATIENCE

from tailrace.testing import FakeOllama, Step, hold, say, stall


def _turn(gateway: Gateway, conversation: str, *script: Step, **body: Any) -> Any:
    gateway.upstream.script(*script, path="/api/chat")
    answer = gateway.call("POST", f"{conversation}/turns", body)
    assert answer.status == 201, answer.body
    return answer.json


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("words", [["Hel", "lo "], []])
def test_answer_cut_by_a_restart_is_kept_and_goes_on(tmp_path: Path, how: signal.Signals, words: list[str]) -> None:
    """It is interrupted, with what had come; it can be continued, also if nothing had come yet."""
    with FakeOllama(models=["m"]) as upstream:
        with serving("--drain", "0", upstream=upstream, data=tmp_path) as gateway:
            path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
            steps = [say(*words), stall()] if words else [stall()]
            turn = _turn(gateway, path, *steps, content="hi")
            with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
                reader.until(b'"lo "' if words else b": tailrace")
                upstream.wait_for_request(1, PATIENCE, path="/api/chat").wait_until_phase("stalling", timeout=PATIENCE)
                gateway.call("GET", path)  # writes down what has come
                gateway.server.process.send_signal(how)
                gateway.server.process.wait(PATIENCE)
        with serving(upstream=upstream, data=tmp_path) as gateway:
            cut = gateway.call("GET", path).json["messages"][-1]
            lost = gateway.call("GET", f"/runs/{turn['run']['id']}")
            more = _turn(gateway, path, say("rest"), **{"continue": cut["id"]})
            gateway.ended(f"/runs/{more['run']['id']}")
            whole = gateway.call("GET", path).json["messages"][-1]

    assert (cut["content"], cut["state"], cut["outcome"]) == ("".join(words), "interrupted", "owner_lost")
    assert cut["run"] is None
    assert lost.status == 404
    assert (whole["content"], whole["state"]) == ("".join(words) + "rest", "complete")


def test_all_that_came_before_a_stop_is_kept(tmp_path: Path) -> None:
    """A server that is stopped writes down the last word that it read before it ends."""
    with FakeOllama(models=["m"]) as upstream:
        with serving("--drain", "0", upstream=upstream, data=tmp_path) as gateway:
            path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
            turn = _turn(gateway, path, *[say(f"{number} ") for number in range(500)], hold(), content="hi")
            with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
                reader.until(b'"499 "')
                gateway.server.process.terminate()
                reader.body()
                gateway.server.process.wait(PATIENCE)
        with serving(upstream=upstream, data=tmp_path) as gateway:
            message = gateway.call("GET", path).json["messages"][-1]

    assert message["content"] == "".join(f"{number} " for number in range(500))
    assert message["error"]["message"] == "server stopping"


def test_answer_that_ends_while_the_server_drains_is_whole(tmp_path: Path) -> None:
    """Within the drain's time an answer goes on to its end, and is complete."""
    with FakeOllama(models=["m"]) as upstream:
        with serving("--drain", "60", upstream=upstream, data=tmp_path) as gateway:
            path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
            turn = _turn(gateway, path, say("Hel"), hold(), say("lo"), content="hi")
            with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
                reader.until(b'"Hel"')
                gateway.server.process.terminate()
                while gateway.call("GET", "/readyz").status != 503:
                    pass
                upstream.release()
                assert reader.all()[-1].type == "ended"
            assert gateway.server.process.wait(PATIENCE) == 0
        with serving(upstream=upstream, data=tmp_path) as gateway:
            message = gateway.call("GET", path).json["messages"][-1]

    assert (message["content"], message["state"]) == ("Hello", "complete")
