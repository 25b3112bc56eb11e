"""Shell completion: a class for bash, and the completion of model names.

Errors during completion are silent: their text would land in the middle of the user's command line.
"""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

__all__ = ["ColonBash", "model_names", "register"]

_PATIENCE = 0.3  # seconds an upstream has to name its models


class ColonBash(BashComplete):
    """Bash, which takes ``smollm2:135m`` for three words, and replaces the last of them only."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Returns the words before the cursor, and the one at it, put together again."""
        words, self._kept = _rejoined(*super().get_completion_args())
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:  # type: ignore[type-arg, unused-ignore]  # generic since click 8.4
        """Returns the part that bash has not got already."""
        return f"{item.type},{item.value.removeprefix(self._kept)}"


def _rejoined(words: list[str], last: str) -> tuple[list[str], str]:
    """Joins what stands around a colon; returns the words, and what of the last one bash will not replace."""
    joined: list[str] = []
    kept = before = ""
    for word in [*words, last]:
        if joined and ":" in (word, before):
            joined[-1] += word
        else:
            joined.append(word)
            kept = ""
        if word == ":":
            kept = joined[-1]
        before = word
    if "=" in joined[:-1]:  # --model=x is three words, too; click knows what comes of --model and x
        joined = [word for word in joined[:-1] if word != "="] + joined[-1:]
    return joined, kept


def register() -> None:
    """Puts our bash in the place of click's."""
    add_completion_class(ColonBash, "bash")


def model_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Returns the models that could be meant. Quick; and silent, whatever happens."""
    try:
        return [name for name in _names(ctx.params.get("upstream")) if name.startswith(incomplete)]
    except Exception:
        return []


def _names(upstream: str | None) -> list[str]:
    """Asks the upstream, or looks on the disk where that is the embedded engine, or nothing was named and answers."""
    from tailrace.backends.embedded import models
    from tailrace.backends.resolve import DEFAULT_URL, Resolver
    from tailrace.errors import TailraceError

    backend = Resolver(upstream).known
    if backend is None or backend.kind != "embedded":
        found = backend or Resolver(DEFAULT_URL).known
        assert found is not None
        try:
            return _ask(found)
        except (TailraceError, TimeoutError):
            if backend is not None:
                return []
    here = [model.name for model in models.list_models()]
    return here if models.DEFAULT_MODEL in here else [models.DEFAULT_MODEL, *here]


def _ask(backend: object) -> list[str]:
    import asyncio

    async def ask() -> list[str]:
        async with asyncio.timeout(_PATIENCE):
            listed = await backend.list()  # type: ignore[attr-defined]
        return [model.model or model.name or "" for model in listed.models]

    loop = asyncio.new_event_loop()  # not asyncio.run: that would wait for a thread that looks up a name
    try:
        return loop.run_until_complete(ask())
    finally:
        loop.close()
