"""Nothing comes from anywhere else, and nothing runs that is not ours."""

from __future__ import annotations

from pathlib import Path

from tests.page.chat import Chat, pieces
from tests.page.conftest import Open
from tests.page.gateway import Gateway

import tailrace.gateway
from tailrace.testing import FakeOllama, say, think

PAGE = Path(tailrace.gateway.__file__).parent / "page"
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


def test_zero_requests_elsewhere_and_a_strict_policy(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> None:
    """All that the page can do is done under a policy without `unsafe-inline`, and nobody else is asked."""
    text = "![picture](https://elsewhere.example/x.png) [link](https://elsewhere.example/)\n\n```python\nx = 1\n```\n"
    upstream.script(think("Hm."), say(*pieces(text), "The end."))
    chat = open_chat(gateway.url, script=VIOLATIONS, locale="zh-CN", color_scheme="dark")
    chat.answered("Q", "The end.")
    upstream.script(say("Again."))
    chat.do("regenerate")
    chat.wait_for_text("Again.")
    chat.wait_until_over()
    for opener in ("#open-settings", "#open-tuning", "#open-help"):
        chat.page.click(opener)
        chat.page.keyboard.press("Escape")
    chat.page.click("#switch-theme")
    chat.page.fill("#search", "Again")
    chat.page.wait_for_selector(".snippet")
    chat.menu("rename")
    chat.page.keyboard.press("Escape")
    assert chat.page.evaluate("window.violations") == []
    answer = chat.page.reload()
    assert answer is not None
    policy = answer.headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert chat.seen.elsewhere(gateway.url) == []
    assert chat.seen.complaints == []


def test_the_policy_forbids(chat: Chat) -> None:
    """The policy is real: what an attacker would want to run or to ask for is refused."""
    chat.page.evaluate(
        """() => {
          window.violations = [];
          document.addEventListener("securitypolicyviolation", ({ violatedDirective }) => {
            window.violations.push(violatedDirective);
          });
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
          const image = document.createElement("img");
          image.src = "https://elsewhere.example/x.png";
          document.body.append(image);
          const holder = document.createElement("div");
          holder.innerHTML = `<p style="position: fixed">x</p>`;
          document.body.append(holder);
        }"""
    )
    chat.page.wait_for_function("() => window.violations.length === 3")
    chat.seen.complaints.clear()
    chat.seen.urls.clear()

    assert sorted(chat.page.evaluate("window.violations")) == ["img-src", "script-src-elem", "style-src-attr"]
    assert chat.page.evaluate("window.ran") is None


def test_every_module_is_fetched_at_once(chat: Chat) -> None:
    """The page names all of its modules, so that a browser need not find them one behind the other."""
    named = chat.page.evaluate("[...document.querySelectorAll('link[rel=modulepreload]')].map(({ href }) => href)")
    apart = {"main.js", "theme.js", "worker.js"}
    expected = {f"{chat.url}/static/{path.name}" for path in PAGE.glob("*.js") if path.name not in apart}

    assert expected == set(named)
