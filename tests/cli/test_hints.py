"""Hints lead the right way: a key, a proxy and a certificate are named as such, and nobody is told to start Ollama."""

from __future__ import annotations

import json

import pytest
from tests.cli.driver import Command, Result
from tests.proxies import HttpProxy, encrypted
from tests.rawserver import CERTIFICATE

from tailrace.testing import FakeOllama, FakeOpenAI, Step, closed_port, html, say, status

COMMANDS = {"chat": ("chat", "-m", "m", "hi"), "generate": ("generate", "-m", "m", "hi"), "models": ("models",)}
PAGE_401 = html("<title>401 Authorization Required</title>", 401)
NO_PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "no_proxy"), "")
NO_PROXIES |= {name.upper(): "" for name in NO_PROXIES}


def hint(result: Result) -> str:
    """The second line of an error, of which there are two."""
    assert result.code == 1
    first, second = result.err.splitlines()
    assert first.startswith("tailrace: ")
    assert "ollama serve" not in second
    return second


def advice(tailrace: Command, env: dict[str, str], name: str = "ollama") -> str:
    """What `doctor` says of a server."""
    result = tailrace("doctor", "--json", "--timeout", "20", env=env)
    do: str = next(check["do"] for check in json.loads(result.out)["checks"] if check["name"] == name)
    assert "ollama serve" not in do
    return do


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("step", "words"),
    [(PAGE_401, "user:password@"), (status(401, {"error": "no"}), "API_KEY"), (status(401), "API_KEY")],
    ids=["page", "json", "empty"],
)
def test_a_401_asks_for_the_key(server: FakeOllama, tailrace: Command, command: str, step: Step, words: str) -> None:
    """As a web page of a proxy's, as JSON and without a word; one that was sent and is wrong is said to be."""
    for path in ("/api/chat", "/api/generate", "/api/tags", "/api/version"):
        server.always(step, path=path)
    assert words in hint(tailrace(*COMMANDS[command]))
    assert "not taken" in hint(tailrace(*COMMANDS[command], env={"OLLAMA_API_KEY": "wrong"}))
    if (command, words) == ("chat", "user:password@"):  # one is enough: it takes its time
        assert "API_KEY" in advice(tailrace, {})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_a_proxy_that_is_down(tailrace: Command, command: str, variable: str) -> None:
    """It is the proxy that is named, and its variables, in Chinese too; the same from `doctor`."""
    proxy = f"http://127.0.0.1:{closed_port()}"
    env = {**NO_PROXIES, "OLLAMA_HOST": "http://model.invalid:11434", variable: proxy}
    result = tailrace(*COMMANDS[command], env=env)
    assert f"the proxy {proxy}" in result.err
    assert "NO_PROXY" in hint(result)
    assert "NO_PROXY" in hint(tailrace(*COMMANDS[command], "--lang", "zh", env=env))
    if (command, variable) == ("chat", "all_proxy"):
        assert "NO_PROXY" in advice(tailrace, env)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "NO_PROXY"),
        (b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n", "NAME:PASSWORD@"),
        (b"HTTP/1.1 403 No\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>", "NO_PROXY"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses(tailrace: Command, answer: bytes, words: str, scheme: str) -> None:
    """What it says names it, and what to correct."""
    with HttpProxy(answer=answer) as proxy:
        env = {**NO_PROXIES, "OLLAMA_HOST": f"{scheme}://model.invalid:11434", "all_proxy": proxy.url}
        result = tailrace(*COMMANDS["chat"], env=env)
        assert f"the proxy {proxy.url}" in result.err.splitlines()[0]
        assert words in hint(result)
        if (scheme, words) == ("http", "NAME:PASSWORD@"):
            assert words in advice(tailrace, env)


def test_a_certificate_that_nobody_trusts(server: FakeOllama, tailrace: Command) -> None:
    """The variable that takes it is named by every command, before either kind of server."""
    with encrypted(server.port) as front:
        env = {"OLLAMA_HOST": f"https://localhost:{front.port}", "SSL_CERT_FILE": ""}
        for command in COMMANDS.values():
            assert "SSL_CERT_FILE" in hint(tailrace(*command, env=env))
        assert "SSL_CERT_FILE" in advice(tailrace, env)
        other = {**env, "TAILRACE_UPSTREAM": f"openai:https://localhost:{front.port}/v1"}
        assert "SSL_CERT_FILE" in advice(tailrace, other, "server")
        assert tailrace(*COMMANDS["chat"], env={**env, "SSL_CERT_FILE": str(CERTIFICATE)}).code == 0


def test_other_servers_are_not_ollama(tailrace: Command) -> None:
    """An OpenAI-compatible server that is down is the one to be started; a name that is none is a name."""
    env = {"TAILRACE_UPSTREAM": f"openai:http://127.0.0.1:{closed_port()}/v1"}
    assert "start the server" in hint(tailrace(*COMMANDS["chat"], env=env))
    assert "start the server" in advice(tailrace, env, "server")
    env = {**NO_PROXIES, "OLLAMA_HOST": "http://model.invalid:11434"}
    assert "check the name" in hint(tailrace(*COMMANDS["chat"], env=env))


@pytest.mark.parametrize("ending", ["/api", "/api/", "/api/chat", "/api/generate"])
@pytest.mark.parametrize("variable", ["OLLAMA_HOST", "TAILRACE_UPSTREAM"])
def test_an_address_with_the_path_of_an_api(server: FakeOllama, tailrace: Command, ending: str, variable: str) -> None:
    """It is understood, and a line says how to write it."""
    server.always(say("Hello"), path="/api/chat")
    result = tailrace(*COMMANDS["chat"], env={variable: server.url + ending})
    assert (result.code, result.out) == (0, b"Hello")
    assert f"is taken as {server.url}: leave out /api" in result.err
    if (ending, variable) == ("/api", "OLLAMA_HOST"):
        assert advice(tailrace, {variable: server.url + ending}) == ""


@pytest.mark.parametrize("ending", ["/v1", "/v1/", "/v1/chat/completions"])
def test_an_address_with_the_other_protocol_at_its_end(tailrace: Command, ending: str) -> None:
    """It is an OpenAI-compatible server's, and a line says so; where that has no such path, there is a hint."""
    with FakeOpenAI(models=["m"]) as server:
        server.always(say("Hello"), path="/v1/chat/completions")
        result = tailrace(*COMMANDS["chat"], env={"OLLAMA_HOST": server.url + ending})
    assert (result.code, result.out) == (0, b"Hello")
    assert f"is taken as openai:{server.url}/v1" in result.err
    with FakeOllama(models=["m"]) as ollama:
        ollama.always(status(404, "404 page not found", content_type="text/plain"), path="/api/chat")
        result = tailrace(*COMMANDS["chat"], env={"OLLAMA_HOST": ollama.url})
        assert f"openai:{ollama.url}/v1" in hint(result)


# -- what goes in and out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "data", "text"),
    [
        ("gbk", "你好，世界".encode("gbk"), "你好，世界"),
        ("gbk", "一".encode("gbk"), "一"),  # its bytes are a Cyrillic letter in UTF-8
        ("gbk", "一二".encode(), "一二"),
        ("gbk", b"plain", "plain"),
        ("cp936", "价格：5 元".encode("cp936"), "价格：5 元"),
        ("shift_jis", "日本語".encode("shift_jis"), "日本語"),
        ("cp1252", "café – 5 €".encode("cp1252"), "café – 5 €"),
        ("cp1252", "café".encode(), "café"),
        ("utf-8", "你好".encode("utf-8-sig"), "你好"),
        ("utf-8", "你好".encode("utf-16"), "你好"),
        ("gbk", b"\xfe\xff" + "你好".encode("utf-16-be"), "你好"),
    ],
)
def test_standard_input_in_its_own_encoding(
    server: FakeOllama, tailrace: Command, encoding: str, data: bytes, text: str
) -> None:
    """What another program pipes is read as it was written: UTF-8, or what the console has."""
    result = tailrace("chat", "-m", "m", stdin=data, env={"PYTHONIOENCODING": encoding})
    assert result.code == 0, result.err
    assert server.wait_for_request(path="/api/chat").json["messages"][-1]["content"] == text


def test_standard_input_that_is_no_text(tailrace: Command) -> None:
    """The encoding that was tried is named, with the byte and its place."""
    result = tailrace("chat", "-m", "m", stdin=b"ab\xff\xff", env={"PYTHONIOENCODING": "gbk"})
    assert result.code == 1
    assert result.err == "tailrace: standard input is neither UTF-8 nor gbk text (byte 0xff at offset 2)\n"


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "ascii"])
@pytest.mark.parametrize("arguments", [("--help", "--lang", "zh"), ("chat", "--help", "--lang", "zh")])
def test_help_on_a_console_without_the_characters(tailrace: Command, encoding: str, arguments: tuple[str, ...]) -> None:
    """What it can show is shown."""
    result = tailrace(*arguments, env={"PYTHONIOENCODING": encoding})
    assert (result.code, result.err) == (0, "")
    assert b"--help" in result.out


@pytest.mark.parametrize("encoding", ["cp1252", "gbk"])
def test_an_answer_on_a_console_without_the_characters(server: FakeOllama, tailrace: Command, encoding: str) -> None:
    """On a terminal of another encoding the answer is shown as far as it has characters for it."""
    server.script(say("né 一 ", "😀 end"))
    tailrace.env["PYTHONIOENCODING"] = encoding
    with tailrace.on_terminal("chat", "-m", "m", "hi") as terminal:
        assert terminal.end() == 0
    assert "né 一 😀 end".encode(encoding, "replace") in terminal.seen
