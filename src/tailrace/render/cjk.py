"""Emphasis beside full-width punctuation: ``**注意：**后面`` is bold, as a writer of Chinese means it.

CommonMark lets ``**`` close after punctuation only if a space or punctuation follows, and Chinese has no spaces. The
rule here is CommonMark's with two changes (the one that the CommonMark forum's proposal for CJK makes): full-width
punctuation counts as a letter of its script, and a CJK character beside a delimiter counts like a space where
CommonMark asks for one. Text without CJK characters is read exactly as CommonMark reads it.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.rules_inline import StateInline, emphasis, strikethrough
from markdown_it.rules_inline.state_inline import Scanned

__all__ = ["cjk_emphasis", "is_cjk"]

_Rule = Callable[[StateInline, bool], bool]


def cjk_emphasis(md: MarkdownIt) -> None:
    """Is the plugin: ``MarkdownIt().use(cjk_emphasis)``."""
    md.inline.ruler.at("emphasis", _with_our_scan(emphasis.tokenize))
    md.inline.ruler.at("strikethrough", _with_our_scan(strikethrough.tokenize))


def _with_our_scan(rule: _Rule) -> _Rule:
    def tokenize(state: StateInline, silent: bool) -> bool:
        state.__dict__["scanDelims"] = functools.partial(_scan, state)
        return rule(state, silent)

    return tokenize


@functools.lru_cache(2048)
def is_cjk(char: str) -> bool:
    """Returns True for a character of Chinese, Japanese or Korean, their punctuation included; emoji are none."""
    return unicodedata.east_asian_width(char) in "WFH" and unicodedata.category(char) not in {"So", "Sk"}


def _scan(state: StateInline, start: int, can_split_word: bool) -> Scanned:
    """Says whether a run of delimiters can open and close, see section 6.2 of CommonMark."""
    source, end = state.src, start
    while end < state.posMax and source[end] == source[start]:
        end += 1
    before = source[start - 1] if start > 0 else " "
    after = source[end] if end < state.posMax else " "
    cjk_before, cjk_after = is_cjk(before), is_cjk(after)
    punct_before, punct_after = _is_punctuation(before), _is_punctuation(after)
    space_before, space_after = isWhiteSpace(ord(before)), isWhiteSpace(ord(after))
    left = not space_after and (not punct_after or cjk_after or space_before or punct_before or cjk_before)
    right = not space_before and (not punct_before or cjk_before or space_after or punct_after or cjk_after)
    can_open = left and (can_split_word or not right or punct_before)
    can_close = right and (can_split_word or not left or punct_after)
    return Scanned(can_open, can_close, end - start)


def _is_punctuation(char: str) -> bool:
    return isMdAsciiPunct(ord(char)) or isPunctChar(char)
