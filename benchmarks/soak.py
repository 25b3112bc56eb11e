"""An hour of all that goes wrong at once: does the gateway tell the truth, and is it afterwards as it was before?

A real `tailrace serve` stands in front of three fake model servers, each in a process of its own. Clients of every
protocol come at a bounded rate, by a seeded chance: some read to the end, some slowly, some leave, come back, stop the
answer or take nothing; others send what is no question, or no HTTP. The models break off, lie, fall silent, die and are
started again. Of every run it is checked that what was told is what the model did. At the end all clients stop, and
when the times for which runs linger and are kept have passed, the gateway has to hold what it held at the start.

    python3 run.py bench soak --minutes 60 [--seed 1] [--rate 6]
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.common import ROOT, Failed, environment, report, table
from benchmarks.soaking.judging import judge
from benchmarks.soaking.models import Models
from benchmarks.soaking.plans import FATES, Plan, planned
from benchmarks.soaking.sampling import HELD, STILL, Sample, Sampler, Standing, slope
from benchmarks.soaking.strangers import LARGEST, LOOKS, STRANGERS, knock, look
from benchmarks.soaking.visits import MANNERS, PROTOCOLS, Seen, visit

LINGER, KEEP, TIMEOUT, SEND_TIMEOUT = 2, 20, 20, 3  # seconds
REST = LINGER + KEEP + TIMEOUT + SEND_TIMEOUT + 3.0  # seconds after which nothing of a run is left
EVERY = 5.0  # seconds between two samples
RESTS = 6  # parts of the load, with a rest after each: what is held then can be compared
AT_ONCE = 120  # visits
READERS = 0.7  # of the visits; the others are strangers
MEMORY = 32 * 1024 * 1024  # bytes that memory may have grown by: what was freed is not all given back to the system
SLOPE = 8 * 1024 * 1024  # bytes that it may grow by in an hour, over the last two thirds
ENOUGH = 30.0  # minutes that a slope means anything after
SHOWN = 20  # complaints
OPTIONS = (
    *("--linger", str(LINGER), "--keep", str(KEEP), "--timeout", str(TIMEOUT), "--send-timeout", str(SEND_TIMEOUT)),
    *("--head-time", "3", "--body-time", "3", "--ping", "2", "--max-body", str(LARGEST), "--max-running", "40"),
)


def run(*, quick: bool) -> None:
    """Soak, print, and fail if something is not back or was not true."""
    minutes = common.minutes or (0.25 if quick else 60.0)
    soak = asyncio.run(_Soak(common.seed, common.rate or 6.0).go(minutes))
    wrong = soak.wrong(minutes)
    soak.show()
    for line in wrong[:SHOWN]:
        print(line)
    report("soak", quick=quick, minutes=minutes, seed=common.seed, wrong=len(wrong), **soak.figures())
    if wrong:
        raise Failed(f"{len(wrong)} things are not as they should be")


class _Soak:
    """One soak.

    Args:
        seed: of all chance.
        rate: visits a second.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self._seed = seed
        self._rate = rate
        self._models = Models()
        self._under_way: set[asyncio.Task[object]] = set()
        self._number = 0
        self.samples: list[Sample] = []
        self.rests: list[Sample] = []
        self.outcomes: Counter[str] = Counter()
        self.visits: Counter[str] = Counter()
        self.complaints: list[str] = []
        self.unjudged = 0  # visits while the machine stood still

    async def go(self, minutes: float) -> _Soak:
        """From the start of the gateway to its end."""
        await self._models.start()
        self._standing = Standing()
        try:
            async with self._gateway() as self._port:
                await self._warm_up()
                self.start = await self._sampler.take(collect=True)
                self.rests = [self.start]
                print(f"start: {self.start.memory / 1e6:.1f} MB, {self.start.objects:,} objects", flush=True)
                await self._load(60 * minutes)
                await self._rest()
                self.end = await self._sampler.take(collect=True)
                self.rests.append(self.end)
        finally:
            self._standing.stop()
            await self._models.end()
        return self

    @contextlib.asynccontextmanager
    async def _gateway(self) -> AsyncIterator[int]:
        upstreams = [each for model in self._models.all for each in ("--upstream", model.upstream)]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = ("-m", "benchmarks.soaking.watched", "serve", "--port", "0", "-m", "m", "--data", folder)
            log = Path(folder) / "said"
            with log.open("wb") as said:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, *command, *OPTIONS, *upstreams),
                    cwd=ROOT,
                    env=environment(),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=said,
                )
            try:
                while not (found := re.search(rb":(\d+) ", log.read_bytes())):
                    if process.returncode is not None:
                        raise RuntimeError(f"tailrace serve does not start: {log.read_bytes()!r}")
                    await asyncio.sleep(0.05)
                self._sampler = Sampler(process, int(found[1]))
                yield int(found[1])
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                code = await process.wait()
            if code not in {0, 143}:
                self.complaints.append(f"the gateway ended with code {code}")
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
                self.complaints.append(f"the gateway said: {line}")

    # -- the load ------------------------------------------------------------------------------------------------

    async def _warm_up(self) -> None:
        """Everything once, and many at once: what is imported, cached and opened on first use is there afterwards."""
        for protocol in PROTOCOLS:
            for manner in MANNERS:
                self._spawn(self._read(self._name(), protocol, manner))
        for name in STRANGERS:
            for _ in range(5):
                self._spawn(self._knock(self._name(), name))
        for path in LOOKS:
            self._spawn(look(self._port, path))
        await self._rest()
        self.visits.clear()
        self.outcomes.clear()

    async def _load(self, seconds: float) -> None:
        chance = random.Random(f"{self._seed} comings")
        self._began = asyncio.get_running_loop().time()
        sampling = asyncio.create_task(self._sample())
        disturbing = asyncio.create_task(self._models.disturb(random.Random(f"{self._seed} deaths")))
        for number in range(RESTS):
            if number:
                await self._rest()
                self.rests.append(rest := await self._sampler.take(collect=True))
                print(f"rest {number}: {rest.memory / 1e6:.1f} MB, {rest.objects:,} objects", flush=True)
            await self._come_for(seconds / RESTS, chance)
        for task in (sampling, disturbing):
            if task.done():
                task.result()  # it broke
        sampling.cancel()
        await self._until_gone()
        disturbing.cancel()

    async def _come_for(self, seconds: float, chance: random.Random) -> None:
        """Lets clients come for a time."""
        due = began = time.monotonic()
        while (due := due + chance.expovariate(self._rate)) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._under_way) < AT_ONCE:
                self._spawn(self._come())

    async def _sample(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(EVERY)
            due = asyncio.get_running_loop().time() - self._began >= 60 * (told + 1)
            self.samples.append(sample := await self._sampler.take())
            if due:
                told += 1
                print(self._line(told, sample), flush=True)

    def _line(self, minute: int, sample: Sample) -> str:
        cpu = (sample.cpu - self.start.cpu) / (sample.at - self.start.at)
        return (
            f"minute {minute}: {self.visits.total():,} visits, {self.outcomes.total():,} runs, "
            f"{self._models.restarts} restarts; {sample.memory / 1e6:.0f} MB, {sample.files} files, "
            f"{sample.threads} threads, {sample.tasks} tasks, {100 * cpu:.0f} % of a core; "
            f"{len(self.complaints)} wrong"
        )

    async def _rest(self) -> None:
        """Waits until nothing is left of those who came."""
        await self._until_gone()
        await asyncio.sleep(REST)

    async def _until_gone(self) -> None:
        while self._under_way:
            await asyncio.wait(self._under_way)

    # -- those who come ------------------------------------------------------------------------------------------

    def _name(self) -> str:
        self._number += 1
        return f"q{self._number}"

    def _spawn(self, coming: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(coming)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _chance(self, name: str) -> random.Random:
        return random.Random(f"{self._seed} {name}")

    async def _come(self) -> None:
        name = self._name()
        chance = self._chance(f"{name} who")
        if chance.random() < READERS:
            protocol = chance.choices(list(PROTOCOLS), [each.weight for each in PROTOCOLS.values()])[0]
            manner = chance.choices(list(MANNERS), list(MANNERS.values()))[0]
            await self._read(name, protocol, manner)
        else:
            kind = chance.choices(list(STRANGERS), [weight for weight, _ in STRANGERS.values()])[0]
            await self._knock(name, kind)

    async def _knock(self, name: str, kind: str) -> None:
        began = time.monotonic()
        try:
            wrong = await knock(self._port, kind, self._chance(f"{name} what"))
            if wrong and self._standing.since(began):
                self.unjudged += 1
                wrong = ""
        except Exception as error:
            wrong = f"{kind}: {error!r}"
        self.visits[kind] += 1
        if wrong:
            self._complain(wrong)

    async def _read(self, name: str, protocol: str, manner: str) -> None:
        chance = self._chance(f"{name} what")
        plan = planned(name, self._chance(f"{name} plan"))
        if manner == "never":  # more than all buffers on the way can hold
            plan = Plan(name, "whole", 300, 0.0, 20_000)
        began = time.monotonic()
        try:
            seen = await visit(self._port, plan, protocol, manner, chance.choice("mmo"), chance)
            await self._judge(seen, began)
        except Exception as error:
            self._complain(f"{name}, {protocol}, {manner}, {plan.fate}: {error!r}")
        self.visits[manner] += 1

    async def _judge(self, seen: Seen, began: float) -> None:
        name = seen.plan.name
        attempts = await self._models.over(name)
        if self._standing.since(began):  # what took too long, took so long for no fault of the gateway's
            self.unjudged += 1
            return
        wrong = judge(seen, attempts, disturbed=self._models.disturbed(began), linger=LINGER)
        about = f"{name}, {seen.protocol}, {seen.manner}, {seen.plan.fate}"
        for line in wrong:
            self._complain(f"{about}: {line}; {attempts}")
        if seen.run is not None:
            self.outcomes[str(seen.run["outcome"])] += 1

    # -- the figures ---------------------------------------------------------------------------------------------

    @property
    def _late(self) -> list[Sample]:
        """The samples of the rests in the last two thirds."""
        return self.rests[len(self.rests) // 3 :]

    def _complain(self, what: str) -> None:
        self.complaints.append(what)
        print(f"wrong: {what}", flush=True)

    def wrong(self, minutes: float) -> list[str]:
        """Returns all that was not true, and what is not back."""
        wrong = list(self.complaints)
        if not self.visits or not self.outcomes:
            wrong.append("nobody came")
        for name, what in HELD.items():
            before, after = getattr(self.start, name), getattr(self.end, name)
            if after > before:
                wrong.append(f"{what}: {before} at the start, {after} at the end")
        if (grown := self.end.memory - self.start.memory) > MEMORY:
            wrong.append(f"memory has grown by {grown / 1e6:.1f} MB")
        if minutes >= ENOUGH and slope(self._late) > SLOPE:
            wrong.append(f"memory grows by {slope(self._late) / 1e6:.1f} MB an hour")
        return wrong

    def _more(self) -> str:
        """What there is more of at the end than at the start."""
        kinds = Counter(self.end.kinds)
        kinds.subtract(self.start.kinds)
        grown = [f"{count:+,} {kind}" for kind, count in kinds.most_common(15) if count > 0]
        return f"{', '.join(grown)}; tasks {self.end.doing}"

    def figures(self) -> dict[str, Any]:
        """Returns the figures for a program."""
        results = [
            {"what": name, "start": each[0], "most": each[1], "end": each[2]} for name, each in self._held().items()
        ]
        return {
            "rate": self._rate,
            "visits": dict(self.visits),
            "outcomes": dict(self.outcomes),
            "restarts": self._models.restarts,
            "unjudged": self.unjudged,
            "stood_still": self._standing.longest,
            "cpu": (self.end.cpu - self.start.cpu) / max(1.0, self.end.at - self.start.at),
            "memory_in_rests": [each.memory for each in self.rests],
            "bytes_per_hour": slope(self._late),
            "results": results,
        }

    def _held(self) -> dict[str, tuple[int, int, int]]:
        names = [*HELD, "untrimmed"]
        every = [*self.rests, *self.samples]
        held = {
            name: (getattr(self.start, name), max(getattr(each, name) for each in every), getattr(self.end, name))
            for name in names
        }
        for name in ("memory", "objects"):  # without garbage, which is collected in the rests
            most = max(getattr(each, name) for each in self.rests)
            held[name] = (getattr(self.start, name), most, getattr(self.end, name))
        return held

    def show(self) -> None:
        """Prints the figures as a table."""
        named = HELD | {
            "untrimmed": "memory (RSS), bytes",
            "memory": "memory without garbage, bytes",
            "objects": "objects that live",
        }
        rows = [[named[name], *(f"{each:,}" for each in held)] for name, held in self._held().items()]
        print()
        table(["", "start", "most", "end"], rows)
        print(f"\nvisits: {_shown(self.visits)}\nruns: {_shown(self.outcomes)}")
        stood = f"the machine stood still for {self._standing.longest:.1f} s at the longest"
        print(f"{stood}; not judged, because it did for more than {STILL:g} s: {self.unjudged} visits")
        print(f"more at the end than at the start: {self._more()}")
        print(f"memory in the rests, MB: {', '.join(f'{each.memory / 1e6:.1f}' for each in self.rests)}")
        print(
            f"restarts of models: {self._models.restarts}; fates: {len(FATES)}; "
            f"memory in the rests: {slope(self._late) / 1e6:+.2f} MB an hour over the last two thirds\n"
        )


def _shown(counts: Counter[str]) -> str:
    return f"{counts.total():,} ({', '.join(f'{count:,} {name}' for name, count in counts.most_common())})"
