"""Tokens per second and time to first token of the embedded engine, beside a bare xllamacpp loop on the same model.

Same file, same settings, same prompts, temperature 0; the texts must come out the same.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from benchmarks.common import Skipped, contestants, in_turns, ratio, report, shown, spread, table
from tailrace.backends.embedded import models
from tailrace.errors import ModelError


def run(*, quick: bool) -> None:
    """Measure and print."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise Skipped("xllamacpp is not installed (pip install 'tailrace[embedded]')")
    try:
        model = models.find(models.DEFAULT_MODEL)
    except ModelError:
        if quick:
            raise Skipped(f"{models.DEFAULT_MODEL} is not here, and a smoke test does not fetch 94 MB") from None
        model = models.fetch_default()
    rounds, tokens = (1, 4) if quick else (9, 128)
    names = ("tailrace", "bare")
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with contestants("engines", [(name, str(model.path)) for name in names]) as engines:
        for number in range(0 if quick else -1, rounds):  # the first round warms up
            # Another beginning each round: a prompt seen before would come out of the engine's cache.
            prompt = f"Round {number + 2} of {rounds + 1}. Tell me a long story about a river, its mill and the miller."
            for name, engine in in_turns(list(zip(names, engines, strict=True)), number):
                result = engine.ask(prompt=prompt, tokens=tokens)
                if number >= 0:
                    seen[name].append(result)
    rates = {name: [_rate(result) for result in runs] for name, runs in seen.items()}
    firsts = {name: [result["first"] * 1000 for result in runs] for name, runs in seen.items()}
    wholes = {name: [result["tokens"] / result["whole"] for result in runs] for name, runs in seen.items()}
    same = sum(a["text"] == b["text"] for a, b in zip(seen["tailrace"], seen["bare"], strict=True))
    results = {
        name: {
            "tokens_per_second": spread(rates[name]),
            "first_token_ms": spread(firsts[name]),
            "tokens_per_second_whole": spread(wholes[name]),
        }
        for name in names
    }
    ratios = {
        "tokens_per_second": ratio(rates["tailrace"], rates["bare"]),
        "first_token_ms": ratio(firsts["tailrace"], firsts["bare"]),
        "tokens_per_second_whole": ratio(wholes["tailrace"], wholes["bare"]),
    }
    rows = [[name, *(shown(figure, ".1f") for figure in figures.values())] for name, figures in results.items()]
    rows.append(["tailrace / bare", *(shown(value, ".3f") for value in ratios.values())])
    table(["engine", "tokens/s", "first token, ms", "tokens/s with the wait"], rows)
    print(f"the same text in {same} of {rounds} rounds")
    report("embedded", quick=quick, rounds=rounds, tokens=tokens, same_text=same, results=results, ratios=ratios)


def _rate(result: dict[str, Any]) -> float:
    """Tokens per second from the first token to the last."""
    rate: float = (result["tokens"] - 1) / max(result["last"] - result["first"], 1e-9)
    return rate
