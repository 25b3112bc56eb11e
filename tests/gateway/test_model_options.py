"""Options of models: how they are written, and whose count."""

from __future__ import annotations

from typing import Any

import click
import pytest

from tailrace.cli.kinds import OptionOfModel
from tailrace.gateway.model_options import options_for

NAMED: dict[str, dict[str, Any]] = {
    "*": {"seed": 1, "top_k": 1},
    "qwen*": {"top_k": 2},
    "qwen3:8b": {"top_k": 3, "num_ctx": 8},
    "big": {"num_ctx": 9},
    "plain": {"num_ctx": 5},
}


@pytest.mark.parametrize(
    ("model", "alias", "given", "expected"),
    [
        ("other", "", None, {"seed": 1, "top_k": 1}),
        ("qwen2", "", None, {"seed": 1, "top_k": 2}),
        ("qwen3:8b", "qwen3:8b", None, {"seed": 1, "top_k": 3, "num_ctx": 8}),
        ("qwen3:8b", "big", None, {"seed": 1, "top_k": 3, "num_ctx": 9}),
        ("qwen3:8b", "big", {"num_ctx": 4, "min_p": 0.1}, {"seed": 1, "top_k": 3, "num_ctx": 4, "min_p": 0.1}),
        ("plain:latest", "", None, {"seed": 1, "top_k": 1, "num_ctx": 5}),
    ],
)
def test_whose_options_count(model: str, alias: str, given: Any, expected: dict[str, Any]) -> None:
    """A request's own count most, then the alias's, the model's, and those of patterns, the later ones more."""
    assert expected == options_for(NAMED, model, given, alias=alias)


@pytest.mark.parametrize("given", [None, {"seed": 2}])
def test_a_gateway_without_options(given: Any) -> None:
    """Without any, a request stays what it is."""
    assert options_for({}, "m", given) is given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("qwen3:8b:num_ctx=32768", ("qwen3:8b", "num_ctx", 32768)),
        ("m:temperature=0.5", ("m", "temperature", 0.5)),
        ("*:stop=a=b", ("*", "stop", ["a=b"])),
        ("hf.co/org/model:Q4_K_M:use_mmap=no", ("hf.co/org/model:Q4_K_M", "use_mmap", False)),
    ],
)
def test_how_they_are_written(text: str, expected: tuple[str, str, Any]) -> None:
    """The name of the option is what stands behind the last colon; its value has its type."""
    assert expected == OptionOfModel().convert(text, None, None)


@pytest.mark.parametrize("text", ["num_ctx=5", "m:num_ctx", "m:nothing=1", "m:num_ctx=many", ":num_ctx=1", ""])
def test_what_is_none(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(click.BadParameter):
        OptionOfModel().convert(text, None, None)
