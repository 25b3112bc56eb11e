"""Commands and groups whose help and usage errors speak the user's language."""

from __future__ import annotations

from typing import Any

import click

from tailrace.cli.kinds import OneOf
from tailrace.i18n import say
from tailrace.i18n.output import put

__all__ = ["Command", "Group", "usage_words"]


class _Localised(click.Command):
    """A command with our words where click has its own."""

    def __init__(self, name: str | None = None, **rest: Any) -> None:
        super().__init__(name, **rest, add_help_option=False)
        self.params += [
            click.Option(
                ["--lang"], type=OneOf(("en", "zh")), metavar="en|zh", expose_value=False, help=say("help.lang")
            ),
            click.Option(["--debug"], is_flag=True, expose_value=False, callback=_debug, help=say("help.debug")),
            click.Option(
                ["-h", "--help"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_help,
                help=say("help.help"),
            ),
        ]

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the line of usage."""
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), prefix=say("help.usage"))

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Returns the pieces of the line of usage."""
        return [piece for param in self.get_params(ctx) for piece in param.get_usage_pieces(ctx)] + ["[OPTIONS]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options."""
        records = [param.get_help_record(ctx) for param in self.get_params(ctx) if isinstance(param, click.Option)]
        with formatter.section(say("help.options")):
            formatter.write_dl([record for record in records if record is not None])


class Command(_Localised):
    """A command. ``--think`` may stand with or without a value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses, once it is settled whether what follows ``--think`` is its value or the prompt."""
        think = next((param.type for param in self.params if "--think" in param.opts), None)
        if isinstance(think, OneOf):
            args = _join_value(args, "--think", think.choices)
        return super().parse_args(ctx, args)


class Group(_Localised, click.Group):
    """A group of commands."""

    command_class = Command

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Returns the pieces of the line of usage."""
        return ["[COMMAND]" if self.invoke_without_command else "COMMAND", "…"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands, then the options."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.help or "") for name, command in commands if command and not command.hidden]
        with formatter.section(say("help.commands")):
            formatter.write_dl(rows)
        super().format_options(ctx, formatter)


def _help(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        put(f"{ctx.get_help()}\n")
        ctx.exit()


def _debug(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and ctx.obj is not None:
        ctx.obj.debug = True


def _join_value(arguments: list[str], option: str, values: tuple[str, ...]) -> list[str]:
    """``--think high`` has a value, ``--think "Why?"`` has none; written as one word each, click gets both right."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    joined: list[str] = []
    for argument in arguments[:end]:
        if joined and joined[-1] == option and argument in values:
            joined[-1] = f"{option}={argument}"
        else:
            joined.append(argument)
    alone = f"{option}={values[0]}"
    return [alone if argument == option else argument for argument in joined] + arguments[end:]


def usage_words(error: click.UsageError) -> tuple[str, str]:
    """Returns what is wrong with the arguments, and a hint."""
    hint = say("usage.try", command=error.ctx.command_path) if error.ctx is not None else ""
    possible = getattr(error, "possibilities", None)
    if possible:
        hint = say("usage.maybe", names=", ".join(possible))
    option = getattr(error, "option_name", None)
    command = getattr(error, "command_name", None)
    if isinstance(error, click.NoSuchOption):
        return say("usage.no_option", name=option), hint
    if command is not None:
        return say("usage.no_command", name=command), hint
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return say("usage.missing", name=_name_of(error.param)), hint
    if isinstance(error, click.BadParameter) and error.param is not None:
        return say("usage.bad_value", name=_name_of(error.param), text=error.message), hint
    return getattr(error, "message", str(error)), hint


def _name_of(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name
