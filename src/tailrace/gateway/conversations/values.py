"""The store's types: conversations, their messages, and pieces and endings of answers.

As JSON the fields have the names of the gateway's interface (docs/gateway.md). Times are RFC 3339 in UTC, with
microseconds, so that they sort as texts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from tailrace.events import Outcome

__all__ = [
    "FILE",
    "Conversation",
    "Ending",
    "Message",
    "Piece",
    "State",
    "Summary",
    "id_of_conversation",
    "id_of_message",
    "plain",
    "said",
    "sent",
    "state_of",
]

FILE = "conversations.db"  # in the data folder
State = Literal["running", "complete", "interrupted", "failed"]
_STOPPED = (Outcome.CANCELLED, Outcome.ABANDONED, Outcome.OWNER_LOST)


class Message(msgspec.Struct, kw_only=True):
    """A question or an answer.

    Attributes:
        parent: the message before it; None for the first.
        content: of a running answer, what has been kept so far.
        model: the model that answers; None of a question.
        run: the id of the run that writes it, while it does.
        outcome: how the last run of an answer ended.
        error: what went wrong, as JSON.
        metrics: figures of the last run, as JSON.
        base: while a run writes it, the text it had before that run.
        base_thinking: the same of the reasoning.
    """

    id: str
    parent: str | None
    role: Literal["user", "assistant"]
    content: str
    thinking: str = ""
    tool_calls: list[Any] = []
    model: str | None = None
    created: str
    run: str | None = None
    state: State = "complete"
    outcome: str | None = None
    error: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    base: str = ""
    base_thinking: str = ""


class Conversation(msgspec.Struct, kw_only=True):
    """A conversation: its settings and all messages of its tree, in the order of their creation.

    Attributes:
        title: empty until it was given, or made from the first question.
        leaf: the message shown last; None of an empty conversation.
        owner: whose it is; empty where there are no owners.
    """

    id: str
    title: str
    model: str | None
    system: str | None
    options: dict[str, Any]
    think: bool | str | None
    created: str
    updated: str
    leaf: str | None
    owner: str = ""
    messages: list[Message] = []

    def branch(self, message: str | None = None) -> list[Message]:
        """Returns the messages from the first to `message`, by default to the leaf."""
        by_id = {each.id: each for each in self.messages}
        at = by_id.get(message or self.leaf or "")
        way = []
        while at is not None:
            way.append(at)
            at = by_id.get(at.parent or "")
        return way[::-1]


class Summary(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A conversation in a list; `snippet` is the text around what was searched for."""

    id: str
    title: str
    model: str | None
    created: str
    updated: str
    snippet: str = ""


class Piece(msgspec.Struct, frozen=True):
    """What has come of an answer under way.

    Attributes:
        message: the answer.
        run: the run that writes it.
        number: counts the pieces of a run from 0. A piece may be written again, and longer; it replaces its like.
    """

    message: str
    run: str
    number: int
    text: str
    thinking: str


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run, and all that it brought. May be written again; the effect is the same.

    Attributes:
        message: the answer that it wrote.
        run: its id.
        text: everything this run said. What the answer had before it stays in front of it.
        thinking: the same of the reasoning.
        tool_calls: the calls of this run, as JSON types.
        metrics: its figures, as JSON types.
        error: what went wrong, as JSON types.
    """

    message: str
    run: str
    outcome: Outcome
    text: str
    thinking: str = ""
    tool_calls: list[Any] = []
    metrics: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


def state_of(outcome: Outcome, *, anything: bool) -> State:
    """Says what an ended answer is: `failed` if an error left nothing to continue from, `anything` being what there is.

    An answer that somebody stopped before it began is no failure: it is interrupted.
    """
    if outcome.finished:
        return "complete"
    return "interrupted" if anything or outcome in _STOPPED else "failed"


def said(messages: Iterable[Message]) -> list[Message]:
    """Returns the messages of a branch but for turns that came to nothing: an answer without a word, and its question.

    Two questions in a row, or an answer without a word, would lead a model astray.
    """
    kept: list[Message] = []
    for message in messages:
        if message.role == "user" or message.content or message.thinking or message.tool_calls:
            kept.append(message)
        elif kept and kept[-1].role == "user":
            kept.pop()
    return kept


def sent(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Returns the messages of a branch as a model is sent them: those `said`, in Ollama's form."""
    return [plain(message) for message in said(messages)]


def plain(message: Message) -> dict[str, Any]:
    """Returns a message in Ollama's form."""
    more = {"thinking": message.thinking, "tool_calls": message.tool_calls}
    return {"role": message.role, "content": message.content} | {name: value for name, value in more.items() if value}


def id_of_conversation() -> str:
    """Returns a new id."""
    return f"conv_{secrets.token_hex(16)}"


def id_of_message() -> str:
    """Returns a new id."""
    return f"msg_{secrets.token_hex(16)}"
