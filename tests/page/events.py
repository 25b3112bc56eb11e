"""What the gateway may say of a run, said by a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from playwright.sync_api import Route


def of_run(events: Sequence[tuple[str, Any]]) -> Callable[[Route], None]:
    """Answers a request for a run's events with these: names and what is told with them."""
    lines = [
        f"id: {number}-00000000\nevent: {name}\n{_data(data)}\n\n" for number, (name, data) in enumerate(events, 1)
    ]
    body = "retry: 500\n\n" + "".join(lines)

    def answer(route: Route) -> None:
        route.fulfill(status=200, headers={"Content-Type": "text/event-stream"}, body=body)

    return answer


def _data(data: Any) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return "\n".join(f"data: {line}" for line in text.split("\n"))
