"""How long a program waits before its first line: tailrace beside ollama-python, in fresh interpreters.

A module that imports its parts when they are asked for makes `import` look cheap. So there are three steps: the bare
import, the import of a function to use, and a client that is ready for its first request.

CPU time is what the interpreter itself counted when it was done; `net` is without what an empty program takes.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time

from benchmarks.common import ROOT, environment, in_turns, ratio, report, shown, spread, table

_COUNT = "import time; print(time.process_time())"
_STEPS = {
    "import": "import {}",
    "function": "from {} import chat",
    "client": "from {} import Client; Client('http://127.0.0.1:1')",
}
_HELP = f"""
import atexit, sys
atexit.register(lambda: exec({_COUNT!r}))
sys.argv = ["tailrace", "--help"]
from tailrace.cli import main
sys.exit(main())
"""


def run(*, quick: bool) -> None:
    """Measure and print."""
    rounds = 1 if quick else 15
    programs = {"nothing": _COUNT}
    programs |= {
        f"{step}, {name}": f"{program.format(name)}; {_COUNT}"
        for step, program in _STEPS.items()
        for name in ("tailrace", "ollama")
    }
    command = importlib.util.find_spec("tailrace.cli")
    if command is not None and command.origin is not None:
        programs["tailrace --help"] = _HELP
    cpu: dict[str, list[float]] = {name: [] for name in programs}
    wall: dict[str, list[float]] = {name: [] for name in programs}
    for number in range(0 if quick else -1, rounds):  # the first round writes what is compiled
        for name in in_turns(list(programs), number):
            seconds, used = _start(programs[name])
            if number >= 0:
                wall[name].append(seconds * 1000)
                cpu[name].append(used * 1000)
    net = {name: [u - n for u, n in zip(used, cpu["nothing"], strict=True)] for name, used in cpu.items()}
    ratios = {
        step: {
            clock: ratio(times[f"{step}, tailrace"], times[f"{step}, ollama"])
            for clock, times in (("cpu", cpu), ("cpu_net", net), ("wall", wall))
        }
        for step in _STEPS
    }
    results = {name: {"cpu_ms": spread(cpu[name]), "wall_ms": spread(wall[name])} for name in programs}
    rows = [
        [name, shown(both["cpu_ms"], ".0f"), shown(both["wall_ms"], ".0f"), "", ""] for name, both in results.items()
    ]
    for row in rows:
        step, _, name = row[0].partition(", ")
        if name == "tailrace":
            row[3:] = [f"{ratios[step][clock]['median']:.2f}" for clock in ("cpu_net", "wall")]
    table(["program", "CPU ms", "wall ms", "ratio, CPU net", "ratio, wall"], rows)
    report("start", quick=quick, rounds=rounds, results=results, ratios=ratios)


def _start(program: str) -> tuple[float, float]:
    """Run a program in a fresh interpreter; its wall and CPU seconds."""
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
    )
    return time.perf_counter() - begun, float(done.stdout.splitlines()[-1])
