"""The structure of a document, from our blocks and from markdown-it's full parse, in one form to compare."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from markdown_it import MarkdownIt

from tailrace.render.blocks import Block, BlockSplitter
from tailrace.render.lines import cells

Leaf = tuple[Any, ...]

_FULL = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def joined(blocks: Iterable[Block]) -> list[Block]:
    """The blocks with their parts put together."""
    out: list[Block] = []
    for block in blocks:
        if block.first:
            out.append(block)
            continue
        whole = out[-1]
        assert (whole.kind, whole.within, whole.last) == (block.kind, block.within, False) or block.kind == "heading"
        text = whole.text + ("\n" if block.kind == "table" and block.text else "") + block.text
        kind, level = (block.kind, block.level) if block.kind == "heading" else (whole.kind, whole.level)
        out[-1] = Block(kind, text, whole.within, whole.gap, level, whole.info, True, block.last)
    assert all(block.last for block in out)
    return out


def of_blocks(blocks: Iterable[Block]) -> list[Leaf]:
    """The structure of our blocks."""
    numbers: dict[int, int] = {}
    leaves: list[Leaf] = []
    for block in joined(blocks):
        if block.kind == "definitions":
            continue
        path: list[Any] = []
        for container in block.within:
            number = numbers.setdefault(container.id, len(numbers))
            if container.list:
                list_number = numbers.setdefault(-container.list, len(numbers))
                kind = container.marker[-1]
                path.append(("item", number, list_number, kind, container.number if kind in ".)" else 0))
            else:
                path.append(("quote", number))
        leaves.append((tuple(path), *_leaf(block)))
    return _renumbered(leaves)


def _leaf(block: Block) -> Leaf:
    if block.kind == "table":
        head, _, *rows = block.text.split("\n")
        width = len(cells(head))
        return ("table", *[tuple((cells(row) + [""] * width)[:width]) for row in (head, *rows)])
    if block.kind == "code":
        return ("code", block.info, _plain_code(block.text))
    return (block.kind, block.level, _plain(block.text))


def _plain(text: str) -> str:
    """A paragraph without what its lines begin and end with, which is nobody's business."""
    return "\n".join(re.sub(r"^[ \t]+|[ \t]+$", "", line) for line in text.strip().split("\n"))


def _plain_code(text: str) -> str:
    """Code with its tabs in whatever form, and with the newline at its end that a full parse adds."""
    lines = [re.sub(r"[ \t]+", " ", line) for line in text.split("\n")]
    return "\n".join(lines).strip(" \n")


def of_text(text: str) -> list[Leaf]:
    """The structure that markdown-it sees."""
    leaves: list[Leaf] = []
    path: list[Any] = []
    lists: list[list[Any]] = []
    used = [True]
    number = 0
    tokens = _FULL.parse(text)
    for at, token in enumerate(tokens):
        kind = token.type
        if kind in {"bullet_list_open", "ordered_list_open"}:
            number += 1
            lists.append([number, int(token.attrs.get("start", 1)) - 1])
        elif kind in {"bullet_list_close", "ordered_list_close"}:
            lists.pop()
        elif kind in {"list_item_open", "blockquote_open"}:
            number += 1
            used[-1] = True
            if kind == "list_item_open":
                lists[-1][1] += 1
                ordered = token.markup in ".)"
                path.append(("item", number, lists[-1][0], token.markup, lists[-1][1] if ordered else 0))
            else:
                path.append(("quote", number))
            used.append(False)
        elif kind in {"list_item_close", "blockquote_close"}:
            if not used.pop():
                leaves.append((tuple(path), "empty", 0, ""))
            path.pop()
        elif kind in {"paragraph_open", "heading_open"}:
            used[-1] = True
            level = int(token.tag[1]) if kind == "heading_open" else 0
            leaves.append((tuple(path), kind.removesuffix("_open"), level, _plain(tokens[at + 1].content)))
        elif kind in {"fence", "code_block"}:
            used[-1] = True
            leaves.append((tuple(path), "code", token.info.strip(" \t"), _plain_code(token.content)))
        elif kind == "hr":
            used[-1] = True
            leaves.append((tuple(path), "rule", 0, ""))
        elif kind == "table_open":
            used[-1] = True
            leaves.append((tuple(path), "table"))
        elif kind == "tr_open":
            leaves[-1] = (*leaves[-1], ())
        elif kind in {"th_open", "td_open"}:
            leaves[-1] = (*leaves[-1][:-1], (*leaves[-1][-1], tokens[at + 1].content))
    return _renumbered(leaves)


def _renumbered(leaves: list[Leaf]) -> list[Leaf]:
    """The same with containers numbered in the order they are seen."""
    numbers: dict[tuple[str, int], int] = {}
    out = []
    for path, *rest in leaves:
        new = []
        for name, number, *others in path:
            seen = numbers.setdefault((name, number), len(numbers))
            if others:
                others[0] = numbers.setdefault(("list", others[0]), len(numbers))
            new.append((name, seen, *others))
        out.append((tuple(new), *rest))
    return out


def fed(text: str, pieces: Iterable[str]) -> list[Block]:
    """The blocks of a text that comes in pieces; the open tail is looked at after each."""
    splitter = BlockSplitter()
    blocks: list[Block] = []
    for piece in pieces:
        blocks += splitter.feed(piece)
        assert isinstance(splitter.open, list)
    return blocks + splitter.finish()


def pieces(text: str, size: int) -> list[str]:
    """The text cut into pieces of one size."""
    return [text[at : at + size] for at in range(0, len(text), size)]
