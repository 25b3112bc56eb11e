"""Make the pinned sets in this folder from `pyproject.toml`: `python3 requirements/update.py [--upgrade]`. Needs uv.

`run.txt` is what `run.py chat` needs, `dev.txt` is all of it and the tools, `pip.txt` the pip that installs them where
there is no uv, `peers.txt` what the benchmarks are measured beside and that has an environment of its own. Every file
names versions and hashes only, never where they come from.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SETS = {
    "pip": ["-"],
    "run": ["pyproject.toml", "--group", "clone", "--extra", "cli", "--extra", "embedded", "--extra", "serve"],
    "dev": ["pyproject.toml", "--group", "clone", "--group", "dev", "--all-extras", "-c", "requirements/run.txt"],
}
PEERS = "litellm[proxy]!=1.107.0\n"  # that release was not its makers'
COMPILE = ["pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11"]
COMPILE += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
INSTALL = ["pip", "install", "--quiet", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
PLATFORMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-apple-darwin"]
PLATFORMS += ["x86_64-pc-windows-msvc"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def main(options: list[str]) -> None:
    """Resolve every set, then prove that each platform finds a wheel with a known hash for all of it."""
    for name, sources in {**SETS, "peers": ["-"]}.items():
        target = HERE / f"{name}.txt"
        text = {"pip": "pip>=26\n", "peers": PEERS}.get(name, "")
        uv(*COMPILE, *sources, "-o", str(target.relative_to(ROOT)), *options, text=text)
        if re.search(r"://|--(extra-)?index|--find-links", target.read_text(encoding="utf-8")):
            sys.exit(f"{target} names a place to download from")
    with tempfile.TemporaryDirectory() as nowhere:
        for platform in PLATFORMS:
            for python in PYTHONS:
                for name in SETS:
                    where = ["--target", nowhere, "--python-platform", platform, "--python-version", python]
                    uv(*INSTALL, *where, "-r", str(HERE / f"{name}.txt"))
    print(f"{', '.join(SETS)}: wheels for {len(PLATFORMS)} platforms, Python {', '.join(PYTHONS)}")


def uv(*arguments: str, text: str = "") -> None:
    """Run uv in the project's folder."""
    done = subprocess.run(["uv", *arguments], cwd=ROOT, input=text, text=True, check=False)  # noqa: S607
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main(sys.argv[1:])
