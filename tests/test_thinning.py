"""The quick run's sample of each matrix is there, and what is collected is the same in every process."""

from __future__ import annotations

import pytest
from tests.thinning import QUICK, is_long


@pytest.mark.parametrize("name", QUICK)
def test_each_entry_has_its_cases(name: str, request: pytest.FixtureRequest) -> None:
    """Every test that is named exists, and so does every case of it that is to be quick."""
    known = [item.nodeid.removeprefix("tests/") for item in request.session.items]
    if not any(item.startswith(name.partition("::")[0]) for item in known):
        pytest.skip("its file was not asked for")
    cases = [item for item in known if item.startswith((f"{name}[", f"{name}::")) or item == name]

    quick = QUICK[name]
    assert [one for one in quick if not any(not is_long(item) and one in item for item in cases)] == []


def test_names_are_the_same_in_every_process(request: pytest.FixtureRequest) -> None:
    """No test's id has an address of memory in it: the processes of one run could not share the tests out."""
    assert [item.nodeid for item in request.session.items if " at 0x" in item.nodeid] == []
