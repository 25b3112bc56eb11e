"""`tailrace chat`."""

from __future__ import annotations

from typing import Any

import click

from tailrace.cli.answer import answer, answer_options
from tailrace.cli.command import Command
from tailrace.cli.session import Session
from tailrace.i18n import say

__all__ = ["command"]


@click.command("chat", cls=Command, help=say("help.chat"), epilog=say("help.chat_more"))
@answer_options
@click.pass_obj
def command(session: Session, /, **arguments: Any) -> int:
    """Asks a model and prints its answer."""
    return answer(session, chat=True, **arguments)
