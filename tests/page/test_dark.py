"""Two themes: as the system has it, or as chosen, and both can be read."""

from __future__ import annotations

import pytest
from tests.page.chat import pieces
from tests.page.conftest import Open
from tests.page.gateway import Gateway
from tests.page.looking import low_contrast

from tailrace.testing import FakeOllama, hold, say, status, think, tool_call

BACKGROUND = "getComputedStyle(document.body).backgroundColor"
CODE = """```python
@decorator
class Mill(Wheel):  # a comment
    '''A docstring.'''
    def turn(self, head: float = 9.81) -> None:
        raise ValueError(f"no {head} water") if not True else len([1, 2])
```

```diff
- gone
+ new
```

| a | b |
|---|---|
| 1 | 2 |

> A quote with `code` and [a link](https://example.org), ~~struck~~ and ![image](https://example.org/x.png).

- [x] done

The end."""


@pytest.mark.parametrize(("scheme", "other"), [("light", "dark"), ("dark", "light")])
def test_as_the_system_has_it_and_as_chosen(
    open_chat: Open, gateway: Gateway, upstream: FakeOllama, scheme: str, other: str
) -> None:
    """The page follows the system at once; what is chosen is remembered, and nothing else flashed."""
    chat = open_chat(gateway.url, color_scheme=scheme)
    first = chat.page.evaluate(BACKGROUND)
    chat.page.emulate_media(color_scheme=other)  # type: ignore[arg-type]  # one of the two
    second = chat.page.evaluate(BACKGROUND)
    assert first != second
    chat.page.click("#switch-theme")
    assert chat.page.evaluate(BACKGROUND) == first
    chat.page.add_init_script(
        "document.onreadystatechange = () => { window.early ??= document.documentElement.dataset.theme; }"
    )
    chat.page.reload()
    chat.page.wait_for_selector("body:not([hidden])")
    assert chat.page.evaluate("window.early") == scheme
    assert chat.page.evaluate(BACKGROUND) == first
    chat.page.click("#open-settings")
    chat.page.select_option("#pref-theme", "auto")

    assert chat.page.evaluate(BACKGROUND) == second


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_chat: Open, gateway: Gateway, upstream: FakeOllama, scheme: str, language: str) -> None:
    """All text has a contrast of at least 4.5 to what is behind it, wherever it stands and whatever it says."""
    chat = open_chat(gateway.url, color_scheme=scheme, locale=language)
    assert low_contrast(chat.page) == []
    upstream.script(think("A thought."), tool_call("weather", {"city": "Oslo"}), say(*pieces(CODE)))
    chat.answered("A question", "The end.")
    chat.answer.locator(".thinking summary").click()
    chat.answer.locator(".call summary").click()
    assert low_contrast(chat.page) == []
    upstream.script(status(500, {"error": "out of memory"}))
    chat.do("regenerate")
    chat.answer.locator(".note.failed").wait_for()
    assert low_contrast(chat.page) == []
    upstream.script(say("Half"), hold())
    chat.ask("Another")
    chat.wait_for_text("Half")
    assert low_contrast(chat.page) == []
    chat.page.keyboard.press("Escape")
    chat.answer.locator('[data-does="continue"]').wait_for()
    chat.do("edit", -2)
    assert low_contrast(chat.page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_what_lies_above(open_chat: Open, gateway: Gateway, upstream: FakeOllama, scheme: str) -> None:
    """Dialogs, menus, notices, findings and the line about the connection too."""
    upstream.script(say("Some water."))
    chat = open_chat(gateway.url, color_scheme=scheme)
    chat.answered("A question", "Some water.")
    for opener in ("#open-settings", "#open-tuning", "#open-help"):
        chat.page.click(opener)
        assert low_contrast(chat.page) == [], opener
        chat.page.keyboard.press("Escape")
    chat.page.fill("#search", "water")
    chat.page.wait_for_selector(".snippet mark")
    chat.page.locator(".conversation-item").first.hover()
    chat.page.locator(".conversation-item .icon-button").first.click()
    assert low_contrast(chat.page) == []
    chat.page.click('.menu [data-does="delete"]')
    chat.page.wait_for_selector(".toast")
    chat.page.evaluate("document.querySelector('#link').hidden = false")

    assert low_contrast(chat.page) == []
