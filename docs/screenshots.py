"""Make the pictures of the README from the real program: `python docs/screenshots.py`. Needs tmux and rich.

The program runs in a pane of tmux on the fake model server; what the pane shows becomes an SVG.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tailrace.testing import FakeOllama, done, hold, say

HERE = Path(__file__).resolve().parent
COLUMNS, LINES = 84, 31
_COUNTS = {"eval_count": 132, "eval_duration": 3_200_000_000, "prompt_eval_count": 26}
_CODE = '```python\nfor token in tailrace.chat(model="qwen3:0.6b", messages=messages, stream=True):\n'
_CODE += '    print(token["message"]["content"], end="", flush=True)\n```\n\n'

ENGLISH = (
    "How do I stream an answer?",
    "Pass `stream=True` and read **each piece as it comes**:\n\n"
    + _CODE
    + "| way | what you see |\n|---|---|\n| `stream=True` | every token, at once |\n"
    + "| without | nothing, then everything |\n",
    "And how do I stop it?",
    "Press Ctrl-C. The model *really* stops, and what it had said",
)
CHINESE = (
    "怎样流式输出回答？",
    "传入 `stream=True`，**逐段读取：**每个 token 到达后立即显示。\n\n"
    + _CODE
    + "| 方式 | 看到的内容 |\n|---|---|\n| `stream=True` | 逐字出现 |\n| 不使用 | 等待后一次出现 |\n",
    "怎样停止？",
    "按 Ctrl-C。模型会*真正*停下，已经说出的内容",
)


def main() -> None:
    """Make both pictures."""
    for name, language, texts in (("chat", "en", ENGLISH), ("chat-zh", "zh", CHINESE)):
        picture = HERE / "images" / f"{name}.svg"
        picture.parent.mkdir(exist_ok=True)
        picture.write_text(svg(conversation(language, texts)), encoding="utf-8")
        print(picture)


def conversation(language: str, texts: tuple[str, str, str, str]) -> str:
    """Have a conversation; what the pane shows, with its styles."""
    first, answer, second, partial = texts
    with FakeOllama(models=["qwen3:0.6b"]) as server, tempfile.TemporaryDirectory() as home:
        server.script(say(*_pieces(answer)), done(**_COUNTS))
        server.script(say(*_pieces(partial), every=0.04), hold())
        env = {**os.environ, "OLLAMA_HOST": server.url, "TAILRACE_HOME": home, "TAILRACE_LANG": language}
        env.pop("NO_COLOR", None)
        tmux = ["tmux", "-L", f"screenshot-{os.getpid()}", "-f", "/dev/null", "-u"]
        start = ["new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES)]
        subprocess.run([*tmux, *start, sys.executable, "-m", "tailrace", "chat"], env=env, check=True)
        try:
            _wait(tmux, ">>> ")
            _type(tmux, first)
            _wait(tmux, "132 tok")
            _wait(tmux, ">>> ", 2)
            _type(tmux, second)
            _wait(tmux, partial[-4:])
            subprocess.run([*tmux, "send-keys", "C-c"], check=True)
            _wait(tmux, "~")
            _wait(tmux, ">>> ", 3)
            time.sleep(0.3)  # the placeholder is drawn after the prompt
            return _captured(tmux, "-e")
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)


def svg(screen: str) -> str:
    """The picture of a screen."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen.rstrip()), soft_wrap=True)
    picture = console.export_svg(title="tailrace chat", unique_id="tailrace")
    # The fonts of the page that shows it, from nowhere else: no request leaves the reader's machine.
    start, end = picture.find("@font-face"), picture.find(".tailrace-matrix")
    return picture[:start] + picture[end:] if 0 <= start < end else picture


def _pieces(text: str) -> list[str]:
    return [text[place : place + 3] for place in range(0, len(text), 3)]


def _captured(tmux: list[str], *options: str) -> str:
    done = subprocess.run([*tmux, "capture-pane", "-p", *options], capture_output=True, text=True, check=True)
    return done.stdout


def _type(tmux: list[str], text: str) -> None:
    subprocess.run([*tmux, "send-keys", "-l", text], check=True)
    subprocess.run([*tmux, "send-keys", "Enter"], check=True)


def _wait(tmux: list[str], text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 30
    while _captured(tmux).count(text) < times:
        if time.monotonic() > deadline:
            sys.exit(f"{text!r} did not appear:\n{_captured(tmux)}")
        time.sleep(0.05)


if __name__ == "__main__":
    main()
