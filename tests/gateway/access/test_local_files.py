"""Files of the model server's machine: what `/api/create` may not name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.gateway.serving import serving

from tailrace.gateway.access.local_files import check_no_files
from tailrace.protocols.problems import ProblemError
from tailrace.testing import FakeOllama

DIGEST = "sha256:" + "0" * 64
REFUSED: dict[str, dict[str, Any]] = {
    "path": {"path": "Modelfile"},
    "path, in other letters": {"Path": "Modelfile"},
    "from, absolute": {"from": "/etc/passwd"},
    "from, in other letters": {"FROM": "/etc/passwd"},
    "from, at home": {"from": "~/model.gguf"},
    "from, relative": {"from": "./model.gguf"},
    "from, above": {"from": "../model"},
    "from, by a detour": {"from": "x/../../etc/passwd"},
    "from, Windows": {"from": "C:\\models\\a.gguf"},
    "from, quoted": {"from": '" /etc/passwd"'},
    "from, a GGUF": {"from": "models/a.gguf"},
    "from, with a line end": {"from": "m\n"},
    "from, no text": {"from": ["/etc/passwd"]},
    "modelfile": {"modelfile": "FROM llama3\n"},
    "modelfile, in other letters": {"ModelFile": "FROM /etc/passwd"},
    "files": {"files": {"../../etc/passwd": DIGEST}},
    "files, absolute": {"files": {"/etc/passwd": DIGEST}},
    "files, in other letters": {"file\u017f": {"/etc/passwd": DIGEST}},
    "files, no digest": {"files": {"x": "/etc/passwd"}},
    "files, no object": {"files": ["/etc/passwd"]},
    "adapters": {"adapters": {"a/../../b": DIGEST}},
}
TAKEN: dict[str, dict[str, Any]] = {
    "a model": {"from": "llama3.2:1b"},
    "a model of somebody's": {"from": "somebody/qwen3:8b-q4_K_M"},
    "a model of a hub": {"from": "hf.co/org/repo:Q4_K_M"},
    "a model of a registry": {"from": "localhost:5000/library/m:latest"},
    "blobs": {"files": {"model.gguf": DIGEST, "sub/tokenizer.json": DIGEST}, "adapters": {"a.gguf": DIGEST}},
    "what else there is": {"from": "m", "system": "Read /etc/motd.", "template": "{{ .Prompt }}", "modelfile": ""},
    "nothing": {},
}


@pytest.mark.parametrize("name", REFUSED)
def test_x11_a_file_of_the_model_servers_machine_is_refused(name: str) -> None:
    """In whatever member it stands, and however it is written."""
    with pytest.raises(ProblemError) as caught:
        check_no_files({"model": "m", **REFUSED[name]})
    assert caught.value.status == 400


@pytest.mark.parametrize("name", TAKEN)
def test_models_and_blobs_are_taken(name: str) -> None:
    """What names no file goes on to the model server."""
    check_no_files({"model": "m", **TAKEN[name]})


def test_x11_the_model_server_is_not_asked() -> None:
    """Through the gateway it is 400 before anything is sent; with --local-files it is the model server's to judge."""
    body = {"model": "new", "from": "/etc/passwd", "stream": False}
    with FakeOllama(models=["m"]) as upstream:
        with serving(upstream=upstream) as gateway:
            answer = gateway.call("POST", "/api/create", body)
            assert (answer.status, "from is no name" in answer.json["error"]) == (400, True)
            assert "/api/create" not in [record.path for record in upstream.requests]
        with serving("--local-files", upstream=upstream) as gateway:
            gateway.call("POST", "/api/create", body)
            assert "/api/create" in [record.path for record in upstream.requests]
