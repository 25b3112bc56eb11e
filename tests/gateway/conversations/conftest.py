"""A store of its own for each test, and what it reports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tailrace.errors import StoreError
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.writer import ConversationWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "data" / "conversations.db"


@pytest.fixture
def reports() -> list[StoreError]:
    """What the store of the test reports."""
    return []


@pytest.fixture
async def store(path: Path, reports: list[StoreError]) -> AsyncIterator[Store]:
    """A store of its own."""
    async with Store(path, patience=60, report=reports.append) as store:
        yield store


@pytest.fixture
async def writer(store: Store) -> AsyncIterator[ConversationWriter]:
    """A writer that writes only when it is told to."""
    async with ConversationWriter(store, every=1e6) as writer:
        yield writer
