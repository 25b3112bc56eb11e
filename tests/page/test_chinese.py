"""Chinese: words, fonts, and bold beside full-width punctuation."""

from __future__ import annotations

import json
import re
from importlib.resources import files

import pytest
from tests.page.chat import Chat, pieces
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, say

HAN = re.compile(r"[\u4e00-\u9fff]")
# Each label, text and placeholder of the page that is ours.
WORDS = """() => [...document.querySelectorAll("[data-t], [data-t-label], [data-t-placeholder]")].flatMap((element) => [
  element.dataset.t && element.textContent,
  element.dataset.tLabel && element.getAttribute("aria-label"),
  element.dataset.tPlaceholder && element.placeholder,
]).filter((text) => text)"""


@pytest.mark.parametrize(
    ("locale", "language"), [("zh-CN", "zh-CN"), ("zh-TW", "zh-CN"), ("en-GB", "en"), ("de-DE", "en")]
)
def test_the_language_follows_the_browser(
    open_chat: Open, gateway: Gateway, upstream: FakeOllama, locale: str, language: str
) -> None:
    """Chinese where Chinese is read, else English; the document says which."""
    chat = open_chat(gateway.url, locale=locale)
    words = chat.page.evaluate(WORDS)

    assert chat.page.evaluate("document.documentElement.lang") == language
    assert len(words) > 50
    assert [bool(HAN.search(word)) for word in words] == [language == "zh-CN"] * len(words)


def test_the_switch(chat: Chat, upstream: FakeOllama) -> None:
    """The language can be chosen; all that stands there changes at once, and it is remembered."""
    upstream.script(say("One."))
    chat.answered("Q", "One.")
    chat.page.click("#open-settings")
    chat.page.select_option("#pref-language", "zh")
    chat.page.wait_for_selector("#settings-title:has-text('设置')")
    words = [word for word in chat.page.evaluate(WORDS) if "Q" not in word]
    assert [word for word in words if not HAN.search(word)] == []
    chat.page.reload()
    chat.page.wait_for_selector("#new:has-text('新对话')")
    chat.page.click("#open-settings")
    chat.page.select_option("#pref-language", "en")
    chat.page.wait_for_selector("#settings-title:has-text('Settings')")

    assert not any(HAN.search(word) for word in chat.page.evaluate(WORDS))


def test_the_words_are_those_of_the_file(chat: Chat) -> None:
    """The page gets its words from the files beside it."""
    expected = json.loads((files("tailrace.gateway") / "page" / "words" / "zh.json").read_bytes())

    assert expected == chat.page.evaluate("async () => (await fetch('/words/zh.json')).json()")


def test_bold_beside_full_width_punctuation(chat: Chat, upstream: FakeOllama) -> None:
    """`**注意：**后面` is bold, and was never shown with stars that then went away."""
    upstream.script(say(*pieces("**注意：**后面的文字，和**“引号”**也一样。", 1)))
    chat.answered("Q", "也一样。")

    assert chat.answer.locator("strong").all_inner_texts() == ["注意：", "“引号”"]
    assert chat.text == "注意：后面的文字，和“引号”也一样。"


def test_fonts_are_the_systems(chat: Chat, upstream: FakeOllama) -> None:
    """Chinese is set in a font for it that is on the machine; none is fetched."""
    upstream.script(say("水从渠中流过。"))
    chat.answered("Q", "流过。")
    session = chat.page.context.new_cdp_session(chat.page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": ".answer .markdown p"})["nodeId"]
    fonts = session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]
    stack = chat.page.evaluate("getComputedStyle(document.querySelector('.answer .markdown')).fontFamily")

    assert all(not font["isCustomFont"] for font in fonts)
    assert [name for name in ("PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC") if name not in stack] == []
    assert not [url for url in chat.seen.urls if re.search(r"\.(woff2?|ttf|otf)\b", url)]
