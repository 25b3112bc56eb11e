"""Code in colours, line by line: a line that has been shown never changes, and none is looked at twice.

Pygments reads whole texts. Its lexers are tables of states, so the states can be carried from one line to the next,
which is what this does. What such a lexer takes in one piece over several lines (``/* … */``) is followed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tailrace.render.inline import Span

__all__ = ["Highlighter"]

_LONGEST = 1000  # a longer line is no program somebody reads, and may cost a pattern more than it is worth
_COMMENTS = {"/*": "*/", "<!--": "-->"}
_NAMES = (  # the first that a token belongs to is its style
    ("Keyword", "keyword"),
    ("Name.Function", "function"),
    ("Name.Class", "function"),
    ("Name.Decorator", "decorator"),
    ("Name.Builtin", "builtin"),
    ("Name.Tag", "keyword"),
    ("Name.Attribute", "function"),
    ("Operator.Word", "keyword"),
    ("Literal.String", "string"),
    ("Literal.Number", "number"),
    ("Comment", "comment"),
    ("Generic.Inserted", "string"),
    ("Generic.Deleted", "error"),
    ("Generic.Heading", "function"),
    ("Generic.Subheading", "function"),
    ("Generic.Prompt", "comment"),
)


class Highlighter:
    """Gives the lines of one piece of code their colours.

    Args:
        info: the words behind the fence; a language that nobody knows has no colours.
    """

    def __init__(self, info: str) -> None:
        self._lexer: Any = _lexer(info)
        self._states: list[str] = ["root"]
        self._until = ""  # the end of the comment we are in

    def copy(self) -> Highlighter:
        """Returns one that goes on from here by itself."""
        other = Highlighter("")
        other._lexer, other._states, other._until = self._lexer, self._states.copy(), self._until
        return other

    def line(self, text: str) -> list[Span]:
        """Returns a line as spans; each line is to be given once, in its order, without its newline."""
        if self._lexer is None or len(text) > _LONGEST:
            return [Span(text)] if text else []
        try:
            return [Span(part, style) for part, style in self._tokens(text + "\n") if part]
        except Exception:  # a lexer of a hundred authors: colours are not worth an answer
            self._lexer = None
            return [Span(text)]

    def _tokens(self, text: str) -> Iterator[tuple[str, str]]:
        begin = 0
        if self._until:
            end = text.find(self._until)
            if end < 0:
                yield text.rstrip("\n"), "comment"
                return
            begin = end + len(self._until)
            self._until = ""
            yield text[:begin], "comment"
        tokens = self._by_state(text, begin) if self._has_states() else self._by_itself(text[begin:])
        for token, part in tokens:
            yield part.replace("\n", ""), _style(token)

    def _has_states(self) -> bool:
        return hasattr(self._lexer, "_tokens")

    def _by_itself(self, text: str) -> Iterator[tuple[Any, str]]:
        for _, token, part in self._lexer.get_tokens_unprocessed(text):
            yield token, part

    def _by_state(self, text: str, place: int) -> Iterator[tuple[Any, str]]:
        """Does what a lexer of Pygments does, from the states that the line before left."""
        from pygments.token import Comment, Text, _TokenType

        table = self._lexer._tokens
        while place < len(text):
            if opened := self._opened(text, place):
                self._until = _COMMENTS[opened]
                yield Comment, text[place:]
                return
            for match, action, change in table[self._states[-1]]:
                found = match(text, place)
                if not found:
                    continue
                if isinstance(action, _TokenType):
                    yield action, found[0]
                elif action is not None:
                    for _, token, part in action(self._lexer, found):
                        yield token, part
                place = found.end()
                if change is not None:
                    self._change(change)
                break
            else:
                if text[place] == "\n":
                    self._states = ["root"]
                yield Text, text[place]
                place += 1

    def _opened(self, text: str, place: int) -> str:
        for mark, end in _COMMENTS.items():
            if text.startswith(mark, place) and text.find(end, place + len(mark)) < 0 and self._comments(mark):
                return mark
        return ""

    def _comments(self, mark: str) -> bool:
        """Returns True if there are such comments here: the lexer takes a closed one for one."""
        from pygments.token import Comment

        sample = f"{mark} {_COMMENTS[mark]}"
        return any(
            (action in Comment or callable(action)) and (found := match(sample, 0)) and found.end() == len(sample)
            for match, action, _ in self._lexer._tokens[self._states[-1]]
        )

    def _change(self, change: Any) -> None:
        states = self._states
        for step in change if isinstance(change, tuple) else (change,):
            if isinstance(step, int):
                del states[max(len(states) + step, 1) if step < 0 else step :]
            elif step == "#pop":
                if len(states) > 1:
                    states.pop()
            else:
                states.append(states[-1] if step == "#push" else step)


def _lexer(info: str) -> Any:
    name = re.match(r"[\w+#.-]*", info.strip("{. "))
    if name is None or not name[0]:
        return None
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(name[0].lower())
    except ClassNotFound:
        return None


_styles: dict[Any, str] = {}


def _style(token: Any) -> str:
    found = _styles.get(token)
    if found is None:
        path = ".".join(token)
        found = next((style for name, style in _NAMES if path == name or path.startswith(name + ".")), "")
        _styles[token] = found
    return found
