"""The interface as ``/openapi.json`` describes it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from starlette.routing import Route

from tailrace.gateway.app import TABLES, create_app
from tailrace.gateway.endpoint import Endpoints
from tailrace.gateway.openapi import document

ROOT = Path(__file__).resolve().parents[2]


def test_answers_are_as_described() -> None:
    """Every operation, with what schemathesis makes up for it: see `openapi_cases.py`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "schemathesis.pytest.plugin", "-q", "tests/gateway/openapi_cases.py"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
    )

    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed", done.stdout), done.stdout


def test_every_route_is_described() -> None:
    """The description leaves out no route but the page's own files and Ollama's blobs, which are bytes."""
    told = document(Endpoints(TABLES).all)["paths"]
    left_out = {"/", "/c/{id}", "/favicon.ico", "/static/{name:path}", "/words/{language}.json"}
    left_out |= {"/openapi.json", "/api/blobs/{digest}"}
    missing = {
        (method.lower(), route.path)
        for route in create_app().routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
        if method.lower() not in told.get(route.path.replace(":path", ""), {})
    }
    assert {path for _, path in missing} <= left_out, missing
