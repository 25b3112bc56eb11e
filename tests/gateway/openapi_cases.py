"""The interface as ``/openapi.json`` describes it, held against the server with requests that schemathesis makes up.

Whatever is asked, there is no status that is not described, least of all one of the server's own faults, and each
answer is of the form that is told for it. `test_openapi.py` runs this, in a process of its own: schemathesis makes up
its requests while tests are collected, which everybody would wait for who runs any other test.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis.checks import CHECKS
from tests.gateway.serving import Gateway, serving

from tailrace.gateway.app import TABLES
from tailrace.gateway.endpoint import Endpoints
from tailrace.gateway.openapi import document
from tailrace.testing import FakeOllama

EXAMPLES = 12  # requests to each operation: more find more, and take longer
LIMIT = 20.0  # seconds that an answer may take

schema = schemathesis.openapi.from_dict(document(Endpoints(TABLES).all))
checks = CHECKS.get_by_names(["status_code_conformance", "content_type_conformance", "response_schema_conformance"])


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One whose model server has every model, and answers at once."""
    with FakeOllama() as upstream, serving("--max-context", "4096", upstream=upstream) as running:
        yield running


@pytest.fixture(scope="module")
def ids(gateway: Gateway) -> dict[str, Iterator[str]]:
    """Ids of what there is, in turns with what there is not."""
    run = gateway.call("POST", "/runs", {"model": "m", "message": "hi"}).json["id"]
    talk = gateway.call("POST", "/conversations", {"title": "Kept"}).json["id"]
    gateway.call("POST", "/ai/chat", {"id": "kept", "messages": [{"role": "user", "parts": []}], "model": "m"})
    there = {"/runs": run, "/conversations": talk, "/ai": "kept", "/v1": run}
    return {root: itertools.cycle([id, "no-such-id", id, "run_0"]) for root, id in there.items()}


@schema.parametrize()
@hypothesis.settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
def test_answers_are_as_described(case: Any, gateway: Gateway, ids: dict[str, Iterator[str]]) -> None:
    """Every operation, with bodies, parameters and headers of the forms that are told, and of others."""
    if "id" in (case.path_parameters or {}):
        case.path_parameters["id"] = next(ids["/" + case.path.split("/")[1]])
    response = case.call(base_url=gateway.url, timeout=LIMIT)
    case.validate_response(response, checks=checks)
