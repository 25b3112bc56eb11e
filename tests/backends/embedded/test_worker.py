"""Every endpoint of the worker, with the real engine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.backends.embedded.client import (
    ENDLESS,
    MODEL,
    Call,
    ask,
    chat,
    connect,
    endless,
    models_loaded,
    stream,
    until_idle,
    words,
)
from tests.backends.embedded.store import make_store

from tailrace.backends.embedded import models
from tailrace.backends.embedded.supervisor import Endpoint


def test_chat_streams_tokens_and_ends_with_the_figures(endpoint: Endpoint) -> None:
    """Statuses first, then tokens, then one final record whose counts are the engine's."""
    with chat(endpoint, "Name three colours.", predict=20) as call:
        lines = list(call.lines())
    assert call.status == 200
    assert call.headers["content-type"] == "application/x-ndjson"
    assert call.complete

    statuses: list[Any] = [line["tailrace"] for line in lines if "tailrace" in line]
    tokens = [line for line in lines if "message" in line]
    assert lines == [{"tailrace": status} for status in statuses] + tokens
    assert {line["status"] for line in statuses} <= {"loading", "prefill"}
    assert statuses[-1]["processed"] == statuses[-1]["total"] > 0
    assert "".join(line["message"]["content"] for line in tokens)
    assert [line["done"] for line in tokens] == [False] * (len(tokens) - 1) + [True]
    final = tokens[-1]
    assert final["done_reason"] in ("stop", "length")
    assert final["model"] == MODEL
    assert final["prompt_eval_count"] == statuses[-1]["total"]
    assert 0 < final["eval_count"] <= 20
    assert final["total_duration"] >= final["eval_duration"] > 0


def test_chat_whole(endpoint: Endpoint) -> None:
    """Without streaming the same answer comes as one object."""
    status, body = ask(endpoint, "POST", "/api/chat", _chat("Say hello.", stream=False, options={"num_predict": 5}))
    assert status == 200
    assert body["message"]["role"] == "assistant"
    assert body["message"]["content"]
    assert body["done"] is True
    assert body["done_reason"] in ("stop", "length")


def test_length_is_told_from_stop(endpoint: Endpoint) -> None:
    body = ask(endpoint, "POST", "/api/chat", _chat("Tell a story.", stream=False, options={"num_predict": 3}))[1]
    assert body["done_reason"] == "length"
    assert body["eval_count"] == 3


def test_seed_repeats_and_stop_stops(endpoint: Endpoint) -> None:
    options: dict[str, Any] = {"num_predict": 30, "seed": 7, "temperature": 1.2}
    first, second = (
        ask(endpoint, "POST", "/api/chat", _chat("Tell a story.", stream=False, options=options))[1]["message"]
        for _ in range(2)
    )
    assert first == second
    word = first["content"].split()[3]
    cut = ask(endpoint, "POST", "/api/chat", _chat("Tell a story.", stream=False, options={**options, "stop": [word]}))
    assert word not in cut[1]["message"]["content"]
    assert cut[1]["done_reason"] == "stop"


def test_generate(endpoint: Endpoint) -> None:
    """A prompt, with a system prompt; text is in `response`."""
    body = {"model": MODEL, "prompt": "Hello!", "system": "You are brief.", "options": {"num_predict": 5}}
    lines = [line for line in stream(endpoint, "/api/generate", body) if "response" in line]
    assert "".join(line["response"] for line in lines)
    assert lines[-1]["done"] is True
    whole = ask(endpoint, "POST", "/api/generate", {**body, "stream": False})[1]
    assert whole["response"]
    assert "message" not in whole


def test_generate_raw(endpoint: Endpoint) -> None:
    """A raw prompt is not put into the model's template."""
    body = {"model": MODEL, "prompt": "Once upon a", "raw": True, "options": {"num_predict": 3, "temperature": 0}}
    whole = ask(endpoint, "POST", "/api/generate", {**body, "stream": False})[1]
    assert whole["response"].startswith(" time")
    assert whole["prompt_eval_count"] < 8


def test_logprobs(endpoint: Endpoint) -> None:
    for path, more in (("/api/chat", {}), ("/api/generate", {"prompt": "Hi"}), ("/api/generate", {"raw": True})):
        body = {**_chat("Hi", stream=False, options={"num_predict": 2}), "prompt": "Hi", **more}
        whole = ask(endpoint, "POST", path, {**body, "logprobs": True, "top_logprobs": 2})[1]
        assert len(whole["logprobs"]) == whole["eval_count"] == 2
        assert set(whole["logprobs"][0]) == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(whole["logprobs"][0]["top_logprobs"]) == 2


@pytest.mark.parametrize(
    "format",
    ["json", {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}],
    ids=["json", "schema"],
)
def test_format(endpoint: Endpoint, format: Any) -> None:
    """The answer is JSON, and of the schema if one is given."""
    body = _chat("A person's age, as JSON.", stream=False, format=format, options={"num_predict": 120, "seed": 1})
    whole = ask(endpoint, "POST", "/api/chat", body)[1]
    if whole["done_reason"] == "stop" or format != "json":
        value = json.loads(whole["message"]["content"])
        assert format == "json" or isinstance(value["age"], int)


def test_embeddings(endpoint: Endpoint) -> None:
    """Unit vectors, the same text the same vector; both endpoints; `dimensions` shortens."""
    status, body = ask(endpoint, "POST", "/api/embed", {"model": MODEL, "input": ["a cat", "a cat", "taxes"]})
    assert status == 200
    one, two, three = body["embeddings"]
    assert one == pytest.approx(two)
    assert one != pytest.approx(three)
    assert sum(value * value for value in one) == pytest.approx(1, abs=1e-3)
    assert body["prompt_eval_count"] > 0
    older = ask(endpoint, "POST", "/api/embeddings", {"model": MODEL, "prompt": "a cat"})[1]
    assert older["embedding"] == pytest.approx(one, abs=1e-4)
    short = ask(endpoint, "POST", "/api/embed", {"model": MODEL, "input": "a cat", "dimensions": 8})[1]
    assert [len(vector) for vector in short["embeddings"]] == [8]
    assert ask(endpoint, "POST", "/api/embed", {"model": MODEL, "input": []})[1]["embeddings"] == []


def test_small_endpoints(endpoint: Endpoint) -> None:
    with Call(endpoint, "HEAD", "/") as call:
        call.read_head()
        assert call.status == 200
        assert call.wait_closed() == b""
    with Call(endpoint, "GET", "/") as call:
        call.read_head()
        assert call.wait_closed() == b"Ollama is running"
    assert ask(endpoint, "GET", "/api/version")[1]["version"]
    tags = ask(endpoint, "GET", "/api/tags")[1]["models"]
    assert [(model["name"], model["size"]) for model in tags] == [(MODEL, models.DEFAULT_SIZE)]
    assert tags[0]["digest"] == models.DEFAULT_SHA256
    assert tags[0]["details"]["format"] == "gguf"


def test_show(endpoint: Endpoint) -> None:
    """What the model can do is the engine's word: this one neither calls tools nor thinks."""
    status, body = ask(endpoint, "POST", "/api/show", {"model": MODEL})
    assert status == 200
    assert body["capabilities"] == ["completion"]
    assert "<|im_start|>" in body["template"]
    assert body["model_info"]["general.architecture"] == "llama"
    assert body["model_info"]["llama.context_length"] == 8192
    assert body["details"]["quantization_level"] == "Q4_1"


def test_load_and_unload(endpoint: Endpoint) -> None:
    """Empty messages load, with keep_alive 0 they unload; one object, no stream."""
    status, body = ask(endpoint, "POST", "/api/chat", {"model": MODEL})
    assert (status, body["done_reason"], body["done"]) == (200, "load", True)
    assert models_loaded(endpoint)[MODEL]["context_length"] == 4096
    body = ask(endpoint, "POST", "/api/generate", {"model": MODEL, "keep_alive": 0})[1]
    assert (body["done_reason"], body["response"]) == ("unload", "")
    while MODEL in models_loaded(endpoint):
        pass  # it goes as soon as nobody uses it


def test_keep_alive(endpoint: Endpoint) -> None:
    """0 unloads at the end of the request, a negative one never."""
    ask(endpoint, "POST", "/api/chat", _chat("Hi", stream=False, keep_alive="-1m", options={"num_predict": 1}))
    assert models_loaded(endpoint)[MODEL]["expires_at"].startswith("2318")
    ask(endpoint, "POST", "/api/chat", _chat("Hi", stream=False, keep_alive=0, options={"num_predict": 1}))
    while MODEL in models_loaded(endpoint):
        pass


def test_context_is_reloaded_when_it_differs(endpoint: Endpoint) -> None:
    """num_ctx reloads, no more than the model was trained for; no num_ctx takes what there is."""
    for asked, given in ((1024, 1024), (None, 1024), (100_000, 8192), (9_000, 8192), (4096, 4096)):
        options = {"num_predict": 1, **({"num_ctx": asked} if asked else {})}
        ask(endpoint, "POST", "/api/chat", _chat("Hi", stream=False, options=options))
        assert models_loaded(endpoint)[MODEL]["context_length"] == given


def test_prompt_longer_than_the_context(endpoint: Endpoint) -> None:
    """Told with both numbers, and as 400 while nothing has been sent."""
    status, body = ask(endpoint, "POST", "/api/chat", _chat("x " * 5000))
    assert status == 400
    assert "5031 tokens" in body["error"]
    assert "holds 4096" in body["error"]
    assert "num_ctx" in body["error"]


def test_error_after_the_first_status_is_a_line(endpoint: Endpoint) -> None:
    """A model that has to be loaded first: the status line is out, so the error line carries the status."""
    ask(endpoint, "POST", "/api/chat", {"model": MODEL, "keep_alive": 0})
    while MODEL in models_loaded(endpoint):
        pass
    lines = stream(endpoint, "/api/chat", _chat("x " * 5000))
    assert lines[0] == {"tailrace": {"status": "loading"}}
    assert lines[-1]["StatusCode"] == 400
    assert "5031 tokens" in lines[-1]["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/chat", b"{", 400, "truncated"),
        ("/api/chat", {"messages": []}, 400, "model is required"),
        ("/api/generate", {"prompt": "x"}, 404, "model '' not found"),
        ("/api/chat", {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "sound"}]}]}, 400, "content"),
        ("/api/chat", {"model": "nope", "messages": [{"role": "user", "content": "x"}]}, 404, "model 'nope' not found"),
        ("/api/chat", {"model": "nope"}, 404, MODEL),
        ("/api/chat", {"model": "../../etc/passwd"}, 400, "whole path"),
        ("/api/chat", {"model": "a/../../b"}, 400, "not a model name"),
        ("/api/chat", {"model": "/etc/passwd"}, 500, "not a GGUF model file"),
        ("/api/chat", {"model": "/no/such/file.gguf"}, 500, "does not exist"),
        ("chat", {"options": {"stop": "x"}}, 500, 'option "stop" must be of type array'),
        ("chat", {"options": {"temperature": "hot"}}, 500, 'option "temperature" must be of type float32'),
        ("chat", {"options": {"num_predict": "1"}}, 500, 'option "num_predict" must be of type integer'),
        ("chat", {"think": True}, 400, f'"{MODEL}" does not support thinking'),
        ("chat", {"think": "very"}, 400, "invalid think value"),
        ("chat", {"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, f"{MODEL} does not support tools"),
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["AAAA"]}]}, 400, "does not support images"),
        ("chat", {"format": "yaml"}, 500, "invalid format"),
        ("chat", {"format": {"type": "objectt"}}, 400, "unrecognized type objectt"),
        ("chat", {"top_logprobs": 21}, 400, "between 0 and 20"),
        ("chat", {"keep_alive": "300"}, 400, "missing unit"),
        ("/api/generate", {"model": MODEL, "prompt": "x", "suffix": "y"}, 400, "does not support insert"),
        ("/api/generate", {"model": MODEL, "prompt": "x", "template": "y"}, 400, "template"),
        ("/api/generate", {"model": MODEL, "prompt": "x", "raw": True, "system": "y"}, 400, "raw mode"),
        ("/api/pull", {"model": "llama3"}, 501, "can only pull"),
        ("/api/push", {"model": "llama3"}, 501, "cannot push"),
        ("/api/create", {"model": "llama3"}, 501, "cannot create"),
        ("/api/blobs/sha256:00", b"", 501, "cannot blobs"),
        ("/nowhere", b"", 404, "not found"),
        ("/api/tags", b"", 405, "method"),
        ("/api/embed", {"model": "nope", "input": "x"}, 404, "not found"),
    ],
)
def test_refusals(endpoint: Endpoint, path: str, body: Any, status: int, text: str) -> None:
    """The status is Ollama's and the text says what to do."""
    if path == "chat":
        path, body = "/api/chat", {**_chat("x"), **body}
    with connect(endpoint) as sock:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sock.sendall(f"POST {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        head, _, answer = sock.makefile("rb").read().partition(b"\r\n\r\n")
    assert int(head.split()[1]) == status
    assert text in json.loads(answer)["error"]


def test_pull_of_what_is_here(endpoint: Endpoint) -> None:
    assert [line["status"] for line in stream(endpoint, "/api/pull", {"model": MODEL})] == [
        "pulling manifest",
        "success",
    ]
    assert ask(endpoint, "POST", "/api/pull", {"name": MODEL, "stream": False}) == (200, {"status": "success"})


def test_requests_in_bytes_and_chunks(endpoint: Endpoint) -> None:
    """A request may come byte by byte, and with a chunked body."""
    data = json.dumps({"model": MODEL}).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (data[:5], data[5:])) + b"0\r\n\r\n"
    message = b"POST /api/chat HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    with connect(endpoint) as sock:
        for index in range(len(message)):
            sock.sendall(message[index : index + 1])
        assert b'"done_reason":"load"' in sock.makefile("rb").read()


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    ],
)
def test_malformed_requests(endpoint: Endpoint, message: bytes, status: int) -> None:
    with connect(endpoint) as sock:
        try:
            sock.sendall(message)
        except OSError:
            pass  # it may have answered and closed before it had all
        assert int(sock.makefile("rb").readline().split()[1]) == status


def test_socket_is_private(endpoint: Endpoint) -> None:
    assert endpoint.socket_path is not None
    assert Path(endpoint.socket_path).parent.stat().st_mode & 0o777 == 0o700


# ---- queue and cancel ----


def test_queue_is_first_come_first_served(endpoint: Endpoint) -> None:
    """Two run; the third and fourth know their places, move up when one leaves, and run when a slot is free."""
    first, second = (endless(endpoint) for _ in range(2))
    first.until_token()
    second.until_token()
    third = chat(endpoint, "Say hello.", predict=5)
    assert third.until(status="queued")["position"] == 1
    fourth = chat(endpoint, "Say hello.", predict=5)
    assert fourth.until(status="queued")["position"] == 2
    loaded = models_loaded(endpoint)[MODEL]
    assert (loaded["slots"], loaded["running"], loaded["queued"]) == (2, 2, 2)

    third.half_close()
    third.wait_closed()  # a queued one is let go at once, with both slots busy
    assert fourth.until(status="queued")["position"] == 1
    loaded = models_loaded(endpoint)[MODEL]
    assert (loaded["running"], loaded["queued"]) == (2, 1)

    first.half_close()
    assert fourth.until(done=True)["done_reason"]
    second.half_close()
    second.wait_closed()
    assert until_idle(endpoint)["pieces"] > 0
    for call in (first, second, third, fourth):
        call.close()


@pytest.mark.parametrize("leave", ["half_close", "close"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_leaving_stops_the_engine(endpoint: Endpoint, phase: str, leave: str) -> None:
    """The engine stops where it is, also inside a prompt, and our side is closed only when it has let go."""
    call = chat(endpoint, words(3500)) if phase == "prefill" else endless(endpoint)
    if phase == "prefill":
        call.until(status="prefill", processed=lambda processed: processed and processed >= 64)
    else:
        call.until_token()
    getattr(call, leave)()
    if leave == "half_close":
        call.wait_closed()
        # The close came after the engine's call had returned: nothing is inside any more.
        assert models_loaded(endpoint)[MODEL]["running"] == 0
        call.close()
    reached = until_idle(endpoint)
    if phase == "prefill":
        assert 64 <= reached["processed"] < reached["total"]
        assert reached["pieces"] == 0
    else:
        assert 0 < reached["pieces"] < 2990
    again = ask(endpoint, "POST", "/api/chat", _chat("Hi", stream=False, options={"num_predict": 1}))
    assert again[0] == 200


def test_leaving_a_whole_answer_stops_the_engine(endpoint: Endpoint) -> None:
    """Without streaming too: nothing is written meanwhile that could fail."""
    body = _chat("Count.", stream=False, format=ENDLESS, options={"num_predict": 3000})
    with Call(endpoint, "POST", "/api/chat", body) as call:
        while models_loaded(endpoint).get(MODEL, {}).get("running") != 1:
            pass
        call.half_close()
        assert call.wait_closed() == b""
        assert models_loaded(endpoint)[MODEL]["running"] == 0


def test_leaving_while_the_model_loads(endpoint: Endpoint) -> None:
    """The request is over at once, and the load is not wasted: the model is there for the next one."""
    ask(endpoint, "POST", "/api/chat", {"model": MODEL, "keep_alive": 0})
    while MODEL in models_loaded(endpoint):
        pass
    with chat(endpoint, "Hi") as call:
        assert next(call.lines()) == {"tailrace": {"status": "loading"}}
        call.half_close()
        call.wait_closed()
    while MODEL not in models_loaded(endpoint):
        pass
    assert models_loaded(endpoint)[MODEL]["running"] == 0


def test_a_client_that_does_not_read(endpoint: Endpoint) -> None:
    """It slows nobody, and its request ends when it leaves."""
    lazy = endless(endpoint)
    lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    whole = ask(endpoint, "POST", "/api/chat", _chat("Hi", stream=False, options={"num_predict": 3}))
    assert whole[0] == 200
    lazy.close()
    until_idle(endpoint)


def test_a_model_from_an_ollama_store(
    home: Path, tmp_path: Path, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own options and system prompt count, and the request's options over them."""
    store = Path(os.environ["OLLAMA_MODELS"])
    make_store(
        store, models.default_path(), "tiny", params={"num_predict": 3, "stop": ["zzz"]}, system="You are brief."
    )
    try:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "Tell a story."}], "stream": False}
        whole = ask(endpoint, "POST", "/api/chat", body)[1]
        assert whole["eval_count"] == 3
        bare = ask(endpoint, "POST", "/api/chat", _chat("Tell a story.", stream=False, options={"num_predict": 3}))[1]
        assert whole["prompt_eval_count"] != bare["prompt_eval_count"]  # that has the template's own
        assert ask(endpoint, "POST", "/api/chat", {**body, "options": {"num_predict": 2}})[1]["eval_count"] == 2
        assert "tiny:latest" in [model["name"] for model in ask(endpoint, "GET", "/api/tags")[1]["models"]]
        assert "stop" in ask(endpoint, "POST", "/api/show", {"model": "tiny"})[1]["parameters"]
    finally:
        shutil.rmtree(store)


def test_two_models_stay_loaded(endpoint: Endpoint, tmp_path: Path, home: Path) -> None:
    """A second file is loaded beside the first; both serve."""
    other = tmp_path / "other.gguf"
    other.hardlink_to(models.default_path()) if _same_disk(tmp_path, home) else other.symlink_to(models.default_path())
    for name in (MODEL, str(other), MODEL):
        body = {**_chat("Hi", stream=False, options={"num_predict": 1}), "model": name}
        assert ask(endpoint, "POST", "/api/chat", body)[0] == 200
    assert {MODEL, str(other)} <= set(models_loaded(endpoint))
    ask(endpoint, "POST", "/api/chat", {"model": str(other), "keep_alive": 0})


def test_a_file_the_engine_cannot_load(endpoint: Endpoint, tmp_path: Path) -> None:
    """It begins like a model and is cut off: the engine's own reason is in the message, and the worker lives on."""
    with models.default_path().open("rb") as file:
        (tmp_path / "cut.gguf").write_bytes(file.read(30_000_000))
    (tmp_path / "noise.gguf").write_bytes(b"GGUF" + os.urandom(100_000))
    body = {**_chat("Hi", stream=False), "model": str(tmp_path / "cut.gguf")}
    status, answer = ask(endpoint, "POST", "/api/chat", body)
    assert status == 500
    assert "corrupted or incomplete" in answer["error"]
    status, answer = ask(endpoint, "POST", "/api/chat", {**body, "model": str(tmp_path / "noise.gguf")})
    assert status == 500
    assert "GGUF file is version" in answer["error"]
    assert ask(endpoint, "GET", "/api/version")[0] == 200


CLOSED_AT_ONCE = """
import os, sys
from pathlib import Path
from tailrace.backends.embedded import models
from tailrace.backends.embedded.engine import Engine
if hasattr(os, "sched_setaffinity"):  # on one core the engine's own thread is the last to run
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for embedding in (False, True):
    Engine(models.find(sys.argv[1]), Path(sys.argv[2]), embedding=embedding).close()
"""


def test_an_engine_that_is_closed_as_soon_as_it_is_loaded(home: Path) -> None:
    """It ends. The library waits for ever if its loop has not begun yet; for embeddings we load twice."""
    pytest.importorskip("xllamacpp")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-"))  # short enough for a socket's path
    try:
        subprocess.run([sys.executable, "-c", CLOSED_AT_ONCE, MODEL, str(folder)], check=True, timeout=100)
    finally:
        shutil.rmtree(folder)


def _same_disk(one: Path, two: Path) -> bool:
    return one.stat().st_dev == two.stat().st_dev


def _chat(prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **more}
