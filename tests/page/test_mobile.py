"""A phone: 360 pixels wide, a drawer, large targets, and a keyboard that covers nothing."""

from __future__ import annotations

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway
from tests.page.looking import controls

from tailrace.testing import FakeOllama, say, think, tool_call

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
WIDE = "a_very_long_name_without_any_place_to_break_it = " * 4
TABLE = "| one | two | three | four | five |\n|---|---|---|---|---|\n| 1 | 2 | 3 | 4 | 5 |"
TEXT = f"```python\n{WIDE}\n```\n\n{TABLE}\n\nhttps://example.org/{'x' * 200} End."
OVERFLOW = """() => [...document.querySelectorAll("body *")].filter((element) => {
  if (!element.checkVisibility() || element.closest("pre, .scroll, .symbols, .unseen, .sidebar")) return false;
  const { left, right } = element.getBoundingClientRect();
  return right > innerWidth + 0.5 || left < -0.5;
}).map((element) => element.className || element.localName)"""


@pytest.fixture
def phone(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> Chat:
    return open_chat(gateway.url, **PHONE)


def test_it_fits_in_360_pixels(phone: Chat, upstream: FakeOllama) -> None:
    """Nothing sticks out, whatever the model says: code and tables scroll by themselves."""
    upstream.script(think("Hm."), tool_call("weather", {"x": WIDE}), say(TEXT))
    phone.answered("Q" * 100, "End.")
    assert phone.page.evaluate(OVERFLOW) == []
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 360
    for opener in ("#open-tuning",):
        phone.page.tap(opener)
        assert phone.page.evaluate(OVERFLOW) == []
        phone.page.keyboard.press("Escape")


def test_targets_are_large(phone: Chat, upstream: FakeOllama) -> None:
    """Whatever can be tapped is at least 44 pixels high and wide, but for links in a text."""
    upstream.script(
        think("Hm."), tool_call("weather", {}), say("```python\nx = 1\n```\n\n[link](https://example.org) End.")
    )
    phone.answered("Q", "End.")
    upstream.script(say("Again."))
    phone.do("regenerate")
    phone.wait_for_text("Again.")
    phone.wait_until_over()
    phone.step("previous")
    phone.wait_for_text("End.")
    assert too_small(phone) == []
    phone.page.tap("#toggle-sidebar")
    assert too_small(phone) == []
    for opener in ("#open-settings", "#open-help"):
        phone.page.tap(opener)
        assert too_small(phone) == []
        phone.page.keyboard.press("Escape")
    phone.page.tap("#close-sidebar")
    phone.page.tap("#open-tuning")
    assert too_small(phone) == []


def too_small(chat: Chat) -> list[str]:
    return [
        f"{control['name']} {control['width']:.0f}×{control['height']:.0f}"
        for control in controls(chat.page)
        if not control["inText"]
        and control["id"] not in ("skip", "log")
        and min(control["width"], control["height"]) < 43.5
    ]


def test_the_drawer(phone: Chat, upstream: FakeOllama) -> None:
    """The list comes over the page, holds the focus, and goes with Esc, its cross, or a tap beside it."""
    sidebar, toggle = phone.page.locator("#sidebar"), phone.page.locator("#toggle-sidebar")
    assert sidebar.is_hidden()
    for how in ("escape", "cross", "beside", "open"):
        toggle.tap()
        sidebar.wait_for()
        assert phone.page.evaluate("document.querySelector('#sidebar').contains(document.activeElement)")
        assert phone.page.evaluate("document.querySelector('#main').inert")
        assert toggle.get_attribute("aria-expanded") == "true"
        if how == "escape":
            phone.page.keyboard.press("Escape")
        elif how == "cross":
            phone.page.tap("#close-sidebar")
        elif how == "beside":
            phone.page.locator("#veil").tap(position={"x": 350, "y": 400})
        else:
            phone.page.tap("#new")
        sidebar.wait_for(state="hidden")
        assert toggle.get_attribute("aria-expanded") == "false"


@pytest.mark.parametrize("height", [740, 360, 300])
def test_the_keyboard_covers_nothing(phone: Chat, upstream: FakeOllama, height: int) -> None:
    """However little height a keyboard leaves, the field and its button are in it, and the last words above them."""
    upstream.script(say("Line.\n\n" * 30, "The last words."))
    phone.answered("Q", "The last words.")
    phone.field.focus()
    phone.page.set_viewport_size({"width": 360, "height": height})
    phone.page.wait_for_function(
        "height => document.querySelector('#send').getBoundingClientRect().bottom <= height", arg=height
    )
    phone.page.wait_for_function(
        """() => {
          const log = document.querySelector("#log");
          return log.scrollHeight - log.clientHeight - log.scrollTop <= 1;
        }"""
    )
    box = phone.field.bounding_box()

    assert box is not None
    assert 0 <= box["y"] <= box["y"] + box["height"] <= height
    assert "interactive-widget=resizes-content" in (
        phone.page.locator("meta[name=viewport]").get_attribute("content") or ""
    )
    assert phone.page.evaluate("getComputedStyle(document.body).height") == f"{height}px"


def test_a_long_question_leaves_room(phone: Chat, upstream: FakeOllama) -> None:
    """The field grows with its text, to a part of the screen, and shrinks again."""
    before = phone.field.bounding_box()
    phone.field.fill("line\n" * 60)
    grown = phone.field.bounding_box()
    phone.field.fill("")
    after = phone.field.bounding_box()

    assert before is not None
    assert grown is not None
    assert before == after
    assert before["height"] < grown["height"] <= 740 * 0.4 + 1
