"""The heavy peers: packages in an environment of their own, `.venv-peers`, made when they are asked for.

`python3 run.py bench --peers` makes it from requirements/peers.txt. They need not agree with the versions that tailrace
is developed with, and who does not want them does not pay for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import ROOT, Skipped, environment
from benchmarks.ports import wait_for
from benchmarks.processes import Process

FOLDER = ROOT / ".venv-peers"
PINS = ROOT / "requirements" / "peers.txt"
_BIN = FOLDER / ("Scripts" if os.name == "nt" else "bin")
_STAMP = FOLDER / "peers.sha256"  # written last: no stamp, no trust
_READY = 90.0  # seconds that LiteLLM may take to start
_PIP = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check")


def install() -> None:
    """Makes the environment, if it is not there or older than its pins.

    Raises:
        Skipped: it cannot be made; the message is the installer's last line.
    """
    if _ready():
        return
    print(f"Installing {PINS.name} into {FOLDER.name}, once (about 600 MB) ...", file=sys.stderr, flush=True)
    _STAMP.unlink(missing_ok=True)
    venv.EnvBuilder(clear=True, symlinks=os.name != "nt", with_pip=True).create(FOLDER)
    command = [str(_BIN / "python"), "-m", "pip", "install", "--quiet", *_PIP, "-r", str(PINS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"the peers cannot be installed: {(done.stderr.splitlines() or ['pip said nothing'])[-1]}")
    _STAMP.write_text(_digest(), encoding="ascii")


def need(what: str) -> None:
    """Makes sure of the peers.

    Raises:
        Skipped: they are not there.
    """
    if not _ready():
        raise Skipped(f"{what} is not installed; python3 run.py bench --peers installs it")


def version(package: str) -> str | None:
    """Returns the version of one of the peers, None where it is not there."""
    found = FOLDER.glob(f"lib/python*/site-packages/{package}-*.dist-info")
    return next((path.name.removesuffix(".dist-info").rpartition("-")[2] for path in found), None)


def _ready() -> bool:
    return _STAMP.exists() and _STAMP.read_text(encoding="ascii") == _digest()


def _digest() -> str:
    return hashlib.sha256(PINS.read_bytes()).hexdigest()


_CONFIG = """\
model_list:
  - model_name: m
    litellm_params: {{model: {model}, api_base: "{base}", api_key: none, stream_timeout: 600}}
litellm_settings: {{num_retries: 0, request_timeout: 600, telemetry: false, drop_params: true}}
"""


@contextlib.contextmanager
def litellm(upstream: str, port: int, folder: Path) -> Iterator[Process]:
    """Serves LiteLLM's proxy, with no key, database or log, in front of an OpenAI-compatible server.

    Args:
        upstream: address of the model server.
        port: where to serve.
        folder: for its settings.
    """
    need("LiteLLM")
    config = folder / "litellm.yaml"
    config.write_text(_CONFIG.format(model="openai/m", base=f"{upstream}/v1"), encoding="utf-8")
    command = [str(_BIN / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    settings = {
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # nobody else's traffic comes here
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network at start
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    own = {name: value for name, value in environment().items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=folder, env={**own, **settings}, stdout=silent, stderr=silent) as process:
        try:
            wait_for(port, _READY)
            yield Process(process.pid)
        finally:
            process.kill()
