"""Lines: cut on LF bytes only, whatever the pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import cut_at, one_by_one, patient

from tailrace.protocols import faults
from tailrace.protocols.lines import LineSplitter


def lines_of(splitter: LineSplitter, pieces: list[bytes]) -> list[bytes]:
    return [line for piece in pieces for line in splitter.feed(piece)]


@pytest.mark.parametrize(
    ("data", "lines", "rest"),
    [
        (b"", [], b""),
        (b"a", [], b"a"),
        (b"a\n", [b"a"], b""),
        (b"a\nb", [b"a"], b"b"),
        (b"\n\na\n\n", [b"", b"", b"a", b""], b""),
        (b"a\r\nb\rc\n", [b"a\r", b"b\rc"], b""),
        ("a\u2028b\u0085c\u000bd\x1ce\n".encode(), ["a\u2028b\u0085c\u000bd\x1ce".encode()], b""),
        (b"\xe2\x80\n\xa8\n", [b"\xe2\x80", b"\xa8"], b""),
    ],
)
def test_cuts_on_lf_only(data: bytes, lines: list[bytes], rest: bytes) -> None:
    """A line ends at LF and at nothing else; what follows the last LF is the rest."""
    for pieces in ([data], one_by_one(data), [b"", data, b""]):
        splitter = LineSplitter()
        assert lines_of(splitter, pieces) == lines
        assert splitter.eof() == rest
        assert splitter.eof() == b""


@patient
@given(st.lists(st.binary(max_size=6) | st.just(b"\n"), max_size=30))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    """Whatever the pieces, lines and rest are those of the whole, and every byte is accounted for."""
    splitter = LineSplitter()
    data = b"".join(pieces)
    *expected, rest = data.split(b"\n")

    assert lines_of(splitter, pieces) == expected
    assert splitter.taken == sum(len(line) + 1 for line in expected)
    assert splitter.eof() == rest


@patient
@given(st.binary(max_size=40).map(lambda data: data.replace(b"b", b"\n")), st.lists(st.integers(0, 100), max_size=5))
def test_the_limit_does_not_depend_on_the_pieces(data: bytes, places: list[int]) -> None:
    """Lines before one that is too long come out; it and what follows do not, however the bytes come."""
    limit = 4
    expected: list[bytes] = []
    parts = data.split(b"\n")
    for line in parts[:-1]:
        if len(line) > limit:
            break
        expected.append(line)
    overflow = any(len(line) > limit for line in parts)
    splitter = LineSplitter(limit)

    assert lines_of(splitter, cut_at(data, places)) == expected
    assert splitter.overflow is overflow


def test_nothing_comes_after_an_overflow() -> None:
    """A line that outgrew the limit ends it: no later line, and no rest."""
    splitter = LineSplitter(4)

    assert splitter.feed(b"1234\n12345") == [b"1234"]
    assert splitter.overflow
    assert splitter.feed(b"\nok\n") == []
    assert splitter.eof() == b""


@pytest.mark.parametrize("value", [b'""', b"{}", b"1 ", b"[]"])
def test_c21_a_line_of_the_smallest_values(value: bytes) -> None:
    """It is refused where that can be known, not when all of them have been read; whole records are not."""
    with pytest.raises(ValueError, match=r"^1[01][0-9] values in "):
        faults.loads(value * 1_000_000)
    values, _ = faults.loads(b'{"message":{"content":"x"}}' * 5000)

    assert len(values) == 5000
