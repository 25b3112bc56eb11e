"""A fixed sample of a matrix for the quick run; the rest of it is marked `long`.

@pytest.mark.parametrize("server", sampled(SERVERS, "gunicorn"))
@pytest.mark.parametrize(("head", "unit"), diagonal(HEADS, UNITS))
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from _pytest.mark import ParameterSet


def sampled(values: Iterable[Any], *quick: Any) -> list[ParameterSet]:
    """Returns every value as a parameter; those that are not named after them are `long`."""
    return [pytest.param(value, marks=() if value in quick else pytest.mark.long) for value in values]


def diagonal(first: Sequence[Any], second: Sequence[Any]) -> list[ParameterSet]:
    """Returns every pair of two lists; quick are those that have each value of the longer list once."""
    most = min(len(first), len(second))
    return [
        pytest.param(one, other, marks=() if place % most == number % most else pytest.mark.long)
        for place, one in enumerate(first)
        for number, other in enumerate(second)
    ]
