"""Tokens per second and time to first token of the embedded engine, beside a bare xllamacpp loop on the same model.

Same file, same settings, same prompts, temperature 0; the text of a run that is alone must come out the same. Several
runs at once share the engine's slots: the two that tailrace has by default, or one for each run.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from benchmarks import common
from benchmarks.common import Contestant, Skipped, contestants, in_turns, ratio, report, shown, spread, table
from tailrace.backends.embedded import models
from tailrace.backends.embedded.engine import SLOTS
from tailrace.backends.embedded.fetch import fetch_default
from tailrace.errors import ModelError

CASES = ((1, SLOTS), (4, SLOTS), (8, SLOTS), (8, 8))  # runs at once, and slots
NAMES = ("tailrace", "bare")


def run(*, quick: bool) -> None:
    """Measure and print."""
    model = the_model(quick)
    rounds, tokens, few = (1, 4, 4) if quick else (common.rounds or 5, 64, 20)
    cases = CASES[:2] if quick else CASES
    seen: dict[tuple[int, int], dict[str, list[dict[str, Any]]]] = {case: {n: [] for n in NAMES} for case in cases}
    choices = sorted({slots for _, slots in cases})
    with contestants("engines", [(name, model, str(slots)) for slots in choices for name in NAMES]) as engines:
        by_slots = {slots: engines[2 * place :][:2] for place, slots in enumerate(choices)}
        for number in range(0 if quick else -1, rounds):  # the first round warms up
            for at_once, slots in cases:
                for name, engine in in_turns(list(zip(NAMES, by_slots[slots], strict=True)), number):
                    result = _ask(engine, number, at_once, tokens if at_once == 1 else few)
                    if number >= 0:
                        seen[at_once, slots][name].append(result)
    _print(seen, rounds, tokens, few, quick)


def the_model(quick: bool) -> str:
    """The path of the default model, which is fetched if need be.

    Raises:
        Skipped: the engine is not installed, or the model not here and this is a smoke test.
    """
    if importlib.util.find_spec("xllamacpp") is None:
        raise Skipped("xllamacpp is not installed (pip install 'tailrace[embedded]')")
    try:
        return str(models.find(models.DEFAULT_MODEL).path)
    except ModelError:
        if quick:
            raise Skipped(f"{models.DEFAULT_MODEL} is not here, and a smoke test does not fetch 94 MB") from None
        return str(fetch_default().path)


def _ask(engine: Contestant, number: int, at_once: int, tokens: int) -> dict[str, Any]:
    # Another beginning each time: a prompt seen before would come out of the engine's cache.
    prompts = [
        f"Round {number + 2}, {who + 1} of {at_once}. Tell me a long story about a river, its mill and the miller."
        for who in range(at_once)
    ]
    result = engine.ask(prompts=prompts, tokens=tokens)
    result["tokens"] = sum(run["tokens"] for run in result["runs"])
    result["texts"] = [run["text"] for run in result["runs"]]
    return result


def _print(
    seen: dict[tuple[int, int], dict[str, list[dict[str, Any]]]], rounds: int, tokens: int, few: int, quick: bool
) -> None:
    results, rows = [], []
    for (at_once, slots), by_name in seen.items():
        result: dict[str, Any] = {"at_once": at_once, "slots": slots, "tokens": tokens if at_once == 1 else few}
        measures = {
            name: {
                "tokens_per_second": [_rate(run) if at_once == 1 else run["tokens"] / run["whole"] for run in runs],
                "first_token_ms": [min(one["first"] for one in run["runs"]) * 1000 for run in runs],
            }
            for name, runs in by_name.items()
        }
        ours, bare = (measures[name] for name in NAMES)
        later = [a - b for a, b in zip(ours["first_token_ms"], bare["first_token_ms"], strict=True)]
        for name in NAMES:
            result[name] = {what: spread(values) for what, values in measures[name].items()}
        result["ratio"] = ratio(ours["tokens_per_second"], bare["tokens_per_second"])
        result["first_token_later_ms"] = spread(later)
        result["same_text"] = sum(a["texts"] == b["texts"] for a, b in zip(*by_name.values(), strict=True))
        results.append(result)
        figures = [result[name]["tokens_per_second"] for name in NAMES]
        cells = [*(shown(figure, ".1f") for figure in figures), shown(result["ratio"], ".3f")]
        rows.append([f"{at_once} on {slots} slots", *cells, shown(result["first_token_later_ms"], ".1f")])
    table(["runs at once", *(f"{name}, tokens/s" for name in NAMES), "ratio", "first token later by, ms"], rows)
    print(f"alone, the same text in {results[0]['same_text']} of {rounds} rounds")
    report("embedded", quick=quick, rounds=rounds, results=results)


def _rate(result: dict[str, Any]) -> float:
    """Tokens per second of a run that is alone, from its first token to its last."""
    (run,) = result["runs"]
    rate: float = (run["tokens"] - 1) / max(run["last"] - run["first"], 1e-9)
    return rate
