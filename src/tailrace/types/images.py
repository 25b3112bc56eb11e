"""Images: what people have them as, turned into the base64 of Ollama's wire."""

from __future__ import annotations

import base64
import binascii
import io
import re
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec

from tailrace.errors import RequestError

__all__ = ["Image"]

# First bytes of what the servers' "images" field carries: PNG, JPEG, GIF, WebP and WAV, BMP, TIFF, Ogg, FLAC, MP3.
_SIGNATURES = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*"),
    *(b"OggS", b"fLaC", b"ID3", b"\xff\xfb"),
)
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_DATA_URL = re.compile(r"data:[^,;]*(?:;[^,;]+)*;base64,", re.IGNORECASE)
_TAKEN = "an image is a path, bytes, base64 text, a data URL in base64, an open file or an image of Pillow's"


class Image(msgspec.Struct):
    """An image for a multimodal model.

    Attributes:
        value: a path, raw bytes, base64 text (with line ends or without), a data URL, a file open for reading bytes, or
            an image of Pillow's.
    """

    value: str | bytes | Path | Any

    def base64(self) -> str:
        """Returns the image as base64, the form of Ollama's wire.

        Raises:
            RequestError: the file is missing or no image, or the value is nothing that an image could be.
        """
        value = self.value
        if isinstance(value, Image):
            return value.base64()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _encoded(bytes(value))
        if isinstance(value, PathLike):
            return self._read(Path(value))
        if isinstance(value, str):
            return self._text(value)
        if callable(getattr(value, "read", None)):
            return _from_file(value)
        if callable(getattr(value, "save", None)) and isinstance(getattr(value, "mode", None), str):
            return _from_pillow(value)
        raise RequestError(f"{_TAKEN}, not {type(value).__name__}")

    def model_dump(self, **_: Any) -> str:
        """Returns the image as base64 (the name is pydantic's, for code written for ollama-python)."""
        return self.base64()

    def _text(self, value: str) -> str:
        head = _DATA_URL.match(value[:200])
        if head is not None:
            value = value[head.end() :]
        elif (path := _file_of(value)) is not None:
            return self._read(path)
        elif value.lower().endswith(_IMAGE_SUFFIXES) and not value.startswith(("http://", "https://")):
            raise RequestError(f"File {value} does not exist")
        shown = value if len(value) <= 40 else value[:37] + "..."
        if value.startswith(("http://", "https://")):
            raise RequestError(f"no image is fetched from {shown!r}: {_TAKEN}", hint="fetch it, and give its bytes")
        plain = "".join(value.split())
        try:
            data = base64.b64decode(plain, validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(
                f"Invalid image data {shown!r}: expected a path to an image file, bytes or base64"
            ) from None
        if not data:
            raise RequestError(f"an image is empty: {_TAKEN}")
        return plain

    @staticmethod
    def _read(path: Path) -> str:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise RequestError(f"Cannot read image {path}: {error.strerror or error}") from error
        if not data.startswith(_SIGNATURES) and data[4:8] != b"ftyp":  # ftyp: HEIC, AVIF, MP4 audio
            raise RequestError(f"{path} is not an image: expected PNG, JPEG, WebP, GIF or BMP")
        return base64.b64encode(data).decode()


def _file_of(text: str) -> Path | None:
    try:
        return Path(text) if len(text) < 4096 and text and Path(text).exists() else None
    except (OSError, ValueError):
        return None  # long base64 is not a valid path


def _encoded(data: bytes) -> str:
    if not data:
        raise RequestError(f"an image is empty: {_TAKEN}")
    return base64.b64encode(data).decode()


def _from_file(file: Any) -> str:
    data = file.read()
    if not isinstance(data, (bytes, bytearray)):
        raise RequestError(f"a file of an image is opened with mode 'rb', not as text: {_TAKEN}")
    return _encoded(bytes(data))


def _from_pillow(image: Any) -> str:
    """PNG loses nothing; what it has no form for (CMYK, Lab) becomes RGB."""
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        image = image.convert("RGB")
    data = io.BytesIO()
    image.save(data, "PNG")
    return _encoded(data.getvalue())
