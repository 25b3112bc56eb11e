"""Options that a gateway has for its models, where a request does not say."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

__all__ = ["options_for"]


def options_for(
    named: Mapping[str, dict[str, Any]], model: str, given: dict[str, Any] | None, *, alias: str = ""
) -> dict[str, Any] | None:
    """Returns the options in force: a request's own over the alias's, the model's and those of patterns.

    Args:
        named: options by the name of a model or an alias, or by a pattern of names.
        model: the model that is asked.
        given: the request's.
        alias: the name under which it was asked for.
    """
    if not named:
        return given
    merged: dict[str, Any] = {}
    for pattern, options in named.items():
        if "*" in pattern and fnmatchcase(model, pattern):
            merged |= options
    for name in dict.fromkeys((model, alias)):
        for each, options in named.items():
            if name and each.removesuffix(":latest") == name.removesuffix(":latest"):
                merged |= options
    return {**merged, **(given or {})} or None
