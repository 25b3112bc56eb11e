"""Observers: what they raise is theirs."""

from __future__ import annotations

import logging

import pytest

from tailrace.run.run import _watching


def test_faults_of_an_observer_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What an observer raises is logged, with its cause, and goes no further."""

    def fail() -> None:
        raise ValueError("mine")

    with caplog.at_level(logging.ERROR), _watching():
        fail()

    (record,) = caplog.records
    assert record.getMessage() == "an observer of a run failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "mine"


def test_an_interrupt_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Ctrl-C goes through: it was not the observer's to keep."""
    with pytest.raises(KeyboardInterrupt), _watching():
        raise KeyboardInterrupt

    assert not caplog.records
