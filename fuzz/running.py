"""Running a target: with atheris, which looks at what each input reaches, or at random without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fuzz import corpus
from fuzz.holding import shallow
from fuzz.mutating import LONGEST
from fuzz.mutating import inputs as made

__all__ = ["Found", "guided", "has_atheris", "plain"]

ROOT = Path(__file__).resolve().parents[1]


class Found(Exception):  # noqa: N818 - what is looked for
    """An input for which something does not hold."""

    def __init__(self, target: str, data: bytes, error: BaseException | str) -> None:
        super().__init__(f"{target}: {error!r} of the input {data!r}")
        self.data = data


def has_atheris() -> bool:
    """Tells whether atheris is installed."""
    from importlib.util import find_spec

    return find_spec("atheris") is not None


def plain(target: str, count: int, seed: int) -> int:
    """Tries so many inputs at random; returns how many.

    Raises:
        Found: something does not hold for one of them.
    """
    from fuzz.targets import TARGETS

    check = TARGETS[target]
    words = [word.encode() for word in corpus.WORDS[target]]
    tried = 0
    with shallow():
        for data in made(corpus.inputs(target), words, count, seed):
            try:
                check(data)
            except Exception as error:
                raise Found(target, data, error) from error
            tried += 1
    return tried


def guided(target: str, count: int, seed: int, seconds: int = 0) -> dict[str, Any]:
    """Tries so many inputs, or for so many seconds, in a process of its own, which libFuzzer ends as it likes.

    Returns:
        How many `inputs` there were, the `edges` that they reached, `seconds`, and how many new ones are worth keeping.

    Raises:
        Found: something does not hold for one of them.
    """
    with tempfile.TemporaryDirectory() as folder:
        found, kept, words = Path(folder) / "found", Path(folder) / "kept", Path(folder) / "words"
        found.mkdir()
        kept.mkdir()
        words.write_text("".join(f"{_quoted(word)}\n" for word in corpus.WORDS[target]), encoding="ascii")
        limits = [f"-runs={count}", f"-seed={seed}", f"-max_len={LONGEST}", f"-max_total_time={seconds}"]
        command = [sys.executable, "-m", "fuzz.guided", target, *limits, f"-dict={words}", f"-artifact_prefix={found}/"]
        start = time.monotonic()
        done = subprocess.run(
            [*command, "-timeout=60", str(kept), str(corpus.FOLDER / target)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])},
            capture_output=True,
            check=False,
        )
        said = (done.stdout + done.stderr).decode("utf-8", "replace")
        for path in found.iterdir():
            raise Found(target, path.read_bytes(), f"{path.name}\n{said[-3000:]}")
        if done.returncode:
            raise RuntimeError(f"the fuzzer ended with code {done.returncode}: {said[-3000:]}")
        runs = [int(number) for number in re.findall(r"^#(\d+)\s", said, re.MULTILINE)]
        reached = [int(number) for number in re.findall(r" ft: (\d+)", said)]
        return {
            "inputs": max(runs, default=0),
            "features": max(reached, default=0),
            "seconds": time.monotonic() - start,
            "kept": len(list(kept.iterdir())),
        }


def _quoted(word: str) -> str:
    """A word as libFuzzer reads it in a dictionary."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"'
