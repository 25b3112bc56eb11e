"""Make the pinned sets in this folder from `pyproject.toml`: `python3 requirements/update.py [--upgrade]`. Needs uv.

`run.txt` is what `run.py chat` needs, `dev.txt` is all of it and the tools, `pip.txt` the pip that installs them where
there is no uv, `peers.txt` what the benchmarks are measured beside and that has an environment of its own, as has
`libraries.txt`, what is built on ollama-python and run on tailrace. `lowest.txt`
is the lowest that `pyproject.toml` allows of everything that it names for users, and the tools, as they are in
`dev.txt` as far as they get along with that; `tests/jobs.py` runs the tests on it. Every file names versions and hashes
only, never where they come from.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SETS = {
    "pip": ["-"],
    "run": ["pyproject.toml", "--group", "clone", "--extra", "cli", "--extra", "embedded", "--extra", "serve"],
    "dev": ["pyproject.toml", "--group", "clone", "--group", "dev", "--all-extras", "-c", "requirements/run.txt"],
}
# Tools that no test on the lowest versions needs, or that ask for newer ones than these (schemathesis, for rich).
NOT_LOWEST = {"import-linter", "mypy", "ruff", "schemathesis"}
FITTING = {"openai"}  # in whichever version gets along with them; what else is a tool keeps its bound
USERS = {"fastapi"}  # no extra of ours installs it, but users have it: the lowest, too
LIBRARIES = ["pyproject.toml", "--group", "clone", "--group", "libraries"]
PEERS = "litellm[proxy]!=1.107.0\n"  # that release was not its makers'
COMPILE = ["pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11"]
COMPILE += ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
INSTALL = ["pip", "install", "--quiet", "--dry-run", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
PLATFORMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-apple-darwin"]
PLATFORMS += ["x86_64-pc-windows-msvc"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def main(options: list[str]) -> None:
    """Resolve every set, then prove that each platform finds a wheel with a known hash for all of it."""
    for name, sources in {**SETS, "peers": ["-"], "libraries": LIBRARIES}.items():
        target = HERE / f"{name}.txt"
        text = {"pip": "pip>=26\n", "peers": PEERS}.get(name, "")
        uv(*COMPILE, *sources, "-o", str(target.relative_to(ROOT)), *options, text=text)
        check(target)
    lowest()
    with tempfile.TemporaryDirectory() as nowhere:
        for platform in PLATFORMS:
            for python in PYTHONS:
                for name in [*SETS, *(["lowest"] if python == "3.11" else [])]:
                    where = ["--target", nowhere, "--python-platform", platform, "--python-version", python]
                    uv(*INSTALL, *where, "-r", str(HERE / f"{name}.txt"))
    print(f"{', '.join(SETS)}, lowest: wheels for {len(PLATFORMS)} platforms, Python {', '.join(PYTHONS)}")


def lowest() -> None:
    """Resolve `lowest.txt`: first what users install, then the tools around it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tools = {name_of(line): line for line in project["dependency-groups"]["dev"]}
    named = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    direct = {name_of(line) for lines in named for line in lines}
    with tempfile.TemporaryDirectory() as folder:
        users, bounds, around = Path(folder, "users.in"), Path(folder, "bounds.txt"), Path(folder, "around.in")
        users.write_text("\n".join(tools[name] for name in USERS), encoding="utf-8")
        everything = ["pyproject.toml", "--all-extras", str(users)]
        found = uv(*COMPILE, *everything, "--resolution", "lowest-direct", quiet=True)
        pins = [line for line in found.splitlines() if "==" in line and name_of(line) in direct | USERS]
        bounds.write_text("\n".join(line.removesuffix(" \\") for line in pins), encoding="utf-8")
        wanted = [name if name in FITTING else line for name, line in tools.items() if name not in NOT_LOWEST | USERS]
        around.write_text("\n".join(wanted), encoding="utf-8")
        target = HERE / "lowest.txt"
        shutil.copy(HERE / "dev.txt", target)  # uv prefers the versions that it finds there
        sources = [*everything, "--group", "clone", str(around), "-c", str(bounds)]
        uv(*COMPILE, *sources, "-o", str(target.relative_to(ROOT)))
    check(target)


def name_of(line: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-")


def check(target: Path) -> None:
    """No file of ours says where packages are to come from."""
    if re.search(r"://|--(extra-)?index|--find-links", target.read_text(encoding="utf-8")):
        sys.exit(f"{target} names a place to download from")


def uv(*arguments: str, text: str = "", quiet: bool = False) -> str:
    """Run uv in the project's folder; returns what it said, if it is to be quiet."""
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(["uv", *arguments], cwd=ROOT, input=text, stdout=output, text=True, check=False)  # noqa: S607
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


if __name__ == "__main__":
    main(sys.argv[1:])
