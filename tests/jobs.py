"""The suite in other surroundings: `python -m tests.jobs all|lowest|libraries|py3.12|py3.13 [PYTEST ARGUMENTS]`.

`all` is what `run.py test --all` does: every test, those marked `long` included, with Hypothesis's `deep` profile and
what they cover (`tests.covered`), then the other jobs.

`lowest` has the lowest version that `pyproject.toml` allows of everything it names (`requirements/lowest.txt`), on the
lowest Python; `libraries` has libraries built on ollama-python, and runs them on tailrace; `py3.12` and `py3.13` have
the pinned versions, where those Pythons are installed. Each job has an environment of its own below `.venv`, which is
made again when `pyproject.toml` or the pins change.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from run import BIN, PINNED, PINS, PROJECT, ROOT, SIDE_BY_SIDE, VENV, digest, run_quietly

OLDEST = "3.11"
HERE = "{}.{}".format(*sys.version_info[:2])
DEEP = [*SIDE_BY_SIDE, "--hypothesis-profile=deep", "--durations=10"]
PAGE = ["tests/page"]  # what is about the browser
TOOLS = [
    "tests/gateway/test_openapi.py",  # schemathesis wants a newer rich
    "tests/test_benchmarks.py",  # beside what others have newest
    "tests/test_benchmarks_written.py",
    "tests/test_run_py.py",  # the launcher does not install these
    "tests/test_types.py",  # mypy
]


def main(argv: Sequence[str]) -> int:
    """Run one job; the exit code."""
    name, *arguments = argv or ["--help"]
    if name == "all":
        return not everything(arguments)
    if name == "lowest":
        return not lowest(arguments)
    if name == "libraries":
        return not libraries(arguments)
    if name.startswith("py3."):
        return not other_python(name.removeprefix("py"), arguments)
    print(__doc__)
    return 0 if name in {"-h", "--help"} else 2


def everything(arguments: Sequence[str]) -> bool:
    """Run all there is, one after the other, whatever the others say; whether all was well."""
    quick = [*SIDE_BY_SIDE, "-m", "not long", *arguments]
    good = [
        subprocess.run([sys.executable, "-m", "tests.covered", *DEEP, *arguments], cwd=ROOT, check=False).returncode
        == 0,
        lowest(quick),
        libraries([]),
        other_python("3.12", quick),
        other_python("3.13", quick),
    ]
    return all(good)


def lowest(arguments: Sequence[str]) -> bool:
    """Run the suite with the lowest versions of all that users install."""
    return job("lowest", OLDEST, "lowest", [*PAGE, *TOOLS], arguments)


def libraries(arguments: Sequence[str]) -> bool:
    """Run what is built on ollama-python with tailrace in its place."""
    return job("libraries", HERE, "libraries", [], ["tests/libraries", *arguments])


def other_python(version: str, arguments: Sequence[str]) -> bool:
    """Run the suite on another Python, such as "3.12"; where that is not installed, say so."""
    return job(f"py{version}", version, "dev", PAGE, arguments)


def job(name: str, version: str, pins: str, ignored: Sequence[str], arguments: Sequence[str]) -> bool:
    """Run the suite in the environment of this name; whether all was well."""
    python = find_python(version)
    if python is None:
        print(f"{name}: not installed here, skipped", flush=True)
        return True
    started = time.monotonic()
    folder = VENV / name
    if not ensure(folder, python, pins):
        print(f"{name}: FAILED, could not be installed", flush=True)
        return False
    command = [str(python_of(folder)), "-m", "pytest", *(f"--ignore={path}" for path in ignored), *arguments]
    good = subprocess.run(command, cwd=ROOT, env=activated(folder), check=False).returncode == 0
    print(f"{name}: {'ok' if good else 'FAILED'} ({time.monotonic() - started:.0f} s)", flush=True)
    return good


# --- Pythons ----------------------------------------------------------------------------------------


def find_python(version: str) -> str | None:
    """Return the newest Python of this version that starts; None if there is none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    base = getattr(sys, "_base_executable", sys.executable)
    on_path = shutil.which(f"python{version}")
    of_pyenv = sorted(root.glob(f"versions/{version}.*/bin/python"), key=lambda path: numbers(path.parent.parent.name))
    found = [base, *([on_path] if on_path else []), *map(str, reversed(of_pyenv))]
    return next((python for python in found if starts(python, version)), None)  # pyenv's shims may lead nowhere


def numbers(name: str) -> list[int]:
    """Return the numbers of a version, to be sorted by."""
    return [int(part) for part in name.split(".") if part.isdigit()]


def starts(python: str, version: str) -> bool:
    """Is this a Python of that version?"""
    code = "import sys; print('{}.{}'.format(*sys.version_info[:2]))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == version


# --- environments -----------------------------------------------------------------------------------


def ensure(folder: Path, python: str, pins: str) -> bool:
    """Make the environment, unless it is there and nothing has changed; whether that went well."""
    stamp = folder / "job.json"
    now = {"python": python, "from": digest(*(path.read_bytes() for path in sources(pins)))}
    if stamp.exists() and json.loads(stamp.read_bytes()) == now:
        return True
    print(f"{folder.name}: installing ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    said = run_quietly([[python, "-m", "venv", "--without-pip", str(folder)], *installs(folder, pins)])
    if said is not None:
        print(said, flush=True)
        return False
    stamp.write_text(json.dumps(now), encoding="utf-8")
    return True


def sources(pins: str) -> list[Path]:
    """Return what an environment is made from."""
    return [PINS / f"{pins}.txt", ROOT / "pyproject.toml", ROOT / "src" / "tailrace" / "_version.py"]


def installs(folder: Path, pins: str) -> list[list[str]]:
    """Return the commands that fill an environment: by uv if it is here, else by the pip of `.venv`."""
    uv = shutil.which("uv")
    here = ["--python", str(python_of(folder))]
    if uv:
        start, project = [uv, "pip"], [*PROJECT, *here]
        return [[*start, *PINNED, str(PINS / f"{pins}.txt"), *here], [*start, *project]]
    start = [str(BIN / python_of(folder).name), "-m", "pip", *here]
    return [[*start, *PINNED, str(PINS / f"{pins}.txt")], [*start, *PROJECT, "--no-index"]]


def python_of(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / BIN.name / ("python.exe" if os.name == "nt" else "python")


def activated(folder: Path) -> dict[str, str]:
    """Return the environment variables that `activate` would set."""
    left = {name: value for name, value in os.environ.items() if name != "PYTHONHOME"}
    path = os.pathsep.join([str(folder / BIN.name), os.environ.get("PATH", os.defpath)])
    return {**left, "VIRTUAL_ENV": str(folder), "PATH": path}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
