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
    "from, absolute": {"from": "/etc/passwd"},
    "from, at home": {"from": "~/model.gguf"},
    "from, relative": {"from": "./model.gguf"},
    "from, above": {"from": "../model"},
    "from, Windows": {"from": "C:\\models\\a.gguf"},
    "from, quoted": {"from": '"/etc/passwd"'},
    "from, a GGUF": {"from": "models/a.gguf"},
    "modelfile": {"modelfile": "# a comment\nfrom /root/.ssh/id_rsa\n"},
    "modelfile, adapter": {"modelfile": "FROM llama3\nADAPTER ./adapter.bin"},
    "modelfile, CR": {"modelfile": "FROM llama3\rADAPTER /a"},
    "files": {"files": {"../../etc/passwd": DIGEST}},
    "files, absolute": {"files": {"/etc/passwd": DIGEST}},
    "adapters": {"adapters": {"a/../../b": DIGEST}},
    "from, no text": {"from": ["/etc/passwd"]},
    "files, no object": {"files": ["/etc/passwd"]},
}
TAKEN: dict[str, dict[str, Any]] = {
    "a model": {"from": "llama3.2:1b"},
    "a model of a hub": {"from": "hf.co/org/repo:Q4_K_M"},
    "a modelfile": {"modelfile": 'FROM qwen3:8b\nSYSTEM """\nRead /etc/motd, or C:\\x.\n"""\nPARAMETER stop /end'},
    "blobs": {"files": {"model.gguf": DIGEST, "sub/tokenizer.json": DIGEST}, "adapters": {"a.gguf": DIGEST}},
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
            assert (answer.status, "names a file" in answer.json["error"]) == (400, True)
            assert "/api/create" not in [record.path for record in upstream.requests]
        with serving("--local-files", upstream=upstream) as gateway:
            gateway.call("POST", "/api/create", body)
            assert "/api/create" in [record.path for record in upstream.requests]
