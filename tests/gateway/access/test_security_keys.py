"""Keys: who may come in (X7, X8), what is whose (X9), and who may keep models."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.cli.driver import Command
from tests.gateway.knocking import knock
from tests.gateway.serving import Answer, Gateway, serving

from tailrace.errors import RequestError
from tailrace.gateway.access.keys import Keys
from tailrace.testing import FakeOllama, hold, say

ALICE, BOB, OLD = "alice-secret-1", "bob-secret-22", "alice-former-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Gateway]:
    """One with a file of keys, one of which came after another, and one in the environment; Alice keeps the models."""
    file = folder / "keys"
    file.write_text(f"# who may come in\n\nalice:{ALICE}\n  alice: {OLD}  \n# bob:no-longer-1\n", encoding="utf-8")
    file.chmod(0o600)
    with serving("--api-key-file", str(file), "--admin", "alice", TAILRACE_SERVE_KEYS=f"bob:{BOB}") as running:
        yield running


def by(gateway: Gateway, key: str, method: str, path: str, body: object = None) -> Answer:
    return gateway.call(method, path, body, Authorization=f"Bearer {key}")


def listed(*lines: str) -> list[str]:
    return ["Host: localhost", *lines]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, 0), (0o400, 0), (0o640, 1), (0o604, 1), (0o620, 1)])
def test_key_file_that_others_can_read_draws_a_warning(tmp_path: Path, mode: int, warned: int) -> None:
    """Or change: said once, with the rights that it has; the gateway serves."""
    file = tmp_path / "keys"
    file.write_text(f"alice:{ALICE}\n", encoding="utf-8")
    file.chmod(mode)
    with serving("--api-key-file", str(file), data=tmp_path / "data") as running:
        assert by(running, ALICE, "GET", "/models").status == 200
        output = running.server.output

    assert output.count("others can read or change the API keys") == warned
    assert output.count(f"(mode {mode:04o})") == warned
    assert ALICE not in output


# -- X7: a public address ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.invalid"])
def test_x7_no_public_address_without_a_key(address: str, tmp_path: Path) -> None:
    """It says what to do, and listens to nobody."""
    done = Command(tmp_path)("serve", "--host", address, "--port", "0")

    assert done.code == 1
    assert "--api-key" in done.err
    assert "--insecure" in done.err


@pytest.mark.parametrize("options", [["--api-key", "a-long-secret"], ["--insecure"]])
def test_x7_with_a_key_or_when_told_so(options: list[str], tmp_path: Path) -> None:
    """Then it listens."""
    with Command(tmp_path, {"TAILRACE_UPSTREAM": "http://127.0.0.1:9"}).started(
        "serve", "--host", "0.0.0.0", "--port", "0", "--no-page", *options, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        assert b"serving at http://0.0.0.0:" in process.stderr.readline()


# -- X8: keys ----------------------------------------------------------------------------------------------------------

ASKED = ["/runs", "/models", "/v1/models", "/api/tags", "/queue", "/metrics", "/readyz", "/openapi.json", "/nowhere"]
OPEN = ["/", "/c/conv_1", "/healthz", "/static/main.js", "/words/en.json"]


@pytest.mark.parametrize("path", ASKED)
def test_x8_no_key_no_answer(gateway: Gateway, path: str) -> None:
    """Everything but the page's own files wants a key, also what is not there."""
    told = knock(gateway.url, f"GET {path} HTTP/1.1")
    assert (told.status, told.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("path", OPEN)
def test_x8_the_page_is_open(gateway: Gateway, path: str) -> None:
    """The page's files and whether the process lives are no secret."""
    assert knock(gateway.url, f"GET {path} HTTP/1.1").status == 200


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/c/../runs",
            "/c/%2e%2e/runs",
            "/static/../runs",
            "/static/%2e%2e/runs",
            "/static/%2e%2e%2fruns",
            "//healthz",
        ),
        *("/healthz/", "/healthz%2f..%2fruns", "/c/x/../../runs", "/words/en.json/../../runs", "/./runs", "//runs"),
        *("/runs;/healthz", "/runs?/healthz", "/healthz%00", "/%72uns"),
    ],
)
def test_x8_no_way_round_by_the_path(gateway: Gateway, path: str) -> None:
    """What is open is open by its path as the routes take it: no other path leads to what a key is for."""
    told = knock(gateway.url, f"GET {path} HTTP/1.1")
    assert told.status in (401, 404), told.body
    assert b'"runs"' not in told.body


@pytest.mark.parametrize("key", [ALICE, OLD, BOB])
def test_x8_right_keys(gateway: Gateway, key: str) -> None:
    """From the file and from the environment; a key and the one that is to replace it."""
    assert knock(gateway.url, "GET /runs HTTP/1.1", listed(f"Authorization: Bearer {key}")).status == 200
    assert knock(gateway.url, "GET /runs HTTP/1.1", listed(f"AUTHORIZATION: bearer  {key} ")).status == 200


@pytest.mark.parametrize(
    "value",
    [
        *(f"Bearer {ALICE}x", f"Bearer {ALICE[:-1]}", f"Bearer {ALICE.upper()}", f"Bearer {ALICE} {ALICE}", "Bearer"),
        *(
            f"Bearer alice:{ALICE}",
            "Bearer alice",
            "Bearer no-longer-1",
            f"Basic {ALICE}",
            ALICE,
            "",
            "Bearer \xe4\xf6",
        ),
        *(f"Bearer,{ALICE}", "Bearer # who may come in", "Bearer " + "x" * 60_000),
    ],
)
def test_x8_wrong_keys(gateway: Gateway, value: str) -> None:
    """Nearly right is wrong; what is no key of anybody's is told so."""
    assert knock(gateway.url, "GET /runs HTTP/1.1", listed(f"Authorization: {value}")).status == 401


def test_x8_in_the_header_and_nowhere_else(gateway: Gateway) -> None:
    """A key in the address stands in histories and logs: it does not open. Nor does one of two."""
    for path in (f"/runs?api_key={ALICE}", f"/runs?key={ALICE}", f"/runs?authorization=Bearer%20{ALICE}"):
        assert knock(gateway.url, f"GET {path} HTTP/1.1").status == 401
    for line in (f"X-Api-Key: {ALICE}", f"Cookie: key={ALICE}", f"Proxy-Authorization: Bearer {ALICE}"):
        assert knock(gateway.url, "GET /runs HTTP/1.1", listed(line)).status == 401
    two = listed("Authorization: Bearer wrong-wrong", f"Authorization: Bearer {ALICE}")
    assert knock(gateway.url, "GET /runs HTTP/1.1", two).status == 400


def test_x8_a_header_of_a_megabyte(gateway: Gateway) -> None:
    """It is refused before anybody looks for a key in it."""
    value = "x" * (1 << 20)
    assert knock(gateway.url, "GET /runs HTTP/1.1", listed(f"Authorization: Bearer {value}")).status == 431


def test_x8_before_the_body_is_read(gateway: Gateway) -> None:
    """Who has no key is told so before his gigabyte has come, and the connection is closed."""
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as sock:
        sock.sendall(b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1073741824\r\n\r\n{")
        answer = b""
        while data := sock.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_x8_a_key_is_kept_as_a_digest() -> None:
    """What holds the keys does not have them, and does not show them."""
    keys = Keys([f"alice:{ALICE}", BOB])
    held = repr(vars(keys)) + repr(keys) + str(keys)

    assert ALICE not in held
    assert BOB not in held
    assert keys.name_of(ALICE) == "alice"
    assert keys.name_of("") is None


def test_x8_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all of them, whether right or wrong, by the function that is made for it."""
    compared: list[int] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(len(right))
        return left == right

    monkeypatch.setattr("tailrace.gateway.access.keys.hmac.compare_digest", compare)
    keys = Keys([f"a:{ALICE}", f"b:{BOB}", f"c:{OLD}"])
    for key in (ALICE, OLD, "wrong", "x" * 1000):
        keys.name_of(key)
    assert compared == [32] * 12


def test_x8_a_key_without_a_name_keeps_its_own() -> None:
    """Its name comes from the key itself: what belongs to it does not go to another when the list changes."""
    before, after = Keys([ALICE, BOB]), Keys([BOB])
    assert before.name_of(BOB) == after.name_of(BOB)
    assert before.name_of(ALICE) != before.name_of(BOB)
    assert Keys(["YWxpY2U9c2VjcmV0Cg=="]).name_of("YWxpY2U9c2VjcmV0Cg==") is not None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tiny", "number 1 is shorter"),
        ("alice:tiny", "alice is shorter"),
        ("alice:schl\u00fcssel-lang", "visible ASCII"),
        ("alice:two words long", "visible ASCII"),
        ("", "visible ASCII"),
    ],
)
def test_x8_what_is_no_key(given: str, words: str) -> None:
    """Too short to be a secret, or such as no header carries; the key itself is not told."""
    with pytest.raises(RequestError) as caught:
        Keys([given])
    assert words in str(caught.value)
    assert not (key := given.partition(":")[2]) or key not in str(caught.value)


def test_x8_files_that_are_none(tmp_path: Path) -> None:
    """A file that is missing, empty, no text or not ours to read is said at the start, in one line."""
    cases = {"missing": None, "empty": b"# nothing\n\n", "binary": b"\xff\xfe\x00", "locked": b"alice:alice-secret-1"}
    for name, data in cases.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        if name == "locked":
            path.chmod(0)
            if os.access(path, os.R_OK):  # root reads everything
                continue
        done = Command(tmp_path / "home")("serve", "--port", "0", "--api-key-file", str(path))
        assert (done.code, len(done.err.splitlines())) in ((1, 1), (1, 2)), done.err
        assert str(path) in done.err
        assert "alice-secret-1" not in done.err
        path.unlink(missing_ok=True)


# -- X9: what is whose -------------------------------------------------------------------------------------------------


def test_x9_runs_are_their_owners(gateway: Gateway) -> None:
    """Another key's run is not there: not to be read, stopped or listed; nor is an idempotency key shared."""
    gateway.upstream.script(say("x"), hold(), path="/api/chat")
    body = {"message": "hi", "model": "m"}
    mine = gateway.call("POST", "/runs", body, Authorization=f"Bearer {ALICE}", Idempotency_Key="one")
    path = mine.headers["location"]
    for method, where in (("GET", path), ("GET", f"{path}/events"), ("DELETE", path)):
        assert by(gateway, BOB, method, where).status == 404
    assert by(gateway, BOB, "GET", "/runs").json == {"runs": []}
    theirs = gateway.call("POST", "/runs", body, Authorization=f"Bearer {BOB}", Idempotency_Key="one")

    assert theirs.status == 201
    assert theirs.headers["location"] != path
    gateway.upstream.release()
    assert by(gateway, OLD, "GET", path).status == 200  # the same owner's other key


def test_x9_conversations_are_their_owners(gateway: Gateway) -> None:
    """So it is with conversations, with all that can be done to them."""
    made = by(gateway, ALICE, "POST", "/conversations", {"title": "Hers"})
    path = made.headers["location"]
    for method, where, body in (
        ("GET", path, None),
        ("PATCH", path, {"title": "His"}),
        ("DELETE", path, None),
        ("GET", f"{path}/export", None),
        ("POST", f"{path}/turns", {"content": "hi"}),
    ):
        assert by(gateway, BOB, method, where, body).status == 404, method
    assert by(gateway, BOB, "GET", "/conversations?q=Hers").json == {"conversations": []}
    assert by(gateway, ALICE, "GET", path).json["title"] == "Hers"


def test_x9_a_chat_of_the_ai_sdk_is_its_owners(gateway: Gateway) -> None:
    """The same id of a chat is another chat with another key."""
    gateway.upstream.script(say("secret of hers"), path="/api/chat")
    body = {"id": "chat-1", "messages": [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}], "model": "m"}
    assert b"secret of hers" in by(gateway, ALICE, "POST", "/ai/chat", body).body

    assert by(gateway, BOB, "GET", "/ai/chat/chat-1/stream").status == 204
    assert by(gateway, BOB, "POST", "/ai/chat/chat-1/stop").status == 404


def test_x9_an_id_cannot_be_guessed(gateway: Gateway) -> None:
    """128 random bits."""
    gateway.upstream.always(say("x"), path="/api/chat")
    ids = {by(gateway, ALICE, "POST", "/runs", {"message": "hi", "model": "m"}).json["id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(len(bytes.fromhex(id.removeprefix("run_"))) == 16 for id in ids)


# -- keeping models ----------------------------------------------------------------------------------------------------

KEEPING = [
    ("POST", "/api/pull", {"model": "m", "stream": False}),
    ("POST", "/api/push", {"model": "m"}),
    ("POST", "/api/create", {"model": "n", "from": "m"}),
    ("POST", "/api/copy", {"source": "m", "destination": "n"}),
    ("DELETE", "/api/delete", {"model": "m"}),
    ("POST", f"/api/blobs/sha256:{'0' * 64}", "x"),
]


@pytest.mark.parametrize(("method", "path", "body"), KEEPING)
def test_only_named_keys_keep_models(gateway: Gateway, method: str, path: str, body: object) -> None:
    """Who has a key may use the models; to change them is for the keys that ``--admin`` names."""
    told = by(gateway, BOB, method, path, body)

    assert (told.status, "--admin" in told.json["error"]) == (403, True)
    assert path not in [record.path for record in gateway.upstream.requests]


def test_an_admin_keeps_models(gateway: Gateway) -> None:
    """The key that was named gets through."""
    assert by(gateway, ALICE, "POST", "/api/copy", {"source": "m", "destination": "n"}).status == 200


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ([], 200),
        (["--api-key", f"alice:{ALICE}"], 403),
        (["--api-key", f"alice:{ALICE}", "--admin", "*"], 200),
        (["--host", "0.0.0.0", "--insecure"], 403),
        (["--host", "0.0.0.0", "--insecure", "--admin", "*"], 200),
    ],
)
def test_who_keeps_models_by_default(options: list[str], status: int) -> None:
    """Everybody on this machine where there are no keys; nobody where there are, or where everybody comes in."""
    with serving(*options) as gateway:
        assert by(gateway, ALICE, "POST", "/api/copy", {"source": "m", "destination": "n"}).status == status


# -- the engine's socket -----------------------------------------------------------------------------------------------


def test_the_files_of_a_gateway_are_the_users_alone(tmp_path: Path) -> None:
    """The conversations' folder is 0700 and their database 0600, whatever the umask."""
    with ExitStack() as stack:
        before = os.umask(0)
        stack.callback(os.umask, before)
        data = tmp_path / "data"
        gateway = stack.enter_context(serving(data=data, upstream=stack.enter_context(FakeOllama(models=["m"]))))
        assert gateway.call("POST", "/conversations", {"title": "x"}).status == 201
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.iterdir() if path.is_file()}
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert modes
    assert set(modes.values()) == {0o600}
