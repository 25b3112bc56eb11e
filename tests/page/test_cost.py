"""The cost stays flat: a frame puts in no more of an answer of 50,000 characters than of a short one, in one write."""

from __future__ import annotations

from tests.page.chat import Chat, pieces
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, hold, say

AT_ONCE = 8_000  # characters of finished text that the page puts in at once, and one paragraph or table more
SECTION = """## Section {number}

A paragraph with **bold**, *emphasis*, `code` and [a link](https://example.org/{number}), 以及一些**中文：**混在其中,
so that it is like what models write, and goes on for a few lines before it ends with a full stop and a blank line.

- a point
- another, with a sub-list
  1. one
  2. two

```python
def function_{number}(argument: int) -> str:
    return f"value {{argument}} of {number}"
```

| name | value |
|---|---:|
| alpha | {number} |
| beta | 2 |

"""
TEXT = "".join(SECTION.format(number=number) for number in range(1, 121))
# Counts writes to the messages, by frame: a microtask behind each frame's callbacks ends the frame.
COUNT_WRITES = """() => {
  const real = window.requestAnimationFrame;
  let frame = 0;
  window.writes = {};
  window.outside = 0;
  window.added = 0;
  window.most = 0;
  window.requestAnimationFrame = (callback) => real((time) => {
    frame += 1;
    const mine = frame;
    window.inFrame = mine;
    callback(time);
    queueMicrotask(() => { if (window.inFrame === mine) window.inFrame = 0; });
  });
  new MutationObserver((all) => {
    const records = all.filter((record) => (record.target.closest ?? (() => true)).call(record.target, ".markdown"));
    if (records.length === 0) return;
    let text = 0;
    for (const record of records) {
      for (const node of record.addedNodes) {
        window.added += 1 + (node.querySelectorAll?.("*").length ?? 0);
        text += node.textContent.length;
      }
    }
    window.most = Math.max(window.most, text);
    if (window.inFrame) window.writes[window.inFrame] = (window.writes[window.inFrame] ?? 0) + 1;
    else window.outside += 1;
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


def test_a_frame_of_a_long_answer_puts_in_little(chat: Chat, upstream: FakeOllama) -> None:
    """However much comes between two frames, and however long the answer has become."""
    assert len(TEXT) > 50_000
    upstream.script(say("Begin.\n\n"), hold(), say(*pieces(TEXT, 12)), say("The end."))
    chat.ask("Q")
    chat.wait_for_text("Begin.")
    chat.page.evaluate(COUNT_WRITES)
    upstream.release()
    chat.wait_for_text("The end.")
    chat.wait_until_over()

    assert chat.answer.locator("h2").count() >= 120
    assert 0 < chat.page.evaluate("window.most") <= AT_ONCE + len(SECTION)


def test_a_frame_of_a_long_answer_that_is_read_again_puts_in_little(
    chat: Chat, upstream: FakeOllama, gateway: Gateway
) -> None:
    """Coming back to a long answer under way shows all of it, a part a frame."""
    upstream.script(say(*pieces(TEXT, 200), "So far."), hold(), say("The end."))
    chat.ask("Q")
    chat.wait_for_text("So far.")
    chat.page.goto(gateway.url)
    chat.page.wait_for_selector(".conversation")
    chat.page.evaluate(COUNT_WRITES)
    chat.page.click(".conversation")
    chat.wait_for_text("So far.")
    writes = chat.page.evaluate("window.writes")
    upstream.release()
    chat.wait_for_text("The end.")

    assert 0 < chat.page.evaluate("window.most") <= AT_ONCE + len(SECTION)
    assert len(writes) >= len(chat.text) // (AT_ONCE + len(SECTION))


def test_one_write_a_frame(chat: Chat, upstream: FakeOllama) -> None:
    """All that came between two frames is written at once, in the frame."""
    upstream.script(say("Begin.\n\n"), hold(), say(*pieces(TEXT[:6000], 3)), say("The end."))
    chat.ask("Q")
    chat.wait_for_text("Begin.")
    chat.page.evaluate(COUNT_WRITES)
    upstream.release()
    chat.wait_for_text("The end.")
    chat.wait_until_over()
    writes = chat.page.evaluate("window.writes")

    assert chat.page.evaluate("window.outside") == 0
    assert set(writes.values()) == {1}


def test_the_work_of_a_frame_does_not_grow(chat: Chat, upstream: FakeOllama) -> None:
    """All nodes that are ever put in are little more than those that stand there in the end: nothing is made anew."""
    upstream.script(say("Begin.\n\n"), hold(), say(*pieces(TEXT[:20_000], 5)), say("The end."))
    chat.ask("Q")
    chat.wait_for_text("Begin.")
    chat.page.evaluate(COUNT_WRITES)
    upstream.release()
    chat.wait_for_text("The end.")
    chat.wait_until_over()
    standing = chat.answer.locator(".markdown *").count()

    assert standing > 1000
    assert 0 < chat.page.evaluate("window.added") <= 3 * standing


def test_a_hidden_tab_writes_nothing(chat: Chat, upstream: FakeOllama) -> None:
    """While nobody looks nothing is painted and nothing piles up; who comes back sees all of it."""
    upstream.script(say("Begin.\n\n"), hold(), say(*pieces(TEXT[:6000], 3)), say("The end."), hold(), say(" Really."))
    chat.ask("Q")
    chat.wait_for_text("Begin.")
    chat.page.evaluate(
        """() => {
          window.frames_ = [];
          window.realFrame = window.requestAnimationFrame;
          window.requestAnimationFrame = (callback) => window.frames_.push(callback); // as a hidden tab does
        }"""
    )
    upstream.release()
    run = chat.kept()["messages"][1]["run"]
    chat.page.wait_for_function(
        "async run => (await (await fetch(`/runs/${run}`)).json()).reply.text.endsWith('The end.')", arg=run
    )
    assert chat.text == "Begin."
    assert chat.page.evaluate("window.frames_.length") <= 1
    chat.page.evaluate(
        """() => {
          window.requestAnimationFrame = window.realFrame;
          for (const callback of window.frames_) window.requestAnimationFrame(callback);
        }"""
    )
    chat.wait_for_text("The end.")
    upstream.release()
    chat.wait_for_text("Really.")
