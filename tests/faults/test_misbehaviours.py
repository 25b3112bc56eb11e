"""One outcome for all: every misbehaviour through clients, whole answers, the command and each wire of the gateway.

The table is `tailrace.testing.misbehaviours`, which docs/faults.md shows. A fixed sample of it runs each time.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.faults.faces import MESSAGES, Face
from tests.gateway.endpoints.test_matrix import HI, READ, STARTED, run_of
from tests.gateway.fronting import Front, fronting

from tailrace.cli.run import _run
from tailrace.cli.session import Session
from tailrace.errors import TailraceError
from tailrace.terminal.sink import Sink
from tailrace.testing import FakeOllama, FakeOpenAI, Misbehaviour, misbehaviours

ROOT = Path(__file__).resolve().parents[2]
ALL = misbehaviours()
SAMPLE = ALL[::15]
WHOLE: dict[str, dict[str, Any]] = {
    "/api/chat": {"model": "m", "messages": HI, "stream": False},
    "/v1/chat/completions": {"model": "m", "messages": HI},
}
Ending = tuple[str, str]


@pytest.fixture(scope="module")
def fronts() -> Iterator[dict[str, Front]]:
    """A gateway in front of each kind of server."""
    with FakeOllama() as ollama, FakeOpenAI() as openai, fronting(ollama) as first, fronting(openai) as second:
        yield {"ollama": first, "openai": second}


@pytest.fixture
def no_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command reads nothing, and finds no settings."""
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path))
    monkeypatch.setenv("LANG", "C.UTF-8")


def streamed(kind: str, host: str) -> Ending:
    """What a stream of a client says."""
    seen = Face(kind, host).chat()
    assert (seen.error is None) == seen.ended.outcome.finished
    return seen.ended.outcome.value, seen.reply.text


def whole(kind: str, host: str) -> Ending:
    """What an answer that comes as one value says; of a failure there is the outcome alone."""
    try:
        answer = Face(kind, host).call("chat", "m", MESSAGES)
    except TailraceError as error:
        return error.reply.outcome.value, ""
    return "length" if answer.done_reason == "length" else "complete", answer.message.content


def command(host: str) -> tuple[bool, str]:
    """Whether the command says that it went well, and what it prints."""
    session = Session()
    out, err = io.BytesIO(), io.BytesIO()
    session.out, session.err = Sink(io.TextIOWrapper(out)), Sink(io.TextIOWrapper(err))
    code = _run(session, ["chat", "-m", "m", "--upstream", host, "hi"])
    assert (code == 0) == (b"tailrace: " not in err.getvalue()), err.getvalue()
    return code == 0, out.getvalue().decode()


def started(front: Front, path: str) -> tuple[int, Ending]:
    """What a run that was started over a route is on the gateway, and the status that its client was given."""
    with front.open(path, STARTED[path]) as reader:
        run = run_of(reader)
        reader.body()
        status = reader.status
    ended = front.ended(run)
    return status, (ended["outcome"], ended["reply"]["text"])


def on_every_wire(front: Front, path: str) -> dict[str, tuple[str, bool]]:
    """What a run says on each wire on which it can be read: its text, and whether it says that this is all of it."""
    with front.open(path, STARTED[path]) as reader:
        run = run_of(reader)
        reader.body()
    front.ended(run)
    said = {wire: read(front.get(wire.format(run)).body) for wire, read in READ.items()}
    return {wire: (each.text, each.whole) for wire, each in said.items()}


def answered(front: Front, path: str) -> tuple[int, str]:
    """The status of a whole answer of the gateway's, and its text."""
    answer = front.call(path, WHOLE[path])
    body = json.loads(answer.body)
    if answer.status != 200:
        assert body["error"]
        return answer.status, ""
    message = body["message"] if "message" in body else body["choices"][0]["message"]
    return answer.status, message["content"] or ""


def one_outcome(case: Misbehaviour, front: Front) -> None:
    """Asserts that everybody is told the same of what a server does."""
    server = front.behind
    assert server is not None
    server.always(*case.script)
    host = server.url if case.wire == "ollama" else f"openai:{server.url}/v1"
    finished = case.outcome in ("complete", "length")
    expected = (case.outcome, case.text)
    with ThreadPoolExecutor(16) as pool:
        streams = [pool.submit(streamed, kind, host) for kind in ("sync", "async")]
        wholes = [pool.submit(whole, kind, host) for kind in ("sync", "async")] if case.whole else []
        starts = {path: pool.submit(started, front, path) for path in STARTED}
        wires = pool.submit(on_every_wire, front, "/runs")
        answers: dict[str, Future[tuple[int, str]]] = {}
        if case.whole:
            answers = {path: pool.submit(answered, front, path) for path in WHOLE}
        went_well, printed = command(host)

    assert [each.result() for each in streams] == [expected] * 2
    assert [each.result() for each in wholes] == [(case.outcome, case.text if finished else "")] * len(wholes)
    assert (went_well, printed.rstrip("\n")) == (finished, case.text)
    assert {path: each.result()[1] for path, each in starts.items()} == dict.fromkeys(STARTED, expected)
    beyond = case.id.startswith("u41") and not case.text
    statuses = [(path, each.result()[0]) for path, each in starts.items()]
    statuses += [(path, answer.result()[0]) for path, answer in answers.items()]
    for path, status in statuses:
        assert 200 <= status < 600
        if beyond and path in WHOLE:
            assert status == 502, path
    for wire, (text, is_all) in wires.result().items():
        as_text = case.id == "u39-bad" and "wire=ollama" in wire  # which has no place for arguments that are no JSON
        assert text.startswith(case.text) if as_text else text == case.text, wire
        if case.outcome != "length" or "wire=runs" not in wire:
            assert is_all == finished or (wire.startswith("/runs") and case.outcome == "length"), wire
    for path, answer in answers.items():
        status, text = answer.result()
        if case.id == "u39-bad" and path == "/api/chat":
            text = text[: len(case.text)]  # as above
        assert (status == 200, text) == (finished, case.text if finished else ""), path


@pytest.mark.parametrize("case", SAMPLE, ids=str)
@pytest.mark.usefixtures("no_input")
def test_one_outcome_for_all(case: Misbehaviour, fronts: dict[str, Front]) -> None:
    """A sample: whoever asks, and however, is told the same ending with the same text."""
    one_outcome(case, fronts[case.wire])


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", ALL, ids=str)
@pytest.mark.usefixtures("no_input")
def test_one_outcome_for_all_misbehaviours(case: Misbehaviour, fronts: dict[str, Front]) -> None:
    """All of them."""
    one_outcome(case, fronts[case.wire])


def test_the_table_has_all_of_them() -> None:
    """There are more than a hundred, each has a name of its own, and docs/faults.md shows them as they are."""
    assert len(ALL) > 100
    assert len({str(case) for case in ALL}) == len(ALL)
    assert {case.wire for case in SAMPLE} == {"ollama", "openai"}
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "faults_table.py"), "--check"], check=False)
    assert done.returncode == 0, "run: python docs/faults_table.py"
