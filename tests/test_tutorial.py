"""The first acceptance test: the tutorial's own code blocks, run unchanged with ``import tailrace as ollama``.

The blocks are read from the tutorial that lies beside the repository. Only the import and the model's name are changed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.backends.embedded.store import make_store

from tailrace.backends.embedded import models

TUTORIAL = Path(__file__).resolve().parents[2] / "shared" / "tutorial.md"

# The tutorial has no code fences: a block is what stands below one of these lines.
TITLES = [
    "基本流式聊天",
    "基本流式生成",
    "封装流式处理",
    "带进度条的流式输出",
    "流式对话类",
    "处理流式响应的元数据",
    "取消流式请求",
]
WEB = ["FastAPI 流式响应", "Flask 流式响应"]  # another issue's

pytestmark = pytest.mark.skipif(
    not TUTORIAL.exists(), reason="the tutorial is not beside this clone: ../shared/tutorial.md"
)


def blocks() -> dict[str, str]:
    """Returns the code below each title."""
    text = TUTORIAL.read_text(encoding="utf-8")
    titles = [*TITLES, "Web 框架集成示例", *WEB]
    parts = re.split("^(" + "|".join(map(re.escape, titles)) + ")$", text, flags=re.MULTILINE)
    return {title: code.strip() + "\n" for title, code in zip(parts[1::2], parts[2::2], strict=True)}


def ours(code: str, model: str) -> str:
    """Changes the import and the model's name, and nothing else."""
    return code.replace("import ollama", "import tailrace as ollama").replace("llama3.2", model)


def test_every_block_of_the_tutorial_is_known() -> None:
    """The tutorial has these nine blocks and no other code."""
    found = blocks()

    assert [*TITLES, "Web 框架集成示例", *WEB] == list(found)
    assert all(re.search(r"^(import|stream =|def |class )", found[title], re.MULTILINE) for title in TITLES)


# These run on the default model as it is; the others on the same weights that stop after some words, to save minutes.
LONG = ("基本流式聊天", "取消流式请求")


@pytest.mark.parametrize("title", TITLES)
def test_block_runs_unchanged_on_the_embedded_engine(title: str, home: Path, tmp_path: Path) -> None:
    """Each block runs in a fresh interpreter, on a real model, and prints what the tutorial says."""
    make_store(tmp_path, models.default_path(), "terse", params={"num_predict": 64})
    model = models.DEFAULT_MODEL if title in LONG else "terse"
    found = blocks()
    # The shorter blocks lean on the first one's import, as a reader of the page would.
    code = found[title] if "import ollama" in found[title] else "import ollama\n" + found[title]
    environment = {
        **os.environ,
        "TAILRACE_HOME": str(home),
        "TAILRACE_UPSTREAM": "embedded:",
        "OLLAMA_MODELS": str(tmp_path),
        "PYTHONIOENCODING": "utf-8",
    }

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ours(code, model)],
        env=environment,
        capture_output=True,
        timeout=280,
        check=False,
    )

    out, err = done.stdout.decode(), done.stderr.decode()
    assert (done.returncode, "Traceback" in err) == (0, False), err
    expected = {
        "带进度条的流式输出": [r"^模型: terse$", r"^-{40}$", r"^共输出 \d+ 个字符$"],
        "流式对话类": [r"\A助手: ", r"^助手: "],
        "取消流式请求": [r"\[已取消\]\s*\Z|\w{3,}"],  # the model may be done before its three seconds are over
        "处理流式响应的元数据": [r"^---$", r"^总耗时: \d+\.\d\d秒$", r"^生成token数: [1-9]\d*$"],
    }.get(title, [r"\w{3,}"])
    for pattern in expected:
        assert re.search(pattern, out, re.MULTILINE), (pattern, out)


def test_the_tutorials_cancel_stops_a_silent_model(fake_ollama) -> None:  # type: ignore[no-untyped-def]
    """The tutorial's class only looks at its flag between chunks; ours of the same name stops a silent model too."""
    import threading

    from tailrace import CancellableStream, Client
    from tailrace.testing import stall

    fake_ollama.script(stall())
    stream = CancellableStream(client=Client(fake_ollama.url))
    reader = threading.Thread(target=stream.stream, args=("llama3.2", [{"role": "user", "content": "写一篇长文章"}]))
    reader.start()
    record = fake_ollama.wait_for_request()

    stream.cancel()
    reader.join(60)

    assert (reader.is_alive(), record.wait_until_left()) == (False, True)
