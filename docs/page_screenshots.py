"""Make the pictures of the chat page from the real program: `python docs/page_screenshots.py`. Needs Chromium.

The gateway runs as a process of its own on the fake model server, and Chromium shows its page.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tailrace.testing import FakeOllama, done, hold, say, think

HERE = Path(__file__).resolve().parent
LARGEST = 150_000  # bytes of a picture
SIZE = {"width": 1180, "height": 790}
_COUNTS = {"eval_count": 132, "eval_duration": 3_200_000_000, "prompt_eval_count": 26}
_CODE = '```python\ndef power(head: float, flow: float) -> float:\n    """{doc}"""\n'
_CODE += "    return 9.81 * head * flow * 0.85\n```\n\n"

ENGLISH = {
    "others": ["Rivers that run north", "A recipe for rye bread", "Why the sky is blue"],
    "first": "How much power is in a small stream?",
    "answer": (
        "It depends on how far the water **falls** and how much of it there is. In watts, with a good wheel:\n\n"
        + _CODE.format(doc="Metres, litres a second.")
        + "| stream | head | flow | power |\n|---|---:|---:|---:|\n"
        + "| brook | 2 m | 40 l/s | 667 W |\n| mill race | 4 m | 150 l/s | 5.0 kW |\n"
    ),
    "second": "And what is a tailrace?",
    "thinking": "They know the wheel already. What leaves it, then.",
    "partial": (
        "The channel that carries the water **away** once it has turned the wheel. It has to run freely: if the water "
        "stands below the wheel, the paddles wade in it, and"
    ),
}
CHINESE = {
    "others": ["向北流的河", "黑麦面包的做法", "天空为什么是蓝色的"],
    "first": "一条小溪能提供多少功率？",
    "answer": (
        "取决于水的**落差：**落得越高、流量越大，功率就越大。单位为瓦：\n\n"
        + _CODE.format(doc="水头为米，流量为升每秒。")
        + "| 水流 | 水头 | 流量 | 功率 |\n|---|---:|---:|---:|\n"
        + "| 小溪 | 2 m | 40 l/s | 667 W |\n| 引水渠 | 4 m | 150 l/s | 5.0 kW |\n"
    ),
    "second": "尾水渠又是什么？",
    "thinking": "对方已经了解水车，接下来说明水离开水车之后的去向。",
    "partial": "尾水渠是水推动水车之后**流走**的渠道。水必须流得通畅：如果积在水车下面，叶片就会泡在水里，",
}


def main() -> None:
    """Make both pictures."""
    chromium = shutil.which("chromium") or sys.exit("chromium is not here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for name, locale, scheme, texts in (("page", "en-US", "light", ENGLISH), ("page-zh", "zh-CN", "dark", CHINESE)):
            context = browser.new_context(locale=locale, color_scheme=scheme, viewport=SIZE, reduced_motion="reduce")
            picture = HERE / "images" / f"{name}.png"
            picture.parent.mkdir(exist_ok=True)
            picture.write_bytes(conversation(context.new_page(), texts))
            print(picture, picture.stat().st_size)
            if picture.stat().st_size > LARGEST:
                sys.exit(f"{picture} is larger than {LARGEST} bytes")
        browser.close()


def conversation(page: Page, texts: dict[str, str | list[str]]) -> bytes:
    """Has a conversation; what the page shows in the middle of the second answer."""
    with FakeOllama(models=["qwen3:0.6b"]) as server, gateway(server.url) as url:
        for title in reversed(texts["others"]):
            page.request.post(f"{url}/conversations", data={"title": title})
        server.script(say(*_pieces(texts["answer"])), done(**_COUNTS))
        server.script(think(*_pieces(texts["thinking"])), say(*_pieces(texts["partial"]), every=0.03), hold())
        page.goto(url)
        page.wait_for_selector("body:not([hidden])")
        _ask(page, texts["first"])
        page.wait_for_selector(".answer .figures:has-text('132')")
        page.wait_for_selector("#send:not(.stop)")
        _ask(page, texts["second"])
        page.wait_for_function(
            "text => [...document.querySelectorAll('.markdown')].at(-1).textContent.endsWith(text)",
            arg=str(texts["partial"])[-8:],
        )
        page.wait_for_selector(".answer:last-child .figures:has-text('tok/s')")
        return page.screenshot()


@contextlib.contextmanager
def gateway(upstream: str) -> Iterator[str]:
    """Runs `tailrace serve`; its address."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "tailrace", "--lang", "en", "serve", "--port", "0", "--upstream", upstream]
        env = {**os.environ, "TAILRACE_HOME": home}
        with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                found = re.search(r"http://[\d.]+:\d+", process.stderr.readline())
                yield found[0] if found else sys.exit("the gateway does not start")
            finally:
                process.terminate()


def _ask(page: Page, question: str | list[str]) -> None:
    page.fill("#question", str(question))
    page.press("#question", "Enter")


def _pieces(text: str | list[str]) -> list[str]:
    return [str(text)[place : place + 3] for place in range(0, len(text), 3)]


if __name__ == "__main__":
    main()
