"""The launcher of a clone, in real processes. A small script stands in for uv and writes down what it is asked."""

import ast
import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYTHON = getattr(sys, "_base_executable", sys.executable)  # as a newcomer has it, outside any .venv
Done = subprocess.CompletedProcess[str]
posix = pytest.mark.skipif(os.name == "nt", reason="the stand-in for uv is a script with a #! line")

FAKE_UV = f"""\
#!{PYTHON}
import json, os, sys
from pathlib import Path

here = Path(__file__).parent
with open(here / "calls", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if "UV_HANG" in os.environ:
    open(os.environ["UV_HANG"], "w").close()
    import time
    time.sleep(60)
if "UV_FAIL" in os.environ:
    sys.exit("no way to the index")
bin = Path(sys.argv[sys.argv.index("--python") + 1]).parent
site = next(bin.parent.glob("lib/python3.*/site-packages"))
for name, body in {{
    "tailrace": "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd()])); sys.exit(7)",
    "pytest": (here / "pytest.py").read_text(),
}}.items():
    (site / name).mkdir(exist_ok=True)
    (site / name / "__main__.py").write_text(body)
for name in ("ruff", "mypy", "lint-imports"):
    (bin / name).write_text(f"#!/bin/sh\\nexit ${{{{{{name[:4].upper()}}_EXIT:-0}}}}")
    (bin / name).chmod(0o755)
"""

FAKE_PYTEST = """\
import os, sys, time
if "PYTEST_HANG" in os.environ:
    try:
        os.close(os.open(os.environ["PYTEST_HANG"], os.O_WRONLY))  # `open` may lose a Ctrl-C: it clears errors within
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)  # longer than subprocess.call() would grant
        print("cleaned up")
        sys.exit(2)
print("== 3 passed ==", *sys.argv[1:])
"""


class Clone:
    """A clone with nothing in it but what run.py looks at."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "a clöne 流"
        self.tools = tmp_path / "tools"
        self.env = {"PATH": f"{self.tools}{os.pathsep}{os.defpath}", "HOME": str(tmp_path), "PYTHONUTF8": "1"}
        (self.root / "requirements").mkdir(parents=True)
        (self.root / "src" / "tailrace").mkdir(parents=True)
        self.tools.mkdir()
        shutil.copy(ROOT / "run.py", self.root)
        for name in ("pyproject.toml", "requirements/pip.txt", "requirements/run.txt", "requirements/dev.txt"):
            (self.root / name).write_text("# one\n")
        (self.root / "src" / "tailrace" / "_version.py").write_text('__version__ = "1"\n')

    def command(self, *arguments: str) -> list[str]:
        return [PYTHON, str(self.root / "run.py"), *arguments]

    def run(self, *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> Done:
        return subprocess.run(
            self.command(*arguments),
            cwd=cwd or self.root.parent,
            env={**self.env, **(env or {})},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )

    def calls(self) -> list[str]:
        """What uv was asked for since the last look: `run`, `dev` or `project`."""
        file = self.tools / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        asked = [json.loads(line) for line in lines]
        return ["project" if "-e" in call else Path(call[call.index("-r") + 1]).stem for call in asked]

    @property
    def stamped(self) -> bool:
        return (self.root / ".venv" / "run.json").exists()

    def module(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("run_of_clone", self.root / "run.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def uv(clone: Clone) -> Clone:
    """A clone on a machine with (the stand-in for) uv."""
    tool = clone.tools / "uv"
    tool.write_text(FAKE_UV)
    tool.chmod(0o755)
    (clone.tools / "pytest.py").write_text(FAKE_PYTEST)
    return clone


@posix
def test_first_call_installs_and_the_second_does_nothing(uv: Clone) -> None:
    """One line on stderr the first time, silence after."""
    first = uv.run("chat", "hi")
    asked = uv.calls()
    second = uv.run("chat", "hi")

    assert asked == ["run", "project"]
    assert re.fullmatch(r"tailrace: Installing into \.venv, once \(about \d+ MB\) \.\.\. done in \d+ s\n", first.stderr)
    assert uv.calls() == []
    assert (second.stderr, second.stdout) == ("", first.stdout)


@posix
def test_what_changed_is_installed_and_no_more(uv: Clone) -> None:
    """The dev set comes on top, stays, and a new pyproject.toml costs one step; new pins start afresh."""
    uv.run("chat")
    uv.calls()

    uv.run("lint")
    assert uv.calls() == ["dev"]

    (uv.root / "pyproject.toml").write_text("# two\n")
    uv.run("chat")
    assert uv.calls() == ["project"]
    uv.run("lint")
    assert uv.calls() == []

    (uv.root / ".venv" / "left-over").touch()
    (uv.root / "requirements" / "run.txt").write_text("# two\n")
    uv.run("lint")
    assert uv.calls() == ["dev", "project"]
    assert not (uv.root / ".venv" / "left-over").exists()
    uv.run("chat")
    assert uv.calls() == []


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_install_leaves_no_stamp_and_the_next_call_recovers(uv: Clone, number: signal.Signals) -> None:
    """However it was ended, half an install is never taken for one."""
    hanging = uv.root / "hanging"
    os.mkfifo(hanging)
    with subprocess.Popen(
        uv.command("chat"),
        env={**uv.env, "UV_HANG": str(hanging)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        hanging.open().close()  # returns once the installer is at work
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=30)

    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in said
    assert not uv.stamped
    uv.calls()
    assert uv.run("chat").returncode == 7
    assert uv.calls() == ["run", "project"]


@posix
def test_two_calls_at_once_install_once(uv: Clone) -> None:
    """The second waits for the first, and then has nothing to do."""
    both = [subprocess.Popen(uv.command("chat"), env=uv.env, stdout=subprocess.DEVNULL) for _ in range(2)]
    codes = [process.wait(timeout=60) for process in both]

    assert codes == [7, 7]
    assert uv.calls() == ["run", "project"]


@posix
def test_a_failing_install_shows_what_the_tools_said(uv: Clone) -> None:
    """uv fails, then pip, which gets no index here; both are quoted, with what to do."""
    done = uv.run("chat", env={"UV_FAIL": "1", "PIP_NO_INDEX": "1"})

    assert done.returncode == 1
    assert "no way to the index" in done.stderr
    assert "Installing failed, see above" in done.stderr
    assert "Traceback" not in done.stderr
    assert not uv.stamped
    assert uv.run("chat").returncode == 7


@posix
def test_arguments_folder_and_exit_code_go_through_untouched(uv: Clone, tmp_path: Path) -> None:
    """Whatever bytes they hold; and a file beside the caller hides no module."""
    words = ["chat", "two  words", "写两句话。", "", "a\nb", "--flag=*", "$HOME", "'\""]
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('the wrong json')")

    done = uv.run(*words, cwd=elsewhere)

    assert done.returncode == 7
    assert json.loads(done.stdout) == [words, str(elsewhere)]


@posix
@pytest.mark.parametrize(("tool", "name"), [("RUFF", "lint"), ("LINT", "lint"), ("MYPY", "types")])
def test_a_check_runs_every_tool_and_fails_if_one_does(uv: Clone, tool: str, name: str) -> None:
    """It closes with a line."""
    good, bad = uv.run(name), uv.run(name, env={f"{tool}_EXIT": "3"})

    assert re.fullmatch(rf"{name}: ok \(.* s\)\n", good.stdout)
    assert good.returncode == 0
    assert re.fullmatch(rf"{name}: FAILED \(.* s\)\n", bad.stdout)
    assert bad.returncode == 1


@posix
def test_test_runs_all_that_is_quick_side_by_side_or_what_is_asked(uv: Clone) -> None:
    """pytest's closing line is the last one, for whoever reads a log."""
    assert re.fullmatch(r"== 3 passed == -n \d+ --dist loadfile .*-m not long .*\n", uv.run("test").stdout)
    assert uv.run("test", "-k", "one two").stdout == "== 3 passed == -k one two\n"
    (uv.root / "tests").mkdir()
    (uv.root / "tests" / "jobs.py").write_text("import sys; print(*sys.argv[1:])")
    assert uv.run("test", "--all").stdout == "all\n"


@posix
def test_ctrl_c_lets_the_tests_clean_up(uv: Clone) -> None:
    """The terminal tells pytest, whose exit code it is."""
    hanging = uv.root / "hanging"
    os.mkfifo(hanging)
    uv.run("lint")
    with subprocess.Popen(
        uv.command("test"),
        env={**uv.env, "PYTEST_HANG": str(hanging)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        hanging.open().close()  # returns once pytest is at work
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert out.endswith("cleaned up\n")
    assert (process.returncode, err) == (2, "")


def test_a_venv_made_by_others_is_left_alone(clone: Clone) -> None:
    """We delete only what we made."""
    theirs = clone.root / ".venv" / "pyvenv.cfg"
    theirs.parent.mkdir()
    theirs.write_text("theirs")

    done = clone.run("chat")

    assert done.returncode == 1
    assert "made by something else" in done.stderr
    assert theirs.read_text() == "theirs"


def test_no_arguments_print_help_and_make_nothing(clone: Clone) -> None:
    """Looking costs nothing."""
    done = clone.run()

    assert done.returncode == 0
    assert "run.py test" in done.stdout
    assert not (clone.root / ".venv").exists()


def test_python_without_pip_and_ensurepip_is_told_what_helps(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Debian and Ubuntu ship it; one line, exit code 1."""
    run = clone.module()
    monkeypatch.setattr(run, "can_pip", lambda: False)
    monkeypatch.setenv("PATH", "")

    with pytest.raises(SystemExit) as ending:
        run.main(["chat"])

    version = ".".join(map(str, sys.version_info[:2]))
    assert ending.value.code == f"This Python has neither pip nor ensurepip: apt install python{version}-venv"
    assert not clone.stamped


def test_an_old_python_reads_the_file_and_says_what_it_needs() -> None:
    """One line instead of a syntax error."""
    ast.parse((ROOT / "run.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    old = "import runpy, sys; sys.version_info = (3, 6, 0, 'final', 0); runpy.run_path(sys.argv[1])"

    done = subprocess.run([PYTHON, "-c", old, str(ROOT / "run.py")], capture_output=True, text=True, check=False)

    assert done.stderr == "tailrace needs Python 3.11 or newer, and this is 3.6.\n"
    assert done.returncode == 1


def test_real_pip_installs_the_pins_and_the_project(clone: Clone, tmp_path: Path) -> None:
    """No stand-in: ensurepip's own wheel and a wheel made here are the index, so it needs no network."""
    ensurepip = pytest.importorskip("ensurepip")
    pip = next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)
    if pip is None:
        pytest.skip("this system keeps ensurepip's wheels elsewhere")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    shutil.copy(pip, wheels)
    dependency = make_wheel(wheels, "riverbed", "DEPTH = 3\n")
    for name, wheel in {"pip": wheels / pip.name, "run": dependency}.items():
        pinned, version = wheel.name.split("-")[:2]
        line = f"{pinned}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        (clone.root / "requirements" / f"{name}.txt").write_text(line)
    project = make_wheel(tmp_path, "tailrace", "", main="import riverbed, sys; print(riverbed.DEPTH, *sys.argv[1:])\n")
    (clone.root / "backend.py").write_text(
        "import shutil\n"
        "def build_editable(folder, config_settings=None, metadata_directory=None):\n"
        f"    return shutil.copy({str(project)!r}, folder) and {project.name!r}\n"
    )
    (clone.root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )

    no_index = {"PATH": os.defpath, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    done = clone.run("chat", "hi", env=no_index)

    assert done.stdout == "3 chat hi\n", done.stderr
    assert clone.stamped


def make_wheel(folder: Path, name: str, init: str, main: str = "") -> Path:
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": init,
        f"{name}/__main__.py": main,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    for path, text in files.items():
        seal = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record.append(f"{path},sha256={seal},{len(text.encode())}\n")
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": "".join(record) + f"{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return wheel


# --- the pinned sets ------------------------------------------------------------------------------


def pins(name: str) -> dict[str, tuple[str, int]]:
    """Each package's version and number of hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==(\S+)[^\n]*((?:\n +--hash=sha256:[0-9a-f]{64}[ \\]*)*)", text, re.MULTILINE)
    return {canonicalize_name(package): (version, hashes.count("--hash")) for package, version, hashes in found}


@pytest.mark.parametrize("name", ["pip", "run", "dev", "lowest"])
def test_pins_have_hashes_and_name_no_place(name: str) -> None:
    """Where packages come from is the user's setting, not ours."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")

    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)
    assert pins(name)
    assert all(hashes for _, hashes in pins(name).values())


def test_pins_are_as_new_as_pyproject() -> None:
    """Who adds a dependency runs `requirements/update.py`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    groups = project["dependency-groups"]
    core = project["project"]["dependencies"]
    needs = {
        "run": [*core, *extras["cli"], *extras["embedded"], *groups["clone"]],
        "dev": [*core, *groups["dev"], *groups["clone"], *(line for extra in extras.values() for line in extra)],
    }
    for name, lines in needs.items():
        have = pins(name)
        for requirement in map(Requirement, lines):
            package = canonicalize_name(requirement.name)
            if package != "tailrace":
                assert package in have, f"{package} is not in {name}.txt: run requirements/update.py"
                assert requirement.specifier.contains(have[package][0], prereleases=True), requirement


def test_the_lowest_set_is_what_pyproject_says() -> None:
    """What users install has there the very version that its bound names: a bound that was not tried is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    have = pins("lowest")
    for requirement in map(Requirement, (line for lines in named for line in lines)):
        if requirement.name not in {"tailrace", "xllamacpp"}:  # the latter's versions have a number behind the month
            (bound,) = requirement.specifier
            version = have[canonicalize_name(requirement.name)][0]
            assert (bound.operator, Version(bound.version)) == (">=", Version(version)), requirement


def test_run_set_is_part_of_the_dev_set() -> None:
    """Or `run.py test` after `run.py chat` would change what chat runs on."""
    assert {package: pin[0] for package, pin in pins("run").items()}.items() <= {
        package: pin[0] for package, pin in pins("dev").items()
    }.items()
