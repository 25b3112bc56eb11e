"""The style sheet of our HTML, in Chromium: colours that can be read, and seams that cannot be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page
from tests.browser import Browser
from tests.render.documents import CHINESE, ENGLISH

import tailrace
from tailrace.render import highlight
from tailrace.render.html import HtmlStream, render

CSS = (Path(tailrace.__file__).parent / "gateway/page/markdown.css").read_text("utf-8")
STYLES = sorted({style for _, style in highlight._NAMES})
GROUND = {"light": "#ffffff", "dark": "#15181c"}
Theme = Literal["light", "dark"]
_LEAST = 4.5  # contrast, WCAG 2.2 for text


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with browser.page(viewport={"width": 800, "height": 600}) as seen:
        yield seen.page


def show(page: Page, html: str, tail: str | None = None, *, root: str = "", ground: str = "#ffffff") -> None:
    """Shows pieces, and the tail if there is one, in the places for them."""
    body = html if tail is None else f'<div class="pieces">{html}</div><div class="tail">{tail}</div>'
    page.set_content(
        f'<!doctype html><html {root}><meta charset="utf-8"><style>body {{ margin: 20px; font: 16px sans-serif; '
        f'background: {ground} }} {CSS}</style><article class="markdown">{body}</article>'
    )


def _luminance(colour: str) -> float:
    """What WCAG 2.2 calls the relative luminance of ``rgb(…)``."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


_COLOURS = """
() => {
  const colours = {};
  for (const element of document.querySelectorAll(".markdown, .markdown *")) {
    if (![...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
    let ground = element;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    const name = `${element.localName}.${element.className}`;
    colours[name] = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
  }
  return colours;
}
"""


def colours(page: Page, theme: Theme, *, system: Theme, chosen: bool) -> dict[str, list[str]]:
    """For each kind of element the colours of its text and of what is behind it."""
    code = "".join(f'<span class="{style}">x</span>' for style in STYLES)
    html = render(ENGLISH + CHINESE + "\n![a](http://x/y) [a](b)\n\n[a]: b\n") + f"<pre><code>{code}</code></pre>"
    page.emulate_media(color_scheme=system)
    show(page, html, root=f'data-theme="{theme}"' if chosen else "", ground=GROUND[theme])
    found: dict[str, list[str]] = page.evaluate(_COLOURS)
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read(page: Page, theme: Theme) -> None:
    """Whatever stands on whatever has a contrast of 4.5 at least, each colour of code included."""
    found = colours(page, theme, system=theme, chosen=False)

    assert {f"span.{style}" for style in STYLES} <= found.keys()
    assert {name: pair for name, pair in found.items() if contrast(*pair) < _LEAST} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_chosen_theme_counts_more_than_the_systems(page: Page, theme: Theme) -> None:
    """`data-theme` on the root says which colours there are; without it the reader's system does."""
    other: Theme = "dark" if theme == "light" else "light"
    own = colours(page, theme, system=theme, chosen=False)

    assert own == colours(page, theme, system=other, chosen=True)
    assert own != colours(page, other, system=other, chosen=False)


def test_each_style_of_code_has_a_colour(page: Page) -> None:
    """No style looks like plain text."""
    found = colours(page, "light", system="light", chosen=False)
    plain = found["p."][0]

    assert [style for style in STYLES if found[f"span.{style}"][0] == plain] == []


def test_rules_are_for_markdown_only() -> None:
    """Each rule is about what stands in `.markdown`."""
    rules = re.findall(r"([^{};]+)\{", re.sub(r"/\*.*?\*/", "", CSS, flags=re.DOTALL))
    outside = re.compile(r"\([^()]*\)")
    selectors = [part.strip() for rule in rules for part in outside.sub("", outside.sub("", rule)).split(",")]

    assert len(selectors) > 50
    assert [part for part in selectors if not re.match(r"(:root\S* )?\.markdown|@media", part)] == []


LONG = {
    "code": "```py\n" + "".join(f"x{number} = {number}\n" for number in range(40)) + "```",
    "list": "".join(f"{number}. item\n    - one\n    - two\n" for number in range(5, 25)),
    "loose list": "".join("- item\n\n  more **text**\n\n  - one\n  - two\n\n" for _ in range(12)),
    "tasks": "- [ ] open\n- [x] done\n" * 20,
    "code in a list": "1. do\n\n   ```sh\n" + "   ls -l\n" * 30 + "   ```\n\n2. done\n",
    "quote": "> text\n>\n> - a\n> - b\n>\n" * 12,
    "table": "| a | b |\n|:-:|--:|\n" + "| c | `d` |\n" * 40,
}
_HEIGHT = "() => document.querySelector('.markdown').getBoundingClientRect().height"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", LONG)
def test_a_seam_takes_no_room(page: Page, kind: str, wrapped: bool) -> None:
    """Joined pieces, the last of them the tail, are as high as the whole."""
    text = f"Before.\n\n{LONG[kind]}\n"
    stream = HtmlStream(limit=50)
    out = "".join(stream.feed(text))
    tail = stream.tail
    assert 'class="joined"' in out
    heights = []
    for html, below in ((render(text), None), (out, tail) if wrapped else (out + tail, None)):
        show(page, html, below)
        heights.append(page.evaluate(_HEIGHT))

    assert heights[1] == pytest.approx(heights[0], abs=1.5)


@pytest.mark.parametrize("after", ["", "\n\nAfter.\n", "\n\n- after\n"])
def test_a_long_paragraph_flows_on(page: Page, after: str) -> None:
    """Lines break where they would break in one paragraph, in the tail too."""
    text = "Before.\n\n" + "Words that **flow** on, 中文也可以。" * 400 + after
    heights = []
    stream = HtmlStream()
    out, tail = "".join(stream.feed(text)), stream.tail
    assert '<p class="joined">' in out
    for html, below in ((render(text), None), (out + tail, None), (out, tail)):
        show(page, html, below)
        heights.append(page.evaluate(_HEIGHT))

    assert heights[1:] == [pytest.approx(heights[0], abs=1.5)] * 2


_COLUMNS = """
() => [...document.querySelectorAll("tr")].map(
  row => [...row.children].map(cell => Math.round(cell.getBoundingClientRect().left)).join(" "))
"""


def test_columns_of_a_joined_table_stand_below_each_other(page: Page) -> None:
    """Its pieces have columns of the same widths."""
    stream = HtmlStream(limit=50)
    rows = "".join(f"| {'word ' * (number % 7)} | {number} | x |\n" for number in range(30))
    out = "".join(stream.feed("| a | b | c |\n|---|---|---|\n" + rows))
    show(page, out, stream.tail)
    found: list[Any] = page.evaluate(_COLUMNS)

    assert (len(found), len(set(found))) == (31, 1)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "|" + "column |" * 20 + "\n|" + "-|" * 20, "`" + "x" * 300 + "`"])
def test_nothing_is_wider_than_its_place(page: Page, text: str) -> None:
    """On a narrow screen what is wide scrolls by itself, and the page does not."""
    page.set_viewport_size({"width": 320, "height": 600})
    show(page, render(text))
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    page.set_viewport_size({"width": 800, "height": 600})

    assert wide <= 320
