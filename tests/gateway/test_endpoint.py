"""What is derived from the tables of endpoints: which one a request is for, who may ask, in what form errors come."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Match

from tailrace.gateway.app import TABLES, WITHOUT_PAGE
from tailrace.gateway.endpoint import Endpoint, Endpoints, EndpointTable
from tailrace.gateway.error_form import PROBLEM
from tailrace.gateway.openapi import document

ALL = Endpoints(TABLES)
FORMS = {"/v1": "application/json", "/api": "application/json; charset=utf-8", "/ai": "text/plain; charset=utf-8"}


def scope_of(method: str, path: str) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "headers": []}


def find(method: str, path: str) -> Endpoint:
    return ALL.find(scope_of(method, path))


@pytest.mark.parametrize("endpoint", ALL.all, ids=lambda each: f"{each.method} {each.path}")
def test_each_is_found(endpoint: Endpoint) -> None:
    """By its method and a path of its form; a GET by HEAD as well."""
    path = endpoint.path.replace("{id:path}", "a/b").replace("{name:path}", "a/b").replace("{", "").replace("}", "")

    assert find(endpoint.method, path) is endpoint
    if endpoint.method == "GET":
        assert find("HEAD", path) is endpoint


def test_parameters_of_the_path_are_in_the_scope() -> None:
    """With other methods too."""
    for method in ("GET", "PUT"):
        scope = scope_of(method, "/runs/run_1/events")
        assert ALL.find(scope).path == "/runs/{id}/events"
        assert scope["path_params"] == {"id": "run_1"}


@pytest.mark.parametrize(
    "path", ["/api/pull", "/api/pull\n", "/healthz\n", "/static/x\n", "//runs", "*", "", "/", "/RUNS"]
)
@pytest.mark.parametrize("root", ["", "/mounted"])
def test_what_is_found_is_what_the_router_answers_with(path: str, root: str) -> None:
    """Else a request could pass the access check as one endpoint, and be answered by another."""
    scope = {**scope_of("POST", root + path), "root_path": root}
    matching = [route for route in ALL.routes if route.matches(scope)[0] is not Match.NONE]
    found = ALL.find(scope)

    assert (found.path in {route.path for route in matching}) is bool(matching)


def test_each_begins_with_a_word() -> None:
    """By which it is looked for."""
    assert not [each.path for each in ALL.all if "{" in each.path[1:].partition("/")[0]]


def test_no_two_rows_are_for_one_request() -> None:
    """A method of a path stands once, with the page and without."""
    for tables in (TABLES, WITHOUT_PAGE):
        rows = [(each.method, each.path) for each in Endpoints(tables).all]
        assert len(rows) == len(set(rows))


def test_open_and_admin_are_these_and_no_others() -> None:
    """What needs no key, and what changes models."""
    by_access: dict[str, set[str]] = {}
    for each in ALL.all:
        by_access.setdefault(each.access, set()).add(f"{each.method} {each.path}")

    pages = {"GET /", "GET /c/{id}", "GET /favicon.ico", "GET /static/{name:path}", "GET /words/{language}.json"}
    assert by_access["open"] == {"GET /healthz", *pages}
    assert by_access["admin"] == {
        *(f"POST /api/{name}" for name in ("pull", "push", "create", "copy", "blobs/{digest}")),
        "DELETE /api/delete",
    }
    assert find("GET", "/nowhere").access == find("GET", "/static").access == "key"


@pytest.mark.parametrize("root", ["/v1", "/api", "/ai"])
def test_what_a_protocol_does_not_have_is_refused_in_its_form(root: str) -> None:
    """Below its root, and the root itself; not what merely begins with the same letters."""
    for path in (root, f"{root}/", f"{root}/nothing", f"{root}/a/b"):
        assert find("GET", path).error_form.media_type == FORMS[root]
    assert find("GET", f"{root}x").error_form is PROBLEM


def test_a_row_may_have_another_form_than_its_table() -> None:
    """Ollama's `/v1/systemone` stands in its table, and answers as what is below ``/v1`` does."""
    assert find("POST", "/v1/systemone").error_form is find("GET", "/v1/models").error_form
    assert find("PUT", "/runs").error_form is PROBLEM


def test_a_new_row_is_routed_described_and_checked() -> None:
    """One value is all that an endpoint takes."""

    async def handler(_request: object) -> Any:
        raise AssertionError

    new = Endpoint("GET", "/new/{id}", handler, "Something new.", gives=dict, access="open", node="all")
    endpoints = Endpoints([EndpointTable((new,))])

    assert [(route.path, route.methods) for route in endpoints.routes] == [("/new/{id}", {"GET", "HEAD"})]
    assert endpoints.methods(scope_of("PUT", "/new/1")) == {"GET", "HEAD", "OPTIONS"}
    assert list(document(endpoints.all)["paths"]) == ["/new/{id}"]
    assert endpoints.find(scope_of("GET", "/new/1")) == new


def test_without_the_page_nothing_of_it_is_there() -> None:
    """Neither its files nor its conversations; the root greets Ollama's clients."""
    paths = {each.path for each in Endpoints(WITHOUT_PAGE).all}

    assert "/" in paths
    assert not {path for path in paths if path.startswith(("/conversations", "/static", "/c/", "/words"))}
    assert "/conversations" not in document(Endpoints(WITHOUT_PAGE).all)["paths"]
