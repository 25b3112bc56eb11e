"""The chat page in Chromium, on a gateway of its own process, on a model server that does as the test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.browser import Browser
from tests.page.chat import Chat
from tests.page.gateway import Gateway

from tailrace.testing import FakeOllama, closed_port

MODELS = ["m", "other"]


@pytest.fixture(scope="session")
def upstream_port() -> int:
    """A port for the model server, the same for all tests on one gateway."""
    return closed_port()


@pytest.fixture
def upstream(upstream_port: int) -> Iterator[FakeOllama]:
    """The model server: each test has its own."""
    with FakeOllama(models=MODELS, port=upstream_port) as server:
        yield server


@pytest.fixture(scope="session")
def running_gateway(upstream_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The gateway of all tests that need none of their own."""
    with Gateway(f"http://127.0.0.1:{upstream_port}", tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(running_gateway: Gateway) -> Gateway:
    """A gateway for the tests of a module, empty at first; what they do stays apart in conversations of their own."""
    running_gateway.empty()
    return running_gateway


@pytest.fixture
def empty_gateway(gateway: Gateway) -> Gateway:
    """The gateway, with no conversations."""
    gateway.empty()
    return gateway


@pytest.fixture
def own_gateway(upstream: FakeOllama, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway for one test alone, which may do with it what it likes."""
    with Gateway(upstream.url, tmp_path) as running:
        yield running


Open = Callable[..., Chat]


@pytest.fixture
def open_chat(browser: Browser) -> Iterator[Open]:
    """Opens the page in a new profile. At the end none of them may have complained, or have asked anybody else."""
    with ExitStack() as stack:
        opened: list[tuple[Chat, bool]] = []

        def open_one(url: str, path: str = "/", *, troubled: bool = False, script: str = "", **context: Any) -> Chat:
            seen = stack.enter_context(browser.page(**{"locale": "en-US", **context}))
            chat = Chat(seen, url)
            if script:
                chat.page.add_init_script(script)
            opened.append((chat, troubled))
            return chat.open(path)

        yield open_one
        for chat, troubled in opened:
            assert chat.seen.elsewhere(chat.url) == []
            assert troubled or chat.seen.complaints == []


@pytest.fixture
def chat(open_chat: Open, gateway: Gateway, upstream: FakeOllama) -> Chat:
    """The page, in English, on a screen of usual size."""
    return open_chat(gateway.url)
