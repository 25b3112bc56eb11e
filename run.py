#!/usr/bin/env python3
"""Everything a clone of tailrace can do, with nothing but Python: `python3 run.py chat …`, `python3 run.py test`.

The first call makes `.venv` beside this file and installs the pinned packages into it; later calls find it ready and
hand over at once. Standard library only, on Linux, macOS and Windows. The syntax stays within Python 3.6, so that an
old Python can say what is wrong.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

if sys.version_info < (3, 11):  # noqa: UP036 - this file meets Pythons that the package does not support
    sys.exit("tailrace needs Python 3.11 or newer, and this is {}.{}.".format(*sys.version_info[:2]))

HELP = """\
python3 run.py chat "Write two sentences about rivers."   talk to a local model
python3 run.py test [PYTEST ARGUMENTS]                    lint, types and tests; with arguments, those tests only
python3 run.py test --all                                 what takes long, too: see CONTRIBUTING.md
python3 run.py lint | types | bench [NAME]                one of the checks, or the benchmarks

Anything else goes to the `tailrace` command: `python3 run.py chat --help`.
The first call installs what it needs into .venv; outside this folder only the default model
is kept, in your data folder (TAILRACE_HOME names another)."""

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCK = VENV / "run.lock"  # its presence also tells that this .venv is ours
STAMP = VENV / "run.json"  # written last, removed first: no stamp, no trust
PINS = ROOT / "requirements"
SIZES = {"run": "about 45 MB", "dev": "about 160 MB"}


def main(argv: list[str]) -> int:
    """Do what the arguments say; the exit code."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        print(HELP)
        return 0
    command, rest = argv[0], argv[1:]
    try:
        if command not in {"test", "lint", "types", "bench"}:
            ensure("run")
            hand_over("-P", "-m", "tailrace", *argv)  # -P: a stray file beside the caller hides no module
        ensure("dev")
        os.chdir(ROOT)
        if command == "bench":
            hand_over("-m", "benchmarks", *rest)
        if command == "test":
            if rest == ["--all"]:
                hand_over("-m", "tests.jobs", "all")
            hand_over("-m", "pytest", *(rest or QUICK))
        return check(command)
    except KeyboardInterrupt:
        return 130


# --- the checks -----------------------------------------------------------------------------------

# tests/test_checks.py runs these, too, so that they take their turn beside the tests.
CHECKS = {
    "lint": ["ruff check --quiet", "ruff format --check --quiet", "lint-imports --no-logo"],
    "types": ["mypy --strict"],
}
# One process more than there are processors: a test waits for servers that start, and for browsers.
WORKERS = min((os.cpu_count() or 1) + 1, 8)
SIDE_BY_SIDE = ("-n", str(WORKERS), "--dist", "loadfile", "--no-loadscope-reorder")
QUICK = (*SIDE_BY_SIDE, "-m", "not long", "--durations", "10")


def check(name: str) -> int:
    """Run every command of one check, whatever the others say, and close with one line."""
    started = time.monotonic()
    good = True
    for line in CHECKS[name]:
        program, *arguments = line.split()
        code, interrupted = call([str(BIN / program), *arguments])
        if interrupted:
            raise KeyboardInterrupt
        good = good and code == 0
    print(f"{name}: {'ok' if good else 'FAILED'} ({time.monotonic() - started:.1f} s)", flush=True)
    return 0 if good else 1


# --- handing over ---------------------------------------------------------------------------------


def hand_over(*arguments: str) -> NoReturn:
    """Become the Python of `.venv`; on Windows, which cannot, wait for it and pass its exit code on."""
    command = [str(PYTHON), *arguments]
    if os.name == "nt":
        sys.exit(call(command)[0])
    sys.stdout.flush()
    os.execve(command[0], command, activated())  # noqa: S606 - no shell is wanted


def call(command: list[str]) -> tuple[int, bool]:
    """Run a command to its own end; its exit code, and whether Ctrl-C was pressed meanwhile.

    The terminal sends Ctrl-C to the child as well. It decides what that means (a chat stops one answer and goes on), so
    it is waited for and never killed.
    """
    import subprocess

    interrupted = False
    with subprocess.Popen(command, env=activated()) as process:
        while True:
            try:
                return process.wait(), interrupted
            except KeyboardInterrupt:
                interrupted = True


def activated() -> dict[str, str]:
    """The environment that `.venv/bin/activate` would make.

    Where Python is told to write no bytecode beside the sources, it is kept in `.venv`: without any, each start takes
    twice as long.
    """
    left = {"PYTHONHOME", "PYTHONDONTWRITEBYTECODE"}
    environment = {name: value for name, value in os.environ.items() if name not in left}
    if "PYTHONDONTWRITEBYTECODE" in os.environ:
        environment["PYTHONPYCACHEPREFIX"] = str(VENV / "bytecode")
    environment["VIRTUAL_ENV"] = str(VENV)
    environment["PATH"] = os.pathsep.join([str(BIN), environment.get("PATH", os.defpath)])
    return environment


# --- the environment ------------------------------------------------------------------------------


def ensure(wanted: str) -> None:
    """Bring `.venv` up to date with the pinned set `wanted`; when it is, this costs a few file reads."""
    if not steps(wanted):
        return
    if VENV.is_dir() and any(VENV.iterdir()) and not LOCK.exists():
        fail(f"{VENV} was made by something else. Move it away or delete it, then run this again.")
    try:
        VENV.mkdir(exist_ok=True)
        with locked():
            todo = steps(wanted)  # another process may have done it while we waited
            if todo:
                install(wanted, todo)
    except OSError as error:
        fail(f"Could not write {VENV}: {error}. If a program still uses it, end that one first.")


def steps(wanted: str) -> list[str]:
    """What is left to do, in order: `fresh` (start again from nothing), `pins`, `project`."""
    stamp, now = read_stamp(), state()
    if stamp.get("base") != now["base"] or not PYTHON.exists():
        return ["fresh", "pins", "project"]
    todo = [] if wanted in stamp["sets"].split() else ["pins"]
    return todo if stamp["project"] == now["project"] else [*todo, "project"]


def state() -> dict[str, str]:
    """Digests of what `.venv` is made from: the base, and the project installed on it."""
    place = f"{sys.implementation.cache_tag} {sys.platform} {ROOT}"  # scripts in .venv name their place
    return {
        "base": digest(place.encode(), *((PINS / f"{name}.txt").read_bytes() for name in ("dev", "pip", "run"))),
        "project": digest(*((ROOT / name).read_bytes() for name in ("pyproject.toml", "src/tailrace/_version.py"))),
    }


def digest(*parts: bytes) -> str:
    """One hash over all parts."""
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def read_stamp() -> dict[str, str]:
    """What the last finished install left, or nothing."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_bytes())
    except (OSError, ValueError):
        return {}
    return stamp


def write_stamp(stamp: dict[str, str]) -> None:
    """Say that `.venv` is whole; in one move, so that a half-written stamp is never read."""
    new = STAMP.with_suffix(".new")
    new.write_text(json.dumps(stamp), encoding="utf-8")
    new.replace(STAMP)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one process at a time touch `.venv`. The lock goes with its holder, however that one ends."""
    with LOCK.open("ab") as file:
        if sys.platform == "win32":
            import msvcrt

            while True:
                with contextlib.suppress(OSError):  # raised after ten seconds of waiting
                    msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
                    break
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            # Handed down to the installer: if we are killed and it lives on, the lock does too.
            os.set_inheritable(file.fileno(), True)
        yield


def install(wanted: str, todo: list[str]) -> None:
    """Carry out the steps, with one line about it on stderr; exits when they fail."""
    import shutil

    uv = shutil.which("uv")
    ways = ([uv_commands(uv, wanted)] if uv else []) + ([pip_commands(wanted)] if can_pip() else [])
    if not ways:
        fail("This Python has neither pip nor ensurepip: apt install python{}.{}-venv".format(*sys.version_info[:2]))
    if not uv and not any(BIN.glob("pip*")):  # uv made this .venv, and is gone
        todo = ["fresh", "pins", "project"]
    now = state()  # before the work: what is edited meanwhile is not installed
    had = read_stamp().get("sets", "")
    STAMP.unlink(missing_ok=True)
    what = f"Installing into .venv, once ({SIZES[wanted]})" if "pins" in todo else "Updating .venv to pyproject.toml"
    print(f"tailrace: {what} ...", end="", file=sys.stderr, flush=True)
    started = time.monotonic()
    said = ""
    try:
        for commands in ways:
            if "fresh" in todo:
                fresh_venv()
                had = ""
            output = run_quietly([command for step, command in commands if step in todo])
            if output is None:
                break
            said += output
            todo = ["fresh", "pins", "project"]  # half an install is no ground for the other installer
        else:
            print(f" failed.\n{said}", file=sys.stderr)
            fail(FAILED)
    except KeyboardInterrupt:
        print(" stopped. The next call starts again.", file=sys.stderr)
        raise
    write_stamp({**now, "sets": " ".join(sorted({"run", wanted, *had.split()}))})
    print(f" done in {time.monotonic() - started:.0f} s", file=sys.stderr)


def fresh_venv() -> None:
    """Make `.venv` anew inside its folder; the lock stays."""
    import shutil
    import venv

    for entry in VENV.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != LOCK:
            entry.unlink()
    venv.EnvBuilder(symlinks=os.name != "nt", with_pip=False, prompt="tailrace").create(VENV)


# The run set on two cores and a fast line: uv 1 s; pip 7 s, of which 1.5 put the pinned pip there first. The pip that
# comes with Python 3.11 needs 10 s alone, and compiling while installing adds 3 s. Nothing is built on the user's
# machine but the project itself: a missing wheel is an error, not ten minutes of compiling.
INSTALL = ("install", "--quiet", "--no-deps")
PINNED = (*INSTALL, "--require-hashes", "--only-binary", ":all:", "-r")
PROJECT = (*INSTALL, "--no-build-isolation", "-e", str(ROOT))


# A machine that is set up for pip alone (mirror, certificate) is set up for uv, too.
UV_FROM_PIP = {"UV_DEFAULT_INDEX": "PIP_INDEX_URL", "UV_INDEX": "PIP_EXTRA_INDEX_URL", "SSL_CERT_FILE": "PIP_CERT"}


def uv_commands(uv: str, wanted: str) -> list[tuple[str, list[str]]]:
    """The steps with uv."""
    start = [uv, "pip"]
    here = ["--python", str(PYTHON)]
    return [
        ("pins", [*start, *PINNED, str(PINS / f"{wanted}.txt"), *here]),
        ("project", [*start, *PROJECT, "--reinstall", *here]),  # or it would trust its cache about the version
    ]


def pip_commands(wanted: str) -> list[tuple[str, list[str]]]:
    """The steps with pip: the pip at hand installs the pinned one, which does the rest."""
    pip = [str(PYTHON), "-m", "pip"]
    plain = ["--no-compile", "--no-input", "--no-user", "--disable-pip-version-check"]
    bootstrap = [sys.executable, "-m", "pip", "--python", str(PYTHON)] if has_pip() else pip
    return [
        *([] if has_pip() else [("fresh", [str(PYTHON), "-m", "ensurepip", "--default-pip"])]),
        ("fresh", [*bootstrap, *PINNED, str(PINS / "pip.txt"), *plain]),
        ("pins", [*pip, *PINNED, str(PINS / f"{wanted}.txt"), *plain]),
        ("project", [*pip, *PROJECT, "--no-index", *plain]),
    ]


def has_pip() -> bool:
    """Is there a pip beside the Python that runs this, outside `.venv`?"""
    import importlib.util

    return Path(sys.prefix) != VENV and importlib.util.find_spec("pip") is not None


def can_pip() -> bool:
    """Is there a way to get pip into `.venv`? Debian and Ubuntu ship Python without one."""
    import importlib.util

    return has_pip() or importlib.util.find_spec("ensurepip") is not None


def run_quietly(commands: list[list[str]]) -> str | None:
    """Run commands until one fails; None when all went well, else what that one said."""
    import subprocess

    environment = dict(os.environ)
    for ours, theirs in UV_FROM_PIP.items():
        if theirs in environment:
            environment.setdefault(ours, environment[theirs])
    for command in commands:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            close_fds=False,  # hands the lock down
            check=False,
        )
        if done.returncode:
            return f"$ {' '.join(command)}\n{done.stdout}"
    return None


FAILED = """\
Installing failed, see above. Mostly it is the network: pip's index, proxy and certificate settings are honoured
(pip config, PIP_INDEX_URL, HTTPS_PROXY, PIP_CERT). Then give the same command again; it starts from a clean .venv."""


def fail(message: str) -> NoReturn:
    """Say it and end with exit code 1."""
    sys.exit(message)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
