"""What the package exports, and that importing it does nothing."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tailrace

SOURCE = Path(tailrace.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
# Programs, whose import is their run, and what needs an extra that is not here.
PROGRAMS = {"tailrace.__main__", "tailrace.backends.embedded._child"}
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(tailrace.__path__, "tailrace.")
    if info.name not in PROGRAMS and not info.name.startswith(("tailrace.cli", "tailrace.terminal"))
)


def exported(name: str) -> list[str] | None:
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    return None if names is None else list(names)


def tree(name: str) -> ast.Module:
    path = SOURCE.joinpath(*name.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text("utf-8"))


def defined(name: str) -> set[str]:
    """Public classes and functions that a module defines itself, at its top level."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree(name).body if isinstance(node, kinds) and not node.name.startswith("_")}


@pytest.mark.parametrize("name", ["tailrace", *MODULES])
def test_all_is_right(name: str) -> None:
    """What a module exports is there, once, sorted: constants, classes, functions. Modules with content export some."""
    names = exported(name)
    if names is None:
        assert defined(name) == set()
        return

    module = importlib.import_module(name)
    assert [entry for entry in names if not hasattr(module, entry)] == []
    assert names == sorted(set(names), key=lambda entry: (not entry.isupper(), not entry[0].isupper(), entry))


def test_the_package_exports_what_it_imports() -> None:
    """Whatever public name the package has is in its ``__all__``, sorted, and nothing else."""
    body = tree("tailrace._public")
    imported = {
        alias.asname or alias.name
        for node in body.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tailrace")
        for alias in node.names
    }
    functions = {
        target.id
        for node in ast.walk(body)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and not target.id.startswith("_")
    }
    assert set(tailrace.__all__) == (imported | functions) - {"method"}
    assert tailrace.__all__ == importlib.import_module("tailrace._public").__all__ == sorted(tailrace.__all__)


def test_no_module_hides_a_public_name() -> None:
    """No module of the package has the name of something public, which its import would replace."""
    assert {info.name for info in pkgutil.iter_modules(tailrace.__path__)} & set(tailrace.__all__) == set()


def test_names_that_are_none() -> None:
    """A name that the package does not have is an AttributeError that says so; `dir` tells the names it has."""
    for name in ("no_such_name", "_private", "__wrapped__"):
        assert not hasattr(tailrace, name)
    with pytest.raises(AttributeError, match="module 'tailrace' has no attribute 'no_such_name'"):
        tailrace.no_such_name  # type: ignore[attr-defined]  # noqa: B018
    assert dir(tailrace) == tailrace.__all__


def test_every_error_is_exported() -> None:
    """Every class of the tree of errors is the package's as well."""
    errors = importlib.import_module("tailrace.errors")
    assert {name for name in errors.__all__ if getattr(tailrace, name, None) is not getattr(errors, name)} == set()
    assert set(errors.__all__) == defined("tailrace.errors")


def test_every_event_is_exported() -> None:
    """Every event and what it holds is the package's as well."""
    events = importlib.import_module("tailrace.events")
    assert {name for name in events.__all__ if getattr(tailrace, name, None) is not getattr(events, name)} == set()


@pytest.mark.parametrize("name", ["errors", "events", "types"])
def test_the_tree_in_the_docstring(name: str) -> None:
    """Everything in these modules has a docstring: they are read as documentation."""
    body = tree(f"tailrace.{name}").body
    classes = [node for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    assert [node.name for node in classes if not ast.get_docstring(node)] == []


def test_the_drawn_tree_of_errors_is_the_real_one() -> None:
    """The tree drawn at the top of the errors module names every class, each below its base."""
    errors = importlib.import_module("tailrace.errors")
    above: list[tuple[int, str]] = []
    drawn: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip(" │├└─").split(" ")[0]
        if name not in errors.__all__:
            continue
        indent = line.index(name)
        above = [(at, base) for at, base in above if at < indent]
        drawn[name] = above[-1][1] if above else "Exception"
        above.append((indent, name))

    assert drawn == {name: getattr(errors, name).__mro__[1].__name__ for name in errors.__all__}


# -- what is public --------------------------------------------------------------------------------------------------


def public_modules() -> set[str]:
    """The modules that docs/public.md lists."""
    page = (ROOT / "docs" / "public.md").read_text(encoding="utf-8")
    return set(re.findall(r"^- `(tailrace[\w.]*)`: ", page, re.MULTILINE))


def test_the_public_surface_is_the_recorded_one() -> None:
    """The public names, their signatures and their members are those that the repository records and lists."""
    written = subprocess.run([sys.executable, str(ROOT / "docs" / "public_api.py"), "--check"], check=False)

    assert written.returncode == 0, "if the change is meant, run: python docs/public_api.py"


@pytest.mark.parametrize("client", [tailrace.Client, tailrace.AsyncClient])
def test_the_clients_document_their_arguments(client: type) -> None:
    """`help` of a client explains each argument, in the same words for both."""
    section = re.compile(r"^Args:\n((?: +.*\n)+)", re.MULTILINE)
    here, there = (section.search(inspect.getdoc(each) or "") for each in (client, tailrace.Client))
    assert here is not None
    assert there is not None

    assert list(inspect.signature(client).parameters) == re.findall(r"^ {4}(\w+):", here[1], re.MULTILINE)
    assert there[1] == here[1]


def internal(name: str) -> bool:
    """Whether a module has an underscore, or it or a package around it says that it is internal."""
    parts = name.split(".")
    around = [".".join(parts[:count]) for count in range(2, len(parts) + 1)]
    return any(part.startswith("_") for part in parts) or any(
        re.search(r"^Internal\b", ast.get_docstring(tree(each)) or "", re.MULTILINE) for each in around
    )


@pytest.mark.parametrize("name", [info.name for info in pkgutil.walk_packages(tailrace.__path__, "tailrace.")])
def test_each_module_is_public_or_says_that_it_is_internal(name: str) -> None:
    """No module is neither listed as public nor marked as internal; and of those listed, each exists."""
    assert public_modules() - {"tailrace", *MODULES} == set()
    assert name in public_modules() or internal(name)


@pytest.mark.parametrize(
    "page", ["README.md", "docs/fastapi.md", "docs/flask.md", "docs/gateway.md", "docs/testing.md"]
)
def test_the_documents_use_what_is_public(page: str) -> None:
    """What users are shown is imported from public modules only."""
    text = (ROOT / page).read_text(encoding="utf-8")
    imported = set(re.findall(r"^ *(?:from|import) (tailrace[\w.]*)", text, re.MULTILINE))

    assert imported - public_modules() == set()


def test_the_examples_use_what_is_public() -> None:
    """So do the examples."""
    imported = {
        node.module or ""
        for path in (ROOT / "examples").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
    }

    assert {name for name in imported if name.split(".")[0] == "tailrace"} - public_modules() == set()


# -- importing does nothing ------------------------------------------------------------------------------------------

WATCHED = """
import sys, threading, logging, socket, asyncio, atexit

def refuse(*args, **kwargs):
    raise SystemExit("importing tailrace opened a socket or made an event loop")

class Refused(socket.socket):
    def __init__(self, *args, **kwargs):
        refuse()

asyncio.new_event_loop = asyncio.get_event_loop = refuse
real, socket.socket = socket.socket, Refused
handlers, level, threads = list(logging.root.handlers), logging.root.level, threading.enumerate()
import {module}
socket.socket = real
assert threading.enumerate() == threads, threading.enumerate()
assert (logging.root.handlers, logging.root.level) == (handlers, level), logging.root.handlers
assert logging.getLogger("tailrace").handlers == []
if {module!r} == "tailrace._public":
    from tailrace.client import default, portal
    assert default._client is None, "importing made a client"
    assert portal._portal is None, "importing started the background loop"
print(*sorted(name.partition(".")[0] for name in sys.modules))
"""
HEAVY = {
    *("httptools", "rich", "click", "xllamacpp", "httpx", "pydantic", "ollama", "openai", "pytest", "prompt_toolkit"),
    *("sqlalchemy", "aiosqlite"),
}


def run(code: str, *flags: str) -> str:
    """Runs code in a fresh interpreter without site's extras of the developer; returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA", "TAILRACE"))}
    environment |= {"PYTHONPATH": str(SOURCE.parent), "OLLAMA_HOST": "http://no.such.host.invalid"}
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=SOURCE.parent.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    "module", ["tailrace", "tailrace._public", "tailrace.errors", "tailrace.testing", "tailrace.testing.plugin"]
)
def test_importing_does_nothing(module: str) -> None:
    """Importing starts no thread, opens no socket, makes no client and no event loop, and leaves logging alone."""
    loaded = set(run(WATCHED.format(module=module)).split())

    assert loaded & (HEAVY - {"pytest"} if module == "tailrace.testing.plugin" else HEAVY) == set()


def test_importing_prints_nothing_and_knows_its_version() -> None:
    """A fresh import prints nothing, not even with warnings on, and there is a version."""
    assert run("import tailrace; print(tailrace.__version__)", "-X", "dev") == f"{tailrace.__version__}\n"


def test_a_star_import_brings_the_exported_names() -> None:
    """``from tailrace import *`` brings exactly what is exported."""
    code = "before = set(dir()) | {'before'}\nfrom tailrace import *\nprint(*sorted(set(dir()) - before))"

    assert run(code).split() == tailrace.__all__


def test_making_a_client_starts_nothing() -> None:
    """Not even a client starts a thread; the background loop comes with the first call."""
    code = (
        "import threading, tailrace\n"
        "tailrace.Client(); tailrace.AsyncClient(); tailrace.default_client()\n"
        "stream = tailrace.chat('m', [], stream=True)\n"
        "print(len(threading.enumerate()), stream.outcome)"
    )
    assert run(code) == "1 None\n"
