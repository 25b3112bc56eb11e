"""Answers: what `chat` and `generate` have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tailrace.cli.kinds import Format, ModelOption, OneOf, Seconds, gather
from tailrace.cli.prompt import read_prompt
from tailrace.cli.session import Session
from tailrace.cli.shell import model_names
from tailrace.i18n import say

if TYPE_CHECKING:
    from tailrace.terminal.repl.settings import Settings

__all__ = ["answer", "answer_options"]

F = TypeVar("F", bound=Callable[..., Any])


def answer_options(function: F) -> F:
    """Gives a command the arguments that answers have."""
    for decorate in reversed(
        (
            click.argument("prompt", nargs=-1, metavar="[PROMPT]"),
            click.option("-m", "--model", metavar="NAME", shell_complete=model_names, help=say("help.model")),
            click.option("--system", metavar="TEXT", help=say("help.system")),
            click.option("--upstream", metavar="UPSTREAM", help=say("help.upstream")),
            click.option(
                "--option", "options", type=ModelOption(), multiple=True, metavar="NAME=VALUE", help=say("help.option")
            ),
            click.option("--format", type=Format(), metavar="json|FILE|SCHEMA", help=say("help.format")),
            click.option(
                "--think",
                type=OneOf(("true", "false", "low", "medium", "high")),
                metavar="[true|false|low|medium|high]",
                help=say("help.think"),
            ),
            click.option("--json", "as_json", is_flag=True, help=say("help.json")),
            click.option("--verbose", is_flag=True, help=say("help.verbose")),
            click.option("--raw", is_flag=True, help=say("help.raw")),
            click.option("--hide-thinking", is_flag=True, help=say("help.hide_thinking")),
            click.option("--progress", is_flag=True, help=say("help.progress")),
            click.option("--timeout", type=Seconds(), metavar="SECONDS", help=say("help.timeout")),
        )
    ):
        function = decorate(function)
    return function


def answer(
    session: Session,
    *,
    chat: bool,
    prompt: tuple[str, ...],
    model: str | None,
    system: str | None,
    upstream: str | None,
    options: tuple[tuple[str, Any], ...],
    format: Any,
    think: str | None,
    as_json: bool,
    verbose: bool,
    raw: bool,
    hide_thinking: bool,
    progress: bool,
    timeout: float | None,
) -> int:
    """Has the model answer, prints what it says, and returns the exit code.

    Raises:
        TailraceError: there is no answer, or it broke off; what had come has been printed.
    """
    if chat and not prompt and not as_json and session.on_terminal:
        from tailrace.terminal.repl.settings import Settings

        settings = Settings("", system, gather(options) or {}, format, _think(think), verbose, raw, hide_thinking)
        settings.progress = progress
        return _converse(session, settings, model, upstream, timeout)
    text = read_prompt(session, prompt)
    if text is None:
        command = "chat" if chat else "generate"
        session.report(say("usage.no_prompt"), say("usage.give_prompt", command=command))
        return 2

    from tailrace.cli.upstream import choose_model, client_for, explain_missing
    from tailrace.client.streams import ChatStream, GenerateStream
    from tailrace.errors import ModelNotFoundError
    from tailrace.terminal.figures import progress as progress_line
    from tailrace.terminal.figures import summary
    from tailrace.terminal.printer import JSONPrinter, Printer, answer_printer

    client = client_for(upstream, timeout)
    name = choose_model(client, model, session)
    rest: dict[str, Any] = {"think": _think(think), "format": format, "options": gather(options)}
    stream: ChatStream | GenerateStream
    if chat:
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": text})
        stream = client.chat(name, messages, stream=True, **rest)
    else:
        stream = client.generate(name, text, system=system, stream=True, **rest)
    printer: Printer
    if as_json:
        printer = JSONPrinter(session.out, session.err, name, plain=raw)
    else:
        figures = None if verbose or progress else lambda: stream.reply
        printer = answer_printer(session.out, session.err, name, plain=raw, hide_thinking=hide_thinking, reply=figures)
    reader = stream.reader()
    printer.waiting.follow(reader)
    try:
        with session.stops.over(stream, printer.give_back), stream:
            printer.waiting.start()
            while events := reader.read():
                printer.show(events)
    finally:
        printer.waiting.stop()
        printer.give_back()
    try:
        reply = stream.wait()  # raises what the ending is, if it is an error
    except ModelNotFoundError as error:
        raise explain_missing(error, client, name) from error
    finally:
        if progress and not as_json:
            session.err.line(progress_line(stream.reply))
        if verbose:
            for line in summary(stream.reply):
                session.err.line(line)
    return session.stops.code if reply.interrupted else 0


def _converse(
    session: Session, settings: Settings, model: str | None, upstream: str | None, timeout: float | None
) -> int:
    """Goes on until somebody leaves, and returns the exit code."""
    from tailrace.cli.upstream import choose_model, client_for, explain_missing
    from tailrace.errors import ModelNotFoundError, RequestError, TailraceError
    from tailrace.terminal.repl.session import Repl

    client = client_for(upstream, timeout)
    settings.model = choose_model(client, model, session)

    def report(error: TailraceError) -> None:
        if isinstance(error, ModelNotFoundError):
            error = explain_missing(error, client, settings.model)
        session.report_error(error)

    def parse(text: str) -> tuple[str, Any]:
        try:
            return ModelOption().convert(text, None, None)
        except click.UsageError as error:
            raise RequestError(error.message) from error

    return Repl(client, settings, report=report, parse_option=parse).run()


def _think(word: str | None) -> bool | str | None:
    return {"true": True, "false": False}.get(word, word) if word is not None else None
