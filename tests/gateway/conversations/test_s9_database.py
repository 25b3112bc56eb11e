"""S9: a database that cannot be written, is full, locked, damaged or gone: answers go on, and what is wrong is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.serving import Gateway, serving
from tests.web.reader import PATIENCE

from tailrace.errors import StoreError
from tailrace.gateway.conversations.database import Database
from tailrace.testing import hold, say, stall

FILE = "conversations.db"


def _works(gateway: Gateway) -> None:
    """What has nothing to do with the database works as ever."""
    assert gateway.call("GET", "/healthz").status == 200
    assert gateway.call("GET", "/readyz").status == 200
    assert gateway.ended(gateway.start(say("x"))[0])["reply"]["text"] == "x"


def _told(answer: Any, *words: str) -> None:
    """A problem that says what is wrong, and what to do."""
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert "retry-after" in answer.headers
    for word in words:
        assert word in answer.json["detail"] + answer.json["hint"]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A database that another program holds the lock of."""
    with serving(data=tmp_path) as gateway:
        gateway.call("POST", "/conversations", {"title": "kept"})
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield tmp_path, other


def test_s9_locked_at_the_start(locked: tuple[Path, sqlite3.Connection]) -> None:
    """The gateway starts, and tells what is wrong until the lock is given back; then all is there, and all works."""
    folder, other = locked
    with serving(data=folder) as gateway:
        _works(gateway)
        _told(gateway.call("GET", "/conversations"), "another program", FILE)
        _told(gateway.call("POST", "/conversations", {"title": "x"}), "another program", FILE)
        other.execute("COMMIT")
        made = gateway.call("POST", "/conversations", {"title": "x"})
        listed = gateway.call("GET", "/conversations")
        assert gateway.server.output.count("another program") == 1

    assert [each["title"] for each in listed.json["conversations"]] == ["x", "kept"]
    assert made.status == 201


def test_s9_locked_while_an_answer_comes(tmp_path: Path) -> None:
    """The answer goes on for its readers, and is written down when the lock is given back."""
    with serving("--on-leave", "continue", data=tmp_path) as gateway:
        talk = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
        gateway.upstream.script(say("Hel"), hold(), say("lo"), path="/api/chat")
        turn = gateway.call("POST", f"{talk}/turns", {"content": "hi"}).json
        with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
            reader.until(b'"Hel"')
            with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                gateway.upstream.release()
                assert reader.all()[-1].type == "ended"
                refused = gateway.call("POST", f"{talk}/turns", {"content": "more", "parent": turn["answer"]["id"]})
            while (message := gateway.call("GET", talk).json["messages"][-1])["state"] == "running":
                pass

    assert refused.status == 503
    assert (message["content"], message["state"]) == ("Hello", "complete")


def test_s9_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that belongs to nobody who asks: told at each request, and once on the terminal."""
    folder = tmp_path / "file"
    folder.write_text("not a folder", encoding="utf-8")
    with serving("--data", str(folder)) as gateway:
        _works(gateway)
        _told(gateway.call("GET", "/conversations"), "file")
        _told(gateway.call("POST", "/conversations", {}), "file")
        lines = gateway.server.output.splitlines()

    assert sum("serving at" in line for line in lines) == 1
    assert sum(str(folder) in line for line in lines) == 1


def test_s9_folder_that_is_read_only(tmp_path: Path) -> None:
    """The same for a folder without write permission; given that, it works without a restart."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere; the test before this one has a folder that is none instead")
    tmp_path.chmod(0o500)
    try:
        with serving("--data", str(tmp_path)) as gateway:
            _works(gateway)
            _told(gateway.call("POST", "/conversations", {}), "writ")
            tmp_path.chmod(0o700)
            assert gateway.call("POST", "/conversations", {}).status == 201
    finally:
        tmp_path.chmod(0o700)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of two megabytes."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk; the store's tests limit the file instead")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_s9_disk_that_is_full(tiny: Path) -> None:
    """The answer goes on to its end for its readers; once there is space, the next turn is kept."""
    with serving("--on-leave", "continue", data=tiny) as gateway:
        talk = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
        gateway.upstream.script(say("x" * 100_000), hold(), say("y" * 400_000), path="/api/chat")
        turn = gateway.call("POST", f"{talk}/turns", {"content": "hi"}).json
        with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
            reader.until(b"xxx")
            ballast = tiny / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(b"x" * 4096):
                    pass
            gateway.upstream.release()
            assert reader.all()[-1].type == "ended"
        _told(gateway.call("POST", f"{talk}/turns", {"content": "z" * 100_000}), "full")
        _works(gateway)
        assert gateway.server.output.count("the disk is full") == 1
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", str(tiny)], check=True)
        while (message := gateway.call("GET", talk).json["messages"][-1])["state"] == "running":
            pass

    assert message["content"] == "x" * 100_000 + "y" * 400_000


def test_s9_file_that_is_damaged(tmp_path: Path) -> None:
    """It is set aside, never deleted; a new one is begun, and it is told once where the old one is."""
    (tmp_path / FILE).write_bytes(b"this is no database" * 1000)
    with serving(data=tmp_path) as gateway:
        assert gateway.call("POST", "/conversations", {"title": "new"}).status == 201
        output = gateway.server.output

    aside = [path.name for path in tmp_path.glob(f"{FILE}.corrupt-*")]
    assert len(aside) == 1
    assert output.count(aside[0]) >= 1


def test_s9_locked_when_the_server_stops(tmp_path: Path) -> None:
    """A lock that somebody keeps does not keep the server: it ends, and says that the last words are lost."""
    with serving("--drain", "0", "--on-leave", "continue", data=tmp_path) as gateway:
        talk = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
        gateway.upstream.script(say("Hel"), stall(), path="/api/chat")
        turn = gateway.call("POST", f"{talk}/turns", {"content": "hi"}).json
        with gateway.read(f"/runs/{turn['run']['id']}/events") as reader:
            reader.until(b'"Hel"')
            gateway.call("GET", talk)
            with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                gateway.server.process.terminate()
                assert json.loads(reader.all()[-1].data)["reason"] == "server stopping"
                gateway.server.process.wait(PATIENCE)
        output = gateway.server.output
    with serving(data=tmp_path) as gateway:
        message = gateway.call("GET", talk).json["messages"][-1]

    assert "in time" in output
    assert (message["content"], message["state"]) == ("Hel", "interrupted")


def test_s9_a_full_disk_is_told_once(tmp_path: Path) -> None:
    """Though on a full disk small transactions succeed in between, it is told once and not again within minutes."""
    told: list[StoreError] = []
    database = Database(tmp_path / FILE, patience=1, report=told.append)

    async def run() -> None:
        for _ in range(3):
            database._failed(database._fault(13))
            async with database.writing():
                pass
        await database.close()

    asyncio.run(run())
    assert [error.reason for error in told] == ["full"]
