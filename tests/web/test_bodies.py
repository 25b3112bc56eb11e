"""The limit of a request's body, by its own word and as it comes, and what it says that it is."""

from __future__ import annotations

import pytest

from tailrace.protocols.problems import ProblemError
from tailrace.web.bodies import Body, check_media_type


def test_a_body_within_its_limit_is_whole() -> None:
    """To the last byte; a length that is none says nothing."""
    for length in ("", "4", "-1", "x", "٣"):
        body = Body(4, length)
        for part in (b"ab", b"", b"cd"):
            body.add(part)
        assert (body.size, body.take(), body.take()) == (4, b"abcd", b"")


@pytest.mark.parametrize("length", ["5", "99999999999999999999999999"])
def test_one_that_says_it_is_too_large_is_not_read(length: str) -> None:
    """It is refused before any of it comes."""
    with pytest.raises(ProblemError) as caught:
        Body(4, length)
    assert caught.value.status == 413


@pytest.mark.parametrize(("close", "headers"), [(True, {"Connection": "close"}), (False, {})])
def test_one_that_turns_out_too_large_is_refused(close: bool, headers: dict[str, str]) -> None:
    """With the byte that is too many; the connection is closed where that may be asked for."""
    body = Body(4, close=close)
    body.add(b"abcd")
    with pytest.raises(ProblemError) as caught:
        body.add(b"e")
    assert (caught.value.status, caught.value.headers, body.size) == (413, headers, 5)


@pytest.mark.parametrize(
    "kind", ["", "application/json", "Application/JSON; charset=utf-8", "application/problem+json"]
)
def test_json_is_taken(kind: str) -> None:
    """In every form that its name has; where nothing is said, JSON is meant."""
    check_media_type(kind)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_media_types_are_refused(kind: str) -> None:
    """With 415, and what to send."""
    with pytest.raises(ProblemError) as caught:
        check_media_type(kind)
    assert (caught.value.status, kind in str(caught.value)) == (415, True)
