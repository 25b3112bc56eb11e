"""API keys: who a request comes from. Only digests are kept, and they are compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from pathlib import Path

from tailrace.errors import RequestError

__all__ = ["Keys"]

_NAMED = re.compile(r"([A-Za-z0-9][\w.@-]{0,63}):(.+)", re.ASCII)
_KEY = re.compile(r"[!-~]+")  # what a header can carry, whatever a client makes of other letters
_SHORTEST = 8


class Keys:
    """The keys that open the gateway; none: it is open to whoever reaches it.

    Args:
        given: keys, each alone or as ``name:key``. Several may have one name: a key and the one that replaces it.
            One without a name has one that is made from it, so that what belongs to it stays its own when others come
            and go.

    Raises:
        RequestError: one is too short to be a secret, or holds what no header can carry.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._known: list[tuple[bytes, str]] = []
        for number, text in enumerate(given, 1):
            named = _NAMED.fullmatch(text.strip())
            name, key = (named[1], named[2].strip()) if named else ("", text.strip())
            shown = name or f"number {number}"
            if _KEY.fullmatch(key) is None:
                raise RequestError(f"the API key {shown} holds other characters than visible ASCII")
            if len(key) < _SHORTEST:
                raise RequestError(f"the API key {shown} is shorter than {_SHORTEST} characters")
            digest = _digest(key)
            self._known.append((digest, name or f"key-{digest.hex()[:8]}"))

    @classmethod
    def read(cls, path: Path, given: Iterable[str] = ()) -> Keys:
        """Returns the keys of a file, one a line, ``#`` begins a comment; and further ones.

        Raises:
            RequestError: it cannot be read, or holds none.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise RequestError(f"cannot read the API keys in {path}: {reason}") from error
        found = [text for line in lines if (text := line.strip()) and not text.startswith("#")]
        if not found:
            raise RequestError(f"{path} holds no API key", hint="write one a line, as NAME:KEY")
        return cls([*found, *given])

    def __bool__(self) -> bool:
        return bool(self._known)

    def __repr__(self) -> str:
        return f"<Keys of {', '.join(sorted(self.names)) or 'nobody'}>"

    @property
    def names(self) -> frozenset[str]:
        """The names of all keys."""
        return frozenset(name for _, name in self._known)

    def name_of(self, key: str) -> str | None:
        """Returns whose key this is; None if nobody's. Takes as long for a wrong one as for a right one."""
        digest = _digest(key)
        found = None
        for known, name in self._known:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
