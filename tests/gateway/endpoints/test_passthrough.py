"""What an upstream's errors are to the gateway's own clients."""

from __future__ import annotations

import pytest

from tailrace.errors import BusyError, ModelNotFoundError, ResponseError
from tailrace.events import Ended, Fault, Outcome
from tailrace.gateway.endpoints.ollama_passthrough import to_problem
from tailrace.protocols.event_json import fault_of
from tailrace.protocols.problems import problem_of


@pytest.mark.parametrize(
    ("code", "ollama", "ours"),
    [(-1, 502, 502), (399, 502, 502), (400, 400, 400), (404, 404, 502), (500, 500, 502), (599, 599, 502)]
    + [(code, 502, 502) for code in (600, 777, 999)],
)
def test_u41_no_status_but_one_of_http(code: int, ollama: int, ours: int) -> None:
    """Ollama's clients get their server's status if it is one that a server can answer with, else 502; ours get 502."""
    error = ResponseError("no", code)

    assert to_problem("m")(error).status == ollama
    assert problem_of(error).status == ours


def test_u41_an_errors_own_default_is_for_errors_without_a_status() -> None:
    """What an endpoint answers where there is no status is no answer to a status beyond HTTP."""
    assert to_problem("m", 500)(ResponseError("no")).status == 500
    assert to_problem("m", 500)(ResponseError("no", 999)).status == 502
    assert to_problem("m")(ModelNotFoundError("no", 404)).status == 404
    assert to_problem("m")(BusyError("no", 429)).status == 429


@pytest.mark.parametrize(("code", "told"), [(404, 404), (599, 599), (777, 502)])
def test_u41_in_a_stream(code: int, told: int) -> None:
    """The same in what a run's readers are told."""
    ended = Ended(Outcome.FAILED, fault=Fault("ResponseError", "no", code))

    assert fault_of(ended)["status"] == told
