"""The conversation as a tree: regenerating an answer or editing a question starts a branch, and no branch is lost.

A node is a message. The visible conversation is the path from the root to `at`. A file holds that path as
`tailrace.StreamingChat` saves it, and the tree beside it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tailrace.conversation.export import FORMAT, document
from tailrace.errors import RequestError
from tailrace.events import Outcome
from tailrace.i18n import say
from tailrace.run.reply import Reply
from tailrace.terminal.repl import places
from tailrace.types import plain

__all__ = ["Branch", "Node", "Tree", "write_whole"]


class Node(NamedTuple):
    """A message, and the number of the one before it."""

    parent: int | None
    message: dict[str, Any]


class Branch(NamedTuple):
    """A way through the tree: its last node, its last question, and how many messages it has."""

    leaf: int
    question: str
    length: int


class Tree:
    """The conversation.

    Attributes:
        nodes: all messages ever; the numbers are their places.
        at: the last message of the conversation one sees; None of an empty one.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.at: int | None = None

    def way(self, to: int | None = None) -> list[int]:
        """Returns the numbers of the messages from the first to `to`, by default to the last one."""
        place = self.at if to is None else to
        way: list[int] = []
        while place is not None:
            way.append(place)
            place = self.nodes[place].parent
        return way[::-1]

    def messages(self, to: int | None = None) -> list[dict[str, Any]]:
        """Returns the messages up to `to`, with our marks."""
        return [self.nodes[place].message for place in self.way(to)]

    def add(self, parent: int | None, message: dict[str, Any]) -> int:
        """Appends a message after `parent`; the conversation goes on from it."""
        self.nodes.append(Node(parent, message))
        self.at = len(self.nodes) - 1
        return self.at

    def last(self, role: str) -> int | None:
        """Returns the number of the last message of a role in the conversation one sees."""
        return next((place for place in reversed(self.way()) if self.nodes[place].message["role"] == role), None)

    def keep(self, parent: int | None, question: dict[str, Any] | None, reply: Reply) -> bool:
        """Adds a turn, unless it came to nothing: a question without any answer would dangle.

        Returns:
            whether it was added.
        """
        if not (reply.finished or reply.text or reply.thinking or reply.tool_calls):
            return False
        if question is not None:
            parent = self.add(parent, question)
        self.add(parent, _answer(reply))
        return True

    def extend(self, place: int, reply: Reply) -> None:
        """Appends what came to the interrupted answer `place`."""
        before = self.nodes[place].message
        now = _answer(reply)
        if before.get("content"):
            now["content"] = before["content"] + (now.get("content") or "")
        if before.get("thinking"):
            now["thinking"] = before["thinking"] + (now.get("thinking") or "")
        if not reply.finished and "interrupted" not in now:
            now["interrupted"] = before["interrupted"]
        before.clear()
        before.update(now)

    @property
    def interrupted(self) -> int | None:
        """The last answer, if it was interrupted."""
        place = self.at
        return place if place is not None and "interrupted" in self.nodes[place].message else None

    def branches(self) -> list[Branch]:
        """Returns all branches, in the order they were begun."""
        parents = {node.parent for node in self.nodes}
        branches = []
        for leaf in range(len(self.nodes)):
            if leaf not in parents:
                messages = self.messages(leaf)
                questions = [message["content"] for message in messages if message["role"] == "user"]
                branches.append(Branch(leaf, str(questions[-1]) if questions else "", len(messages)))
        return branches

    # -- files -------------------------------------------------------------------------------------------------------

    def encoded(self, model: str, system: str | None) -> bytes:
        """Returns the conversation as JSON."""
        return document(model, system, self.messages(), self.nodes, self.at)

    def restore(self, path: Path) -> tuple[str, str | None]:
        """Takes the conversation of a file.

        Returns:
            the model and the system prompt.

        Raises:
            RequestError: the file holds none; nothing has changed.
            OSError: it cannot be read.
        """
        try:
            data = msgspec.json.decode(path.read_bytes())
            messages, model = data["messages"], data.get("model", "")
            if data.get("tailrace") != FORMAT or not isinstance(model, str) or not all(map(_is_message, messages)):
                raise ValueError(path.name)
            system = None
            if messages and messages[0]["role"] == "system":
                system, messages = str(messages[0]["content"]), messages[1:]
            nodes, at = _tree_of(data.get("tree"), messages)
        except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, AttributeError, ValueError) as error:
            raise RequestError(say("repl.no_conversation", path=path)) from error
        self.nodes, self.at = nodes, at
        return model, system


def _answer(reply: Reply) -> dict[str, Any]:
    answer = plain(reply.message)
    assert isinstance(answer, dict)
    if reply.outcome is not Outcome.COMPLETE:  # the limit of tokens is no end either: it can be continued
        answer["interrupted"] = reply.outcome.value if reply.outcome is not None else "cancelled"
    return answer


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content", ""), str | None)
    )


def _tree_of(data: Any, messages: list[dict[str, Any]]) -> tuple[list[Node], int | None]:
    """Returns the tree of a file, or a straight one of its messages."""
    if data is None:
        nodes = [Node(place - 1 if place else None, message) for place, message in enumerate(messages)]
        return nodes, len(nodes) - 1 if nodes else None
    nodes = [Node(parent, message) for parent, message in data["nodes"]]
    for place, node in enumerate(nodes):
        if not _is_message(node.message) or (node.parent is not None and not 0 <= node.parent < place):
            raise ValueError(place)
    at = data["at"]
    if at is not None and not 0 <= at < len(nodes):
        raise ValueError(at)
    return nodes, at


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file that only its user can read, whole or not at all."""
    places.make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
