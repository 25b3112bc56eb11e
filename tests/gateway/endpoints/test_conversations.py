"""Conversations over HTTP: turns, branches, going on, search, changes, export, and what a stop or a delete does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.serving import Gateway, said, serving
from tests.web.reader import PATIENCE

from tailrace.testing import Record, Step, done, error, hold, say, stall, think, tool_call


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway whose runs wait for readers as long as they like."""
    with serving("--on-leave", "continue") as gateway:
        yield gateway
        assert gateway.call("GET", "/runs?state=running").json == {"runs": []}
        assert gateway.upstream.wait_until_idle(PATIENCE)


class Talk:
    """A conversation."""

    def __init__(self, gateway: Gateway, **settings: Any) -> None:
        self.gateway = gateway
        answer = gateway.call("POST", "/conversations", {"model": "m", **settings})
        assert answer.status == 201
        self.path = answer.headers["location"]
        assert self.path == f"/conversations/{answer.json['id']}"

    def turn(self, *script: Step, key: str = "", **body: Any) -> tuple[Any, Record]:
        """Begins a turn that goes as the script says; returns it, and what the model server saw."""
        asked = self.gateway.asked
        self.gateway.upstream.script(*script, path="/api/chat")
        headers = {"Idempotency_Key": key} if key else {}
        answer = self.gateway.call("POST", f"{self.path}/turns", body, **headers)
        assert answer.status == 201, answer.body
        assert answer.headers["location"] == f"/runs/{answer.json['run']['id']}"
        return answer.json, self.gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")

    def done(self, *script: Step, **body: Any) -> tuple[Any, Record]:
        """Has a turn answered to its end."""
        turn, record = self.turn(*script, **body)
        self.gateway.ended(f"/runs/{turn['run']['id']}")
        return turn, record

    def refused(self, **body: Any) -> int:
        """Begins a turn that is none; returns the status."""
        return self.gateway.call("POST", f"{self.path}/turns", body).status

    @property
    def now(self) -> Any:
        """The conversation."""
        return self.gateway.call("GET", self.path).json

    def message(self, id: str) -> Any:
        """A message as it is now."""
        return next(each for each in self.now["messages"] if each["id"] == id)


# -- asking ----------------------------------------------------------------------------------------------------------


def test_question_and_answer(gateway: Gateway) -> None:
    """A turn makes a question and an answer, which the run writes; at its end all of it is kept."""
    talk = Talk(gateway, system="Be brief.", options={"seed": 1}, think=True)
    turn, record = talk.done(think("Hm."), say("Hel", "lo"), tool_call("add", {"a": 1}), content="hi", parent=None)
    answer = talk.message(turn["answer"]["id"])

    assert record.json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert record.json["options"] == {"seed": 1}
    assert record.json["think"] is True
    assert turn["question"]["content"] == "hi"
    assert turn["answer"]["state"] == "running"
    assert turn["answer"]["run"] == turn["run"]["id"]
    assert (answer["content"], answer["thinking"]) == ("Hello", "Hm.")
    assert [call["name"] for call in answer["tool_calls"]] == ["add"]
    assert (answer["state"], answer["outcome"], answer["run"]) == ("complete", "complete", None)
    assert answer["metrics"]["output_tokens"] > 0
    assert talk.now["leaf"] == answer["id"]
    assert talk.now["title"] == "hi"


def test_next_question_is_asked_with_all_before_it(gateway: Gateway) -> None:
    """The model is sent the branch; a turn's own settings go before the conversation's."""
    talk = Talk(gateway, system="Be brief.")
    first, _ = talk.done(say("one"), content="a")
    _, record = talk.done(
        say("two"), content="b", parent=first["answer"]["id"], system="Be long.", options={"seed": 2}, think=False
    )

    assert record.json["messages"] == [
        {"role": "system", "content": "Be long."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "b"},
    ]
    assert record.json["options"] == {"seed": 2}
    assert record.json["think"] is False


def test_edited_question_is_a_branch(gateway: Gateway) -> None:
    """A question with another's parent is its sibling, and the conversation goes on from there; both stay."""
    talk = Talk(gateway)
    first, _ = talk.done(say("one"), content="a")
    second, _ = talk.done(say("two"), content="b", parent=first["answer"]["id"])
    edited, record = talk.done(say("three"), content="c", parent=second["question"]["parent"])

    assert [message["content"] for message in record.json["messages"]] == ["a", "one", "c"]
    assert talk.now["leaf"] == edited["answer"]["id"]
    assert [message["content"] for message in talk.now["messages"]] == ["a", "one", "b", "two", "c", "three"]


def test_question_is_answered_again(gateway: Gateway) -> None:
    """Another answer to a question is its first one's sibling, and is asked without it."""
    talk = Talk(gateway)
    first, _ = talk.done(say("one"), content="a")
    again, record = talk.done(say("two"), regenerate=first["question"]["id"])

    assert again["question"] is None
    assert again["answer"]["parent"] == first["question"]["id"]
    assert record.json["messages"] == [{"role": "user", "content": "a"}]
    assert talk.now["leaf"] == again["answer"]["id"]


def test_what_has_come_is_seen_while_it_comes(gateway: Gateway) -> None:
    """Whoever opens a conversation in mid-answer sees what has come, and the run that brings the rest."""
    talk = Talk(gateway)
    turn, _ = talk.turn(say("Hel"), hold(), say("lo"), content="hi")
    with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
        reader.until(b'"Hel"')
        seen = talk.message(turn["answer"]["id"])
        gateway.upstream.release()
        reader.all()

    assert (seen["content"], seen["state"], seen["run"]) == ("Hel", "running", turn["run"]["id"])
    assert talk.message(turn["answer"]["id"])["content"] == "Hello"


# -- stopping and going on -------------------------------------------------------------------------------------------


def _stopped(talk: Talk, *script: Step, reached: bytes = b"", **body: Any) -> Any:
    """A turn that was stopped; returns it."""
    turn, _ = talk.turn(*script, **body)
    path = f"/runs/{turn['run']['id']}"
    with talk.gateway.read(f"{path}/events") as reader:
        reader.until(reached)
        assert talk.gateway.call("DELETE", path).json["outcome"] == "cancelled"
    return turn


def test_stopped_answer_goes_on(gateway: Gateway) -> None:
    """What had come is kept; to continue brings the rest into the same message, and the run this rest alone."""
    talk = Talk(gateway)
    turn = _stopped(talk, say("Hel"), stall(), reached=b'"Hel"', content="hi")
    answer = turn["answer"]["id"]
    stopped = talk.message(answer)
    more, record = talk.turn(say("lo"), **{"continue": answer})
    with gateway.read(f"/runs/{more['run']['id']}/events") as reader:
        assert said(reader.all()) == "lo"
    whole = talk.message(answer)

    assert (stopped["content"], stopped["state"], stopped["outcome"]) == ("Hel", "interrupted", "cancelled")
    assert record.json["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hel"}]
    assert (more["question"], more["answer"]["id"], more["answer"]["base"]) == (None, answer, "Hel")
    assert (whole["content"], whole["state"], whole["base"]) == ("Hello", "complete", "")
    assert len(talk.now["messages"]) == 2


def test_answer_stopped_before_its_first_word_goes_on(gateway: Gateway) -> None:
    """The question is asked again, with what was before it, and not the answer before that continued."""
    talk = Talk(gateway)
    first, _ = talk.done(say("one"), content="a")
    turn = _stopped(talk, hold(), content="b", parent=first["answer"]["id"])
    answer = turn["answer"]["id"]
    stopped = talk.message(answer)
    _, record = talk.done(say("two"), **{"continue": answer})

    assert (stopped["content"], stopped["state"]) == ("", "interrupted")
    assert record.json["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "b"},
    ]
    assert talk.message(answer)["content"] == "two"


def test_answer_goes_on_twice(gateway: Gateway) -> None:
    """A rest that is stopped too goes on from all that there is."""
    talk = Talk(gateway)
    answer = _stopped(talk, say("a"), stall(), reached=b'"a"', content="hi")["answer"]["id"]
    again = _stopped(talk, say("b"), stall(), reached=b'"b"', **{"continue": answer})
    last, _ = talk.done(say("c"), **{"continue": answer})

    assert again["answer"]["base"] == "a"
    assert last["answer"]["base"] == "ab"
    assert talk.message(answer)["content"] == "abc"


def test_answer_that_the_limit_cut_goes_on(gateway: Gateway) -> None:
    """An answer that ran into the limit of tokens did not finish either."""
    talk = Talk(gateway)
    turn, _ = talk.done(say("Hel"), done("length"), content="hi")
    answer = turn["answer"]["id"]
    cut = talk.message(answer)
    talk.done(say("lo"), **{"continue": answer})
    whole = talk.message(answer)

    assert (cut["content"], cut["outcome"]) == ("Hel", "length")
    assert (whole["content"], whole["outcome"]) == ("Hello", "complete")


def test_answer_that_failed_before_its_first_word(gateway: Gateway) -> None:
    """It is told as failed, with the reason; it is asked for again rather than continued."""
    talk = Talk(gateway)
    turn, _ = talk.done(error("out of memory"), content="hi")
    failed = talk.message(turn["answer"]["id"])

    assert (failed["state"], failed["error"]["message"]) == ("failed", "out of memory")
    assert talk.refused(**{"continue": failed["id"]}) == 409


def test_unknown_model_is_a_failed_answer(gateway: Gateway) -> None:
    """A model that there is not: the answer has failed, and says so."""
    talk = Talk(gateway, model="none")
    turn = gateway.call("POST", f"{talk.path}/turns", {"content": "hi"}).json
    gateway.ended(f"/runs/{turn['run']['id']}")

    assert talk.message(turn["answer"]["id"])["error"]["type"] == "ModelNotFoundError"


# -- what is refused -------------------------------------------------------------------------------------------------


def test_turns_that_are_none(gateway: Gateway) -> None:
    """Nothing, two things at once, an empty question, and what the tree does not have: a status that says so."""
    talk = Talk(gateway)
    turn, _ = talk.done(say("one"), content="a")
    question, answer = turn["question"]["id"], turn["answer"]["id"]

    assert talk.refused() == 400
    assert talk.refused(content="a", regenerate=question) == 400
    assert talk.refused(content=" ") == 400
    assert talk.refused(content=5) == 400
    assert talk.refused(content="b", parent="msg_0") == 404
    assert talk.refused(content="b", parent=question) == 400
    assert talk.refused(regenerate="msg_0") == 404
    assert talk.refused(regenerate=answer) == 400
    assert talk.refused(**{"continue": "msg_0"}) == 404
    assert talk.refused(**{"continue": answer}) == 409
    assert talk.refused(**{"continue": question}) == 409
    assert len(talk.now["messages"]) == 2


def test_no_turn_on_an_answer_under_way(gateway: Gateway) -> None:
    """Neither a question below it nor its continuation; another branch may be written at the same time."""
    talk = Talk(gateway)
    turn, _ = talk.turn(say("one"), hold(), content="a")
    below = talk.refused(content="b", parent=turn["answer"]["id"])
    further = talk.refused(**{"continue": turn["answer"]["id"]})
    talk.done(say("other"), regenerate=turn["question"]["id"])
    gateway.upstream.release()
    gateway.ended(f"/runs/{turn['run']['id']}")

    assert (below, further) == (409, 409)
    assert [message["content"] for message in talk.now["messages"]] == ["a", "one", "other"]


def test_key_joins_a_turn(gateway: Gateway) -> None:
    """A repeated turn is the first one's; the same key in another conversation, or for a run, is refused."""
    talk, other = Talk(gateway), Talk(gateway)
    turn, _ = talk.turn(say("one"), key="a-turn", content="a")
    gateway.ended(f"/runs/{turn['run']['id']}")
    again = gateway.call("POST", f"{talk.path}/turns", {"content": "a"}, Idempotency_Key="a-turn")
    elsewhere = gateway.call("POST", f"{other.path}/turns", {"content": "a"}, Idempotency_Key="a-turn")
    run = gateway.call("POST", "/runs", {"content": "a"}, Idempotency_Key="a-turn")

    assert (again.status, again.json["answer"]["id"]) == (200, turn["answer"]["id"])
    assert (elsewhere.status, run.status) == (422, 422)
    assert len(talk.now["messages"]) == 2
    assert other.now["messages"] == []


# -- the conversations themselves ------------------------------------------------------------------------------------


def test_changes(gateway: Gateway) -> None:
    """What is given is changed, null included; the leaf shows another branch; what there is not is refused."""
    talk = Talk(gateway, system="s", options={"seed": 1})
    first, _ = talk.done(say("one"), content="a")
    talk.done(say("two"), regenerate=first["question"]["id"])
    change = {"title": "Rivers", "model": None, "system": None, "leaf": first["answer"]["id"]}
    changed = gateway.call("PATCH", talk.path, change).json

    assert (changed["title"], changed["model"], changed["system"]) == ("Rivers", None, None)
    assert changed["options"] == {"seed": 1}
    assert changed["leaf"] == first["answer"]["id"]
    assert gateway.call("PATCH", talk.path, {"leaf": "msg_0"}).status == 404
    assert gateway.call("PATCH", talk.path, {"titel": "x"}).status == 400
    assert gateway.call("PATCH", talk.path, {"options": 5}).status == 400
    assert gateway.call("PATCH", "/conversations/conv_0", {"title": "x"}).status == 404


def test_lists_and_search(gateway: Gateway) -> None:
    """The one changed last comes first; a search finds titles and messages, and shows where."""
    one, two = Talk(gateway, title="Of the Wolga"), Talk(gateway)
    two.done(say("The Yangtze is long."), content="Which?")
    listed = gateway.call("GET", "/conversations?limit=2").json["conversations"]
    older = gateway.call("GET", f"/conversations?limit=1&before={listed[0]['updated']}").json["conversations"]
    titled = gateway.call("GET", "/conversations?q=wolga").json["conversations"]
    spoken = gateway.call("GET", "/conversations?q=yangtze").json["conversations"]

    assert [f"/conversations/{each['id']}" for each in listed] == [two.path, one.path]
    assert [f"/conversations/{each['id']}" for each in older] == [one.path]
    assert [f"/conversations/{each['id']}" for each in titled] == [one.path]
    assert [f"/conversations/{each['id']}" for each in spoken] == [two.path]
    assert "Yangtze" in spoken[0]["snippet"]
    assert gateway.call("GET", "/conversations?limit=0").status == 400
    assert gateway.call("GET", f"/conversations?q={'x' * 1001}").status == 400


@pytest.mark.parametrize(
    "title", ["Of\r\nX-Evil: rivers\0", "水 and \u202e more", "../../etc/passwd", "\"';\\", "." * 200, ""]
)
def test_export(gateway: Gateway, title: str) -> None:
    """A file, whose name comes from the title, whatever that is; nothing of it becomes another header."""
    talk = Talk(gateway, title=title)
    talk.done(say("one"), content="a")
    text = gateway.call("GET", f"{talk.path}/export")
    tree = gateway.call("GET", f"{talk.path}/export?format=json")

    for answer, kind in ((text, "md"), (tree, "json")):
        name = answer.headers["content-disposition"].removeprefix("attachment; filename*=UTF-8''")
        assert name.endswith(f".{kind}")
        assert name.isascii()
        assert not {"/", "\\", '"', "'", ";", " "} & set(name)
        assert "x-evil" not in answer.headers
    assert b"one" in text.body
    assert "one" in json.dumps(tree.json)
    assert gateway.call("GET", f"{talk.path}/export?format=pdf").status == 400


def test_delete_stops_the_run(gateway: Gateway) -> None:
    """A deleted conversation is gone, and so is the model's work for it."""
    talk = Talk(gateway)
    turn, record = talk.turn(say("one"), stall(), content="a")
    answer = gateway.call("DELETE", talk.path)

    assert (answer.status, answer.body) == (204, b"")
    assert record.wait_until_left(PATIENCE)
    assert gateway.ended(f"/runs/{turn['run']['id']}")["outcome"] == "cancelled"
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/export")):
        assert gateway.call(method, f"{talk.path}{path}").status == 404
    assert talk.refused(content="b") == 404


def test_unknown_conversations(gateway: Gateway) -> None:
    """What there is not is 404, whatever it is called."""
    for name in ("conv_0", "%00", "%0d%0a", "..%2f..", "x" * 2000, "%E6%B0%B4"):
        assert gateway.call("GET", f"/conversations/{name}").status == 404


def test_no_page_no_conversations() -> None:
    """Without the page there are neither files nor conversations, and runs work as ever."""
    with serving("--no-page") as gateway:
        for path in ("/c/conv_0", "/conversations", "/static/main.js"):
            assert gateway.call("GET", path).status == 404
        assert gateway.ended(gateway.start(say("x"))[0])["reply"]["text"] == "x"
