"""Record what a real server sends, with its timing, and play it back.

    with RecordingProxy("http://127.0.0.1:11434") as proxy:
        ...                                     # your program talks to proxy.url
        proxy.recording.save("chat.json")

    server.play(Recording.load("chat.json"))    # a FakeOllama or FakeOpenAI

Neither requests nor their headers are stored, so no key gets into a recording. The answers are, word for word.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tailrace.testing import steps

__all__ = ["Exchange", "Recording"]

_FORMAT = 1


@dataclass
class Exchange:
    """One answer.

    Attributes:
        method: The method of its request.
        path: The path of its request.
        pieces: What came, head and framing included: seconds since the piece before (or the request), and the bytes.
        ended: How the connection ended: `fin`, `rst`, or `left` if our client went away first.
    """

    method: str
    path: str
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: Literal["fin", "rst", "left"] = "left"

    def script(self, speed: float | None = None) -> tuple[steps.Step, ...]:
        """Return the steps that play this answer.

        Args:
            speed: 1 keeps the recorded gaps, 10 is ten times as fast; None leaves them out.
        """
        script: list[steps.Step] = []
        for gap, data in self.pieces:
            if speed is not None and gap > 0:
                script.append(steps.delay(gap / speed))
            script.append(steps.unframed(data))
        if self.ended == "rst":
            script.append(steps.rst())
        return tuple(script)


@dataclass
class Recording:
    """The answers of a server, in the order of their requests."""

    exchanges: list[Exchange] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file."""
        value = {"tailrace_recording": _FORMAT, "exchanges": [_to_json(exchange) for exchange in self.exchanges]}
        Path(path).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read it from a JSON file.

        Raises:
            ValueError: The file is no recording of this format.
        """
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict) or value.get("tailrace_recording") != _FORMAT:
            raise ValueError(f"{path} is no recording of format {_FORMAT}; make one with RecordingProxy")
        return cls([_from_json(exchange) for exchange in value["exchanges"]])


def _to_json(exchange: Exchange) -> dict[str, Any]:
    pieces = [[gap, _readable(data)] for gap, data in exchange.pieces]
    return {"method": exchange.method, "path": exchange.path, "ended": exchange.ended, "pieces": pieces}


def _readable(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:  # a character cut in two
        return {"base64": base64.b64encode(data).decode()}


def _from_json(value: dict[str, Any]) -> Exchange:
    pieces = [
        (gap, data.encode() if isinstance(data, str) else base64.b64decode(data["base64"]))
        for gap, data in value["pieces"]
    ]
    return Exchange(value["method"], value["path"], pieces, value["ended"])
