"""Bodies that are packed, unpacked whole, byte by byte, and with bytes left over."""

from __future__ import annotations

import gzip
import zlib

import pytest

from tailrace.errors import ProtocolError
from tailrace.transport.decompress import Inflater, inflater

TEXT = b'{"message":{"content":"\xe6\x98\xa5"}}\n' * 50
PACKED = {"gzip": gzip.compress(TEXT), "x-gzip": gzip.compress(TEXT), " Deflate ": zlib.compress(TEXT)}


def made(encoding: str) -> Inflater:
    one = inflater(encoding, "http://server")
    assert one is not None
    return one


def unpacked(one: Inflater, pieces: list[bytes]) -> bytes:
    out = b""
    for piece in pieces:
        out += one.feed(piece)
        while one.rest:
            out += one.take()
    return out + one.eof()


@pytest.mark.parametrize("encoding", PACKED)
def test_every_way(encoding: str) -> None:
    """What is packed comes out whole, however it was cut."""
    data = PACKED[encoding]

    assert unpacked(made(encoding), [data]) == TEXT
    assert unpacked(made(encoding), [data[at : at + 1] for at in range(len(data))]) == TEXT
    for cut in range(1, len(data)):
        assert unpacked(made(encoding), [data[:cut], data[cut:]]) == TEXT


def test_members_that_follow_each_other() -> None:
    """A body of several gzip members is the texts of all of them, in one piece or in many."""
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")

    assert unpacked(made("gzip"), [data]) == b"onetwo"
    assert unpacked(made("gzip"), [data[at : at + 1] for at in range(len(data))]) == b"onetwo"


def test_a_piece_at_a_time() -> None:
    """Much that is packed into little comes out in pieces, and waits in packed form."""
    one = made("gzip")

    first = one.feed(gzip.compress(bytes(1024 * 1024)))

    assert len(first) == 256 * 1024
    assert one.rest
    assert one.pending
    assert first + unpacked(one, [one.rest]) == bytes(1024 * 1024)
    assert not one.pending


def test_bytes_left_over() -> None:
    """Bytes after the last member are no member, and are called so."""
    with pytest.raises(ProtocolError, match="bytes that do not unpack"):
        unpacked(made("gzip"), [gzip.compress(b"all") + b"left over"])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_not_packed(encoding: str) -> None:
    """A body that is not packed as its headers say is an error of the server."""
    with pytest.raises(ProtocolError, match="http://server sent bytes that do not unpack"):
        unpacked(made(encoding), [TEXT])


def test_a_bomb() -> None:
    """A body that grows a thousandfold, and to more than 16 MiB, is a bomb."""
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(64)) + packer.flush()

    with pytest.raises(ProtocolError, match="http://server sent a decompression bomb"):
        unpacked(made("deflate"), [bomb])


@pytest.mark.parametrize("encoding", ["", " ", "identity", "Identity"])
def test_what_needs_no_unpacking(encoding: str) -> None:
    """A body that is not packed is none of our business."""
    assert inflater(encoding, "http://server") is None


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br"])
def test_packed_as_nobody_asked(encoding: str) -> None:
    """Another packing is an error that names it."""
    with pytest.raises(ProtocolError, match="nobody asked for") as caught:
        inflater(encoding, "http://server")
    assert repr(encoding) in str(caught.value)
