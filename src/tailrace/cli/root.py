"""The root command. Its commands are imported when they are used."""

from __future__ import annotations

import os
from importlib import import_module

import click

from tailrace._version import __version__
from tailrace.cli.command import Group
from tailrace.i18n import say

__all__ = ["Root", "root"]


class Root(Group):
    """The root: its commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of the commands."""
        return ["chat", "completion", "doctor", "generate", "models", "pull", "serve"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns a command, or None if there is none of that name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = import_module(f"tailrace.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"tailrace {__version__}")
        ctx.exit()


def root() -> Root:
    """Returns the root command, in the language of the moment."""
    if "_TAILRACE_COMPLETE" in os.environ:  # a shell asks
        from tailrace.cli.shell import register

        register()
    version = click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help=say("help.version")
    )
    return Root("tailrace", params=[version], help=say("help.tailrace"), epilog=say("help.exit"))
