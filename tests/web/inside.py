"""uvicorn in a thread of the test's own process, for tests that look at what is behind the server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from tests.web.reader import PATIENCE


@contextlib.contextmanager
def inside(app: Any) -> Iterator[str]:
    """Serves an application; yields its address."""
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5, ws="none")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as sock:

        def serve() -> None:
            server.run(sockets=[sock])

        thread = threading.Thread(target=serve, name="uvicorn", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()
