"""The web servers under test, each in a process of its own, all in front of the same model server.

They answer the same question with the same tokens, each on the wire that it speaks: nginx and the bare relay pass on
Ollama's lines, LiteLLM speaks OpenAI's, all others the tutorial's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import peers
from benchmarks.common import ROOT, Contestant, Skipped, environment
from benchmarks.ports import free_port, wait_for
from benchmarks.processes import Process

CHAT, QUERY, OLLAMA, OPENAI = "/chat/stream", "/chat/stream?message=", "/api/chat", "/v1/chat/completions"


@dataclass(frozen=True)
class Kind:
    """A web server that can be tested.

    Attributes:
        label: what it is called.
        path: where it is asked, which tells its wire.
    """

    label: str
    path: str = CHAT


KINDS = {
    "nginx": Kind("nginx, a plain proxy", OLLAMA),
    "serve": Kind("tailrace serve"),
    "serve-ollama": Kind("tailrace serve, /api/chat", OLLAMA),
    "serve-openai": Kind("tailrace serve, /v1", OPENAI),
    "tailrace": Kind("tailrace in FastAPI"),
    "relay": Kind("a bare ASGI relay of bytes", OLLAMA),
    "ollama": Kind("FastAPI, ollama's AsyncClient"),
    "litellm": Kind("LiteLLM's proxy", OPENAI),
    "tutorial-fastapi": Kind("the tutorial's FastAPI", QUERY),
    "tutorial-flask": Kind("the tutorial's Flask"),
}


@dataclass(frozen=True)
class Server:
    """A server that listens.

    Attributes:
        port: of the loopback interface.
        path: where it is asked.
        process: its process, and those that it started.
    """

    port: int
    path: str
    process: Process


def missing(name: str) -> str | None:
    """Tells why a server cannot be tested here, None if it can."""
    if name == "nginx" and not _nginx():
        return "nginx is not installed"
    needed = {"tailrace": "fastapi", "ollama": "fastapi", "tutorial-fastapi": "fastapi", "tutorial-flask": "flask"}
    if (package := needed.get(name)) and not importlib.util.find_spec(package):
        return f"{package} is not installed"
    if name == "litellm":
        try:
            peers.need("LiteLLM")
        except Skipped as why:
            return str(why)
    return None


@contextlib.contextmanager
def serving(name: str, upstream: str, *options: str, settled: bool = True) -> Iterator[Server]:
    """Starts a server, and ends it.

    Args:
        name: a key of `KINDS`.
        upstream: the model server's address.
        options: more of `tailrace serve`'s.
        settled: wait until it has nothing more to do for its start.
    """
    path = KINDS[name].path
    with contextlib.ExitStack() as stack:
        if name.startswith("serve"):
            port, process = stack.enter_context(gateway(upstream, *options, settled=settled))
        elif name in {"nginx", "litellm"}:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
            port = free_port()
            start = _proxy if name == "nginx" else peers.litellm
            process = stack.enter_context(start(upstream, port, folder))
        else:
            module, which = ("tutorial", name[9:]) if name.startswith("tutorial-") else ("webserver", name)
            contestant = Contestant(module, which, upstream)
            stack.callback(contestant.stop)
            port, process = contestant.hear()["port"], Process(contestant.pid)
        yield Server(port, path, process)


@contextlib.contextmanager
def gateway(upstream: str, *options: str, settled: bool = True) -> Iterator[tuple[int, Process]]:
    """Starts `tailrace serve`, with room for every run that a benchmark starts; its port and process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tailrace", "serve", "--port", "0", "-m", "m", "--data", folder]
        with _started([*command, "--max-runs", "20000", "--upstream", upstream, *options]) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(rb":(\d+) ", said)
            if found is None:
                raise RuntimeError(f"tailrace serve does not start: {said!r}")
            port = int(found[1])
            if settled:  # it serves before all of it is there; the conversations' library is what comes last
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/conversations") as answer:
                    answer.read()
            yield port, Process(process.pid)


_PROXY = """
{user}
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
worker_rlimit_nofile {files};
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass {upstream}; proxy_buffering off; proxy_http_version 1.1; }}
  }}
}}
"""


@contextlib.contextmanager
def _proxy(upstream: str, port: int, folder: Path) -> Iterator[Process]:
    """nginx: one worker, nothing kept back, nothing logged."""
    path = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    path.write_text(
        _PROXY.format(user=user, folder=folder, port=port, upstream=upstream, files=open_files()), encoding="ascii"
    )
    with _started([_nginx() or "", "-p", str(folder), "-c", str(path), "-e", "stderr", "-g", "daemon off;"]) as process:
        wait_for(port)
        yield Process(process.pid)


def nginx_version() -> str | None:
    """Returns what nginx says it is, None where there is none."""
    if not (program := _nginx()):
        return None
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2] or None


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def open_files() -> int:
    """Lets this process and those it starts have as many open files as the system grants; how many those are."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
