"""Files: a program that has no more of them is told so, and not that nothing answers."""

from __future__ import annotations

import pytest
from tests.gateway.conversations.children import Child

from tailrace.cli.session import hint_for
from tailrace.errors import ConnectionError
from tailrace.i18n import say
from tailrace.testing import FakeOllama

_RUN_OUT = """
import contextlib, os, resource, sys
import tailrace

def tell(name, call):
    try:
        call()
    except tailrace.ConnectionError as error:
        print(name, error.errno, error, "|", error.hint, flush=True)

client = tailrace.Client(sys.argv[1])
if sys.argv[2] == "later":
    client.list()
    with contextlib.suppress(tailrace.TailraceError):  # what resolves names is loaded
        tailrace.Client("http://name.invalid").list()
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
with contextlib.suppress(OSError):
    while True:
        os.open(os.devnull, os.O_RDONLY)
tell("single", client.list)
tell("whole", lambda: client.chat("m", [{"role": "user", "content": "hi"}]))
tell("stream", lambda: list(client.chat("m", [{"role": "user", "content": "hi"}], stream=True)))
tell("name", tailrace.Client("http://name.invalid").list)
os.closerange(200, 256)
print(client.list().models[0].model, flush=True)
"""


@pytest.mark.parametrize("when", ["first", "later"])
def test_too_many_open_files_are_told(when: str) -> None:
    """In each kind of call, the first one of all or a later one, also when it is the resolver that finds no more."""
    with FakeOllama(models=["m"]) as server:
        said, code = Child(_RUN_OUT, server.url, when).end()
    *told, after = said.splitlines()

    assert (code, after) == (0, "m:latest")
    assert [line.split(" ")[0] for line in told] == ["single", "whole", "stream", "name"]
    for line in told:
        assert line.split(" ")[1] == "24"
        assert "too many open files" in line
        assert "ulimit -n" in line.partition("|")[2]
        assert "ollama serve" not in line


def test_hint_of_the_command() -> None:
    """The command does not say that a model server is to be started."""
    error = ConnectionError("too many open files: no connection to x can be made")
    error.about = "files"

    assert hint_for(error) == say("hint.files")
