"""`tailrace generate`."""

from __future__ import annotations

from typing import Any

import click

from tailrace.cli.answer import answer, answer_options
from tailrace.cli.command import Command
from tailrace.cli.session import Session
from tailrace.i18n import say

__all__ = ["command"]


@click.command("generate", cls=Command, help=say("help.generate"), epilog=say("help.chat_more"))
@answer_options
@click.pass_obj
def command(session: Session, /, **arguments: Any) -> int:
    """Has a model complete a prompt."""
    return answer(session, chat=False, **arguments)
