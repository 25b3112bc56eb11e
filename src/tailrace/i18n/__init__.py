"""Words people see, in English and Simplified Chinese, a file for each; the locale or `use` picks the language.

Errors of the library itself stay English: they are searched for and compared. What tailrace prints goes through `say`.
The chat page has its own words, beside its other files.

Internal: may change in any release. What is public is listed in docs/public.md.
"""

from __future__ import annotations

import functools
import importlib
import os

__all__ = ["LANGUAGES", "language", "say", "use", "words"]

LANGUAGES = ("en", "zh")

_chosen: str | None = None


def use(name: str | None) -> None:
    """Fixes the language, ``en`` or ``zh``; None goes back to the locale."""
    global _chosen
    _chosen = name


def language() -> str:
    """Returns ``en`` or ``zh``: what was fixed, else TAILRACE_LANG, else the locale's variables."""
    if _chosen is not None:
        return _chosen
    for name in ("TAILRACE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def say(key: str, /, *, lang: str | None = None, **values: object) -> str:
    """Returns the words of `key` in the language, with `values` filled in."""
    text = words(lang or language())[key]
    return text.format(**values) if values else text


@functools.cache
def words(name: str) -> dict[str, str]:
    """Returns all words of one of the `LANGUAGES`, by key; each file is read when its language is wanted."""
    table: dict[str, str] = importlib.import_module(f"{__name__}.{name}").WORDS
    return table
