"""What a model says can do nothing: X1, with a list of what has been tried on others."""

from __future__ import annotations

import pytest
from tests.page.chat import Chat, pieces
from tests.page.conftest import Open
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, hold, say, status, think, tool_call

PAYLOADS = [
    "<script>window.ran = 1</script>",
    "<img src=x onerror='window.ran = 1'>",
    "<svg onload=window.ran=1>",
    "<svg><animate onbegin=window.ran=1 attributeName=x dur=1s>",
    "<iframe srcdoc='<script>parent.ran = 1</script>'></iframe>",
    "<a href='javascript:window.ran=1'>click</a>",
    "[click](javascript:window.ran=1)",
    "[click](JaVaScRiPt:window.ran=1)",
    "[click](java\tscript:window.ran=1)",
    "[click](&#106;avascript:window.ran=1)",
    "[click](data:text/html,<script>window.ran=1</script>)",
    "[click](vbscript:msgbox)",
    "[click](//elsewhere.example/x)",
    "[click][ref]\n\n[ref]: javascript:window.ran=1",
    "<javascript:window.ran=1>",
    "![x](https://elsewhere.example/pixel.png?secret)",
    "![x](data:image/svg+xml,<svg onload=window.ran=1>)",
    '![x" onerror="window.ran=1](y)',
    '[x](https://a.example/"onmouseover="window.ran=1)',
    "```<script>window.ran=1</script>\n<script>window.ran=1</script>\n```",
    '```python"onload="window.ran=1\nx\n```',
    "`<script>window.ran=1</script>`",
    "| <script>window.ran=1</script> |\n|---|\n| <img src=x onerror=window.ran=1> |",
    "<style>body { display: none }</style>",
    "<link rel=stylesheet href=https://elsewhere.example/x.css>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.example'>",
    "<base href=https://elsewhere.example/>",
    "<form action=https://elsewhere.example><button>go</button></form>",
    "<object data=https://elsewhere.example></object><embed src=https://elsewhere.example>",
    "<template><script>window.ran=1</script></template>",
    "<math><mtext><table><mglyph><style><img src=x onerror=window.ran=1>",
    "<noscript><p title='</noscript><img src=x onerror=window.ran=1>'>",
    "<!--><script>window.ran=1</script>-->",
    "</p></div></article><script>window.ran=1</script>",
    "<div id=question></div><input id=send name=body>",
    "<x-element onfocus=window.ran=1 tabindex=1 autofocus>",
]
HARMLESS = """() => {
  const allowed = new Set(`a blockquote br code col colgroup div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table
    tbody td th thead tr ul button`.split(/\\s+/));
  const bad = [];
  for (const element of document.querySelectorAll(".markdown *")) {
    if (!allowed.has(element.localName)) bad.push(element.localName);
    for (const { name, value } of element.attributes) {
      if (/^on|^style$|^id$|^src$|^name$/.test(name)) bad.push(`${element.localName} ${name}`);
      if (name === "href" && !/^(https?|mailto):/.test(value)) bad.push(value);
    }
  }
  return bad;
}"""


@pytest.mark.parametrize("size", [1, 7, 1000], ids=["a character", "a few", "all"])
def test_x1_what_a_model_says_can_do_nothing(chat: Chat, upstream: FakeOllama, size: int) -> None:
    """However it is cut: no script runs, nobody else is asked, nothing is there that could do either."""
    text = "\n\n".join(PAYLOADS)
    upstream.script(say(*pieces(text, size), "\n\nThe end."))
    chat.page.evaluate(f"window.check = {HARMLESS}; window.bad = []")
    chat.page.evaluate(
        """() => new MutationObserver(() => window.bad.push(...window.check()))
          .observe(document.querySelector("#messages"), { subtree: true, childList: true })"""
    )
    chat.answered("Q", "The end.")
    assert chat.page.evaluate("window.bad") == []
    for link in chat.answer.locator("a").all():
        assert link.get_attribute("rel") == "noopener noreferrer nofollow"
        link.hover()
        link.focus()
    chat.page.reload()
    chat.wait_for_text("The end.")

    assert chat.page.evaluate(HARMLESS) == []
    assert chat.page.evaluate("window.ran") is None
    assert chat.seen.elsewhere(chat.url) == []
    assert chat.seen.complaints == []  # the policy had nothing to forbid
    assert chat.kept()["messages"][1]["content"] == text + "\n\nThe end."


def test_x1_what_is_half_open(chat: Chat, upstream: FakeOllama) -> None:
    """A tag or a link whose end has not come is text already."""
    for half in ("<img src=x onerror=", "[click](java", "<scr", "![x](https://elsewhere.exam"):
        upstream.script(say("Look: ", half), hold(), say("script:window.ran=1)>"))
        chat.ask(half)
        chat.wait_for_text("Look: ")
        assert chat.page.evaluate(HARMLESS) == []
        upstream.release()
        chat.wait_until_over()

    assert chat.page.evaluate("window.ran") is None
    assert chat.seen.elsewhere(chat.url) == []


def test_x1_everywhere_else(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> None:
    """Thoughts, tool calls, errors, questions, titles, models and findings are text, too."""
    evil = "<img src=x onerror='window.ran=1'><b>b</b>"
    upstream.script(think(evil), tool_call(evil, {evil: evil}), say("One water."))
    chat = open_chat(gateway.url)
    chat.answered(evil, "One water.")
    chat.page.locator(".call summary").click()
    upstream.script(status(500, {"error": evil}))
    chat.do("regenerate")
    chat.answer.locator(".note.failed").wait_for()
    assert chat.page.locator(".question .asked").text_content() == evil
    chat.page.fill("#search", "water")
    chat.page.wait_for_selector(".snippet")
    chat.menu("delete")
    chat.page.wait_for_selector(".toast")

    assert chat.page.locator("img, b").count() == 0
    assert chat.page.evaluate("window.ran") is None
    assert evil in (chat.page.locator(".toast").text_content() or "")


def test_images_are_links(chat: Chat, upstream: FakeOllama) -> None:
    """A picture from elsewhere would tell its server that it was seen: it is a link that one may follow."""
    upstream.script(say("![A mill](https://elsewhere.example/mill.png) there."))
    chat.answered("Q", "there.")
    link = chat.answer.locator("a")

    assert link.inner_text() == "A mill"
    assert link.get_attribute("href") == "https://elsewhere.example/mill.png"
    assert chat.page.locator("img").count() == 0
