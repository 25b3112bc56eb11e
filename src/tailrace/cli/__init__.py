"""The command `tailrace`: one file a command.

Importing this package imports nothing that only answers need, so that ``tailrace --help`` is fast.

Exit codes: 0 done, 1 an error, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, 141 the reader of our output has gone (what
the shell reports of ``yes`` in ``yes | head -1``).

Internal: may change in any release. What is public is listed in docs/public.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from tailrace import i18n

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Does what the arguments say, and ends the process.

    Args:
        arguments: without the command's own name; by default those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    _choose_language(given)
    try:
        import click  # noqa: F401
    except ImportError:
        sys.exit(i18n.say("error.prefix", text=i18n.say("error.no_click")))
    from tailrace.cli.run import run

    run(given)


def _choose_language(arguments: Sequence[str]) -> None:
    """Looks for ``--lang`` before anything is said, because the help's words are chosen while it is built."""
    for place, argument in enumerate(arguments):
        if argument == "--":
            return
        name, equals, value = argument.partition("=")
        if name == "--lang":
            value = value if equals else "".join(arguments[place + 1 : place + 2])
            if value in ("en", "zh"):
                i18n.use(value)
