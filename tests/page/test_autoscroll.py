"""The end is kept in view, until somebody wants to look elsewhere."""

from __future__ import annotations

import pytest
from tests.page.chat import Chat
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, hold, say

LINES = [f"Line {number} of an answer.\n\n" for number in range(60)]
LEFT = (
    "(({ scrollHeight: all, clientHeight: seen, scrollTop: top }) => all - seen - top)(document.querySelector('#log'))"
)
# Keys scroll smoothly: until the place is the same for a while.
SETTLED = """() => new Promise((done) => {
  const log = document.querySelector("#log");
  let [place, still] = [log.scrollTop, 0];
  const look = () => {
    still = log.scrollTop === place ? still + 1 : 0;
    place = log.scrollTop;
    if (still === 15) done();
    else requestAnimationFrame(look);
  };
  look();
})"""


def begin(chat: Chat, upstream: FakeOllama) -> None:
    """Has an answer fill more than the screen, with more to come each time it is released."""
    more = [step for number in range(8) for step in (hold(), say(f"More {number}.\n\n" * 5, f"So much {number}."))]
    upstream.script(say(*LINES, "So far."), *more)
    chat.ask("Q")
    chat.wait_for_text("So far.")
    chat.page.wait_for_function(f"() => {LEFT} <= 1")


def more(chat: Chat, upstream: FakeOllama, number: int) -> None:
    upstream.release()
    chat.wait_for_text(f"So much {number}.")
    chat.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def place(chat: Chat) -> float:
    value: float = chat.page.evaluate("document.querySelector('#log').scrollTop")
    return value


def is_at_end(chat: Chat) -> bool:
    return bool(chat.page.evaluate(f"{LEFT} <= 1"))


def test_the_end_stays_in_view(chat: Chat, upstream: FakeOllama) -> None:
    """An answer that grows beyond the screen moves up as it comes."""
    begin(chat, upstream)
    more(chat, upstream, 0)

    assert is_at_end(chat)
    assert chat.page.locator("#to-end").is_hidden()


def wheel(chat: Chat) -> None:
    chat.log.hover()
    chat.page.mouse.wheel(0, -30)  # less than what counts as near the end


def key(chat: Chat) -> None:
    chat.log.focus()
    chat.page.keyboard.press("ArrowUp")
    chat.page.evaluate(SETTLED)


def page_up(chat: Chat) -> None:
    chat.log.focus()
    chat.page.keyboard.press("PageUp")
    chat.page.evaluate(SETTLED)


def scrollbar(chat: Chat) -> None:
    """What a scrollbar does is no event but a place that is another one."""
    chat.page.evaluate("document.querySelector('#log').scrollTop -= 40")


def find(chat: Chat) -> None:
    """As a browser's search does, or a link to a part of the page."""
    chat.page.evaluate("document.querySelectorAll('.answer p')[20].scrollIntoView({ block: 'center' })")


def touch(chat: Chat) -> None:
    """A finger that moves down."""
    box = chat.log.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = chat.page.context.new_cdp_session(chat.page)
    for kind, points in (
        ("touchStart", [{"x": x, "y": y}]),
        *(("touchMove", [{"x": x, "y": y + step}]) for step in range(5, 41, 5)),
        ("touchEnd", []),
    ):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


@pytest.mark.parametrize("away", [wheel, key, page_up, scrollbar, find, touch], ids=lambda away: away.__name__)
def test_it_yields_to_whoever_moves_up(open_chat: Open, gateway: Gateway, upstream: FakeOllama, away: object) -> None:
    """By whatever means: from then on what comes does not move what one sees."""
    chat = open_chat(gateway.url, has_touch=away is touch)
    begin(chat, upstream)
    assert callable(away)
    away(chat)
    chat.page.wait_for_function(f"() => {LEFT} > 1")
    more(chat, upstream, 0)
    assert not is_at_end(chat)
    before = place(chat)
    more(chat, upstream, 1)

    assert place(chat) == before
    assert chat.page.locator("#to-end").is_visible()


def test_a_tug_of_war_is_won_by_the_reader(chat: Chat, upstream: FakeOllama) -> None:
    """Small moves up while tokens come add up: none is taken back."""
    begin(chat, upstream)
    chat.log.hover()
    for number in range(3):
        before = place(chat)
        chat.page.mouse.wheel(0, -20)
        chat.page.wait_for_function("before => document.querySelector('#log').scrollTop < before", arg=before)
        more(chat, upstream, number)
        assert place(chat) < before


def test_it_holds_on_again_near_the_end(chat: Chat, upstream: FakeOllama) -> None:
    """Who comes back to within 60 pixels of the end is kept there."""
    begin(chat, upstream)
    page_up(chat)
    chat.page.wait_for_function(f"() => {LEFT} > 100")
    chat.page.evaluate(f"() => {{ document.querySelector('#log').scrollTop += {LEFT} - 50; }}")
    chat.page.wait_for_function(f"() => {LEFT} <= 60")
    more(chat, upstream, 0)

    assert is_at_end(chat)


def test_it_does_not_hold_on_further_away(chat: Chat, upstream: FakeOllama) -> None:
    """Who comes down, but not so far, is left alone."""
    begin(chat, upstream)
    page_up(chat)
    chat.page.wait_for_function(f"() => {LEFT} > 200")
    chat.page.evaluate(f"() => {{ document.querySelector('#log').scrollTop += {LEFT} - 120; }}")
    before = place(chat)
    more(chat, upstream, 0)

    assert place(chat) == before


def test_to_the_latest(chat: Chat, upstream: FakeOllama) -> None:
    """The button appears where there is something below, and goes there and stays."""
    begin(chat, upstream)
    page_up(chat)
    chat.page.get_by_role("button", name="To the latest").click()
    chat.page.wait_for_function(f"() => {LEFT} <= 1")
    more(chat, upstream, 0)

    assert is_at_end(chat)
    assert chat.page.locator("#to-end").is_hidden()


@pytest.mark.parametrize(("motion", "behavior"), [("reduce", "instant"), ("no-preference", "smooth")])
def test_it_moves_as_the_reader_likes(
    open_chat: Open, gateway: Gateway, upstream: FakeOllama, motion: str, behavior: str
) -> None:
    """Whoever wants less motion gets none: neither a smooth way to the end nor anything that turns."""
    chat = open_chat(gateway.url, reduced_motion=motion)
    begin(chat, upstream)
    moving = chat.page.evaluate("document.getAnimations().length")
    page_up(chat)
    chat.page.wait_for_selector("#to-end:not([hidden])")
    chat.page.evaluate(
        """() => {
          const log = document.querySelector("#log");
          const real = log.scrollTo.bind(log);
          log.scrollTo = (to) => { window.went = to.behavior; real(to); };
        }"""
    )
    chat.page.click("#to-end")

    assert chat.page.evaluate("window.went") == behavior
    assert (moving > 0) is (motion == "no-preference")


def test_a_new_question_goes_to_the_end(chat: Chat, upstream: FakeOllama) -> None:
    """Who asks wants to see the answer, wherever they were."""
    upstream.script(say(*LINES, "So far."))
    chat.answered("Q", "So far.")
    chat.log.focus()
    chat.page.keyboard.press("Home")
    chat.page.evaluate(SETTLED)
    chat.page.wait_for_selector("#to-end:not([hidden])")
    upstream.script(say("Here."))
    chat.answered("R", "Here.")

    assert is_at_end(chat)
