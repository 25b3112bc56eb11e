"""Slash commands: those of ``ollama run``, and more."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tailrace.conversation.export import markdown
from tailrace.errors import TailraceError
from tailrace.i18n import say
from tailrace.terminal.escape import one_line
from tailrace.terminal.figures import rate, summary
from tailrace.terminal.repl import places
from tailrace.terminal.repl.clipboard import copy
from tailrace.terminal.repl.interrupts import Leave
from tailrace.terminal.repl.tree import write_whole
from tailrace.terminal.status import fitting

if TYPE_CHECKING:
    from tailrace.terminal.repl.conversation import Conversation
    from tailrace.terminal.repl.history import LineHistory
    from tailrace.terminal.repl.keys import Line

__all__ = ["Commands"]

_SETS: tuple[str, ...] = (
    "parameter",
    "system",
    "format",
    "noformat",
    "think",
    "nothink",
    "verbose",
    "quiet",
    "wordwrap",
)
_SETS += ("nowordwrap", "history", "nohistory")
_SHOWS = ("info", "parameters", "system", "template", "modelfile", "license")
_LEVELS = ("low", "medium", "high")


class Commands:
    """The commands of a conversation."""

    def __init__(self, repl: Conversation) -> None:
        self._repl = repl
        self._history: LineHistory | None = None
        self._table: dict[str, tuple[Callable[[str], object], Sequence[str]]] = {
            "/set": (self._set, _SETS),
            "/show": (self._show, _SHOWS),
            "/load": (self._load, ("<saved>", "<model>", "<path>")),
            "/save": (self._save, ("<saved>", "<path>")),
            "/clear": (self._clear, ()),
            "/list": (self._list, ()),
            "/model": (self._model, ("<model>",)),
            "/system": (self._system, ()),
            "/continue": (self._continue, ()),
            "/retry": (self._retry, ()),
            "/edit": (self._edit, ()),
            "/branch": (self._branch, ()),
            "/copy": (self._copy, ()),
            "/export": (self._export, ("<path>",)),
            "/stats": (self._stats, ()),
            "/bye": (self._bye, ()),
            "/exit": (self._bye, ()),
            "/help": (self._help, ()),
            "/?": (self._help, ()),
        }

    def line(self) -> Line:
        """Returns the reader of lines."""
        from tailrace.terminal.repl.completion import CommandCompleter
        from tailrace.terminal.repl.history import LineHistory
        from tailrace.terminal.repl.keys import Line
        from tailrace.types import Options

        repl = self._repl
        self._history = LineHistory(places.state_dir() / "history", self._say)
        options = [name for name, kind in Options.__annotations__.items() if not kind.startswith("ClassVar")]
        words = {name: kinds for name, (_, kinds) in self._table.items()}
        completer = CommandCompleter(words, self._models, options)
        completer.refresh()
        return Line(self._history, completer, repl.interrupts, able=repl.out.is_able, hint=repl.err.line)

    def obey(self, text: str) -> bool:
        """Does a command; False if the line is none, but a message that begins with a slash (a path)."""
        name, _, argument = text.strip().partition(" ")
        name, newline, rest = name.partition("\n")
        if name not in self._table:
            if "/" in name[1:] or newline:
                return False
            self._say(say("repl.no_command", name=one_line(name)))
            return True
        self._table[name][0]((rest + " " + argument if newline else argument).strip())
        return True

    def _say(self, text: str) -> None:
        self._repl.err.line(text)

    # -- settings ----------------------------------------------------------------------------------------------------

    def _set(self, argument: str) -> None:
        what, _, value = argument.partition(" ")
        value = value.strip()
        settings = self._repl.settings
        if what == "parameter":
            self._parameter(value)
        elif what == "system":
            self._set_system(value)
        elif what == "format":
            self._format(value)
        elif what == "noformat":
            settings.format = None
            self._say(say("repl.format_off"))
        elif what == "think" and value in ("", *_LEVELS):
            settings.think = value or True
            self._say(say("repl.think_on"))
        elif what == "nothink":
            settings.think = False
            self._say(say("repl.think_off"))
        elif what in ("verbose", "quiet"):
            settings.verbose = what == "verbose"
            self._say(say("repl.verbose_on") if settings.verbose else say("repl.verbose_off"))
        elif what in ("wordwrap", "nowordwrap"):
            settings.raw = what == "nowordwrap"
            self._say(say("repl.raw_on") if settings.raw else say("repl.raw_off"))
        elif what in ("history", "nohistory"):
            assert self._history is not None
            self._history.is_on = what == "history"
            self._say(say("repl.history_on") if self._history.is_on else say("repl.history_off"))
        else:
            self._say(say("repl.usage", usage="/set " + "|".join(_SETS)))

    def _parameter(self, value: str) -> None:
        name, _, text = value.partition(" ")
        if not text.strip():
            self._say(say("repl.usage", usage="/set parameter NAME VALUE"))
            return
        name, typed = self._repl.parse_option(f"{name}={text.strip()}")
        options = self._repl.settings.options
        options[name] = [*options.get(name, ()), *typed] if isinstance(typed, list) else typed
        self._say(say("repl.parameter", name=name, value=json.dumps(options[name], ensure_ascii=False)))

    def _format(self, value: str) -> None:
        if value == "json":
            self._repl.settings.format = "json"
            self._say(say("repl.format_on"))
        else:
            self._say(say("repl.usage", usage="/set format json"))

    def _set_system(self, value: str) -> None:
        from tailrace.terminal.repl.keys import unquoted

        self._repl.settings.system = unquoted(value) or None
        self._say(say("repl.system_set") if value else say("repl.system_none"))

    def _system(self, argument: str) -> None:
        if argument:
            self._set_system(argument)
        else:
            self._say(self._repl.settings.system or say("repl.system_none"))

    def _model(self, name: str) -> None:
        if not name:
            self._say(self._repl.settings.model)
            return
        there = self._models()
        if there and name not in there and f"{name}:latest" not in there:
            self._say(say("repl.no_model", name=name, names=", ".join(there)))
            return
        self._repl.settings.model = name
        self._say(say("repl.model_set", name=name))

    def _models(self) -> list[str]:
        try:
            return [entry.model or entry.name or "" for entry in self._repl.client.list().models]
        except TailraceError:
            return []

    def _list(self, _: str) -> None:
        from tailrace.terminal.figures import size

        entries = self._repl.client.list().models
        names = [one_line(entry.model or entry.name or "") for entry in entries]
        width = max((len(name) for name in names), default=0) + 2
        for name, entry in zip(names, entries, strict=True):
            self._say(f"{name:<{width}}{size(entry.size) if entry.size else ''}".rstrip())
        if not entries:
            self._say(say("list.none", upstream=self._repl.client.upstream))

    def _show(self, what: str) -> None:
        settings = self._repl.settings
        if what not in _SHOWS:
            self._say(say("repl.usage", usage="/show " + "|".join(_SHOWS)))
            return
        if what == "system":
            self._system("")
            return
        if what == "parameters":
            for name, value in settings.options.items():
                self._say(f"{name:<30} {json.dumps(value, ensure_ascii=False)}")
        shown = self._repl.client.show(settings.model)
        if what == "info":
            details = shown.details
            rows = {"model": settings.model, "upstream": self._repl.client.upstream}
            if details is not None:
                rows |= {
                    "architecture": details.family or "",
                    "parameters": details.parameter_size or "",
                    "quantization": details.quantization_level or "",
                }
            length = next((v for k, v in (shown.modelinfo or {}).items() if k.endswith(".context_length")), None)
            rows |= {"context length": str(length or ""), "capabilities": ", ".join(shown.capabilities or ())}
            for name, value in rows.items():
                if value:
                    self._say(f"{name:<16}{value}")
            return
        text = {
            "parameters": shown.parameters,
            "template": shown.template,
            "modelfile": shown.modelfile,
            "license": shown.license,
        }[what]
        if text:
            self._say(text.rstrip("\n"))
        elif what != "parameters" or not settings.options:
            self._say(say("repl.nothing"))

    # -- the conversation --------------------------------------------------------------------------------------------

    def _clear(self, _: str) -> None:
        self._repl.tree.at = None
        self._say(say("repl.cleared"))

    def _continue(self, _: str) -> None:
        place = self._repl.tree.interrupted
        if place is None:
            self._say(say("repl.not_interrupted"))
        elif not any(self._repl.tree.nodes[place].message.get(name) for name in ("content", "thinking")):
            self._retry("")
        else:
            self._repl.go_on(place)

    def _retry(self, _: str) -> None:
        question = self._repl.tree.last("user")
        if question is None:
            self._say(say("repl.no_question"))
        else:
            self._repl.ask_again(question)

    def _edit(self, text: str) -> None:
        tree = self._repl.tree
        question = tree.last("user")
        if question is None:
            self._say(say("repl.no_question"))
            return
        parent = tree.nodes[question].parent
        if text:
            from tailrace.terminal.repl.keys import unquoted

            self._repl.ask(unquoted(text), parent)
            return
        self._repl.parent = (parent,)
        self._repl.draft = str(tree.nodes[question].message["content"])
        self._say(say("repl.edit_hint"))

    def _branch(self, argument: str) -> None:
        tree = self._repl.tree
        branches = tree.branches()
        if not argument:
            way = set(tree.way())
            for number, branch in enumerate(branches, 1):
                mark = "*" if branch.leaf in way else " "
                line = say("repl.branch", number=number, question=one_line(branch.question), count=branch.length)
                self._say(fitting(f"{mark} {line}", 100))
            if not branches:
                self._say(say("repl.nothing"))
            return
        if not argument.isdecimal() or not 1 <= int(argument) <= len(branches):
            self._say(say("repl.no_branch", name=argument, count=len(branches)))
            return
        branch = branches[int(argument) - 1]
        tree.at = branch.leaf
        self._say(say("repl.branch_set", number=argument, question=fitting(branch.question, 60)))

    # -- files and figures -------------------------------------------------------------------------------------------

    def _save(self, name: str) -> None:
        if not name:
            self._say(say("repl.usage", usage="/save NAME"))
            return
        repl = self._repl
        path = places.conversation(name)
        if self._write(path, repl.tree.encoded(repl.settings.model, repl.settings.system)):
            repl.unsaved = False
            self._say(say("repl.saved", path=path))

    def _write(self, path: Path, data: bytes) -> bool:
        try:
            write_whole(path, data)
        except OSError as error:
            self._say(say("repl.unsaved", path=path, reason=error.strerror))
            return False
        return True

    def _load(self, name: str) -> None:
        repl = self._repl
        if not name:
            there = places.names()
            self._say(say("repl.saved_here", names=", ".join(there)) if there else say("repl.nothing"))
            return
        path = places.conversation(name)
        try:
            model, system = repl.tree.restore(path)
        except FileNotFoundError:
            if name in self._models() or f"{name}:latest" in self._models():
                self._model(name)
            else:
                self._say(say("repl.no_saved", name=name))
            return
        except OSError as error:
            self._say(say("repl.unread", path=path, reason=error.strerror))
            return
        repl.settings.system = system
        if model:
            repl.settings.model = model
        repl.unsaved = False
        self._say(say("repl.loaded", count=len(repl.tree.way()), model=repl.settings.model))

    def _export(self, argument: str) -> None:
        repl = self._repl
        force = argument.startswith("-f ")
        name = argument.removeprefix("-f ").strip()
        path = Path(name).expanduser()
        if path.suffix.lower() not in (".md", ".markdown", ".json"):
            self._say(say("repl.usage", usage="/export FILE.md | FILE.json"))
            return
        if not force and os.path.lexists(path):
            self._say(say("repl.exists", path=path))
            return
        if path.suffix.lower() == ".json":
            data = repl.tree.encoded(repl.settings.model, repl.settings.system)
        else:
            data = markdown(repl.settings.model, repl.settings.system, repl.tree.messages()).encode("utf-8", "replace")
        if self._write(path, data):
            self._say(say("repl.saved", path=path))

    def _copy(self, _: str) -> None:
        repl = self._repl
        place = repl.tree.last("assistant")
        text = repl.tree.nodes[place].message.get("content") if place is not None else ""
        if not text:
            self._say(say("repl.nothing"))
        elif copy(str(text), repl.out.draw if repl.out.is_able else None):
            repl.out.column = 0
            self._say(say("repl.copied", count=f"{len(text):,}"))
        else:
            self._say(say("repl.not_copied"))

    def _stats(self, _: str) -> None:
        replies = self._repl.replies
        if not replies:
            self._say(say("repl.nothing"))
            return
        tokens = sum(reply.metrics.output_tokens for reply in replies)
        rates = [reply.metrics.tokens_per_second for reply in replies if reply.metrics.tokens_per_second]
        firsts = [
            reply.metrics.time_to_first_token for reply in replies if reply.metrics.time_to_first_token is not None
        ]
        rows: list[str] = [say("repl.stats", turns=len(replies), tokens=f"{tokens:,}")]
        if rates:
            rows.append(say("repl.stats_rate", rate=rate(sum(rates) / len(rates))))
        if firsts:
            rows.append(say("repl.stats_first", seconds=f"{sum(firsts) / len(firsts):.2f}"))
        self._say(" · ".join(rows))
        for line in summary(replies[-1]):
            self._say(line)

    def _bye(self, _: str) -> None:
        raise Leave(0)

    def _help(self, _: str) -> None:
        self._say(say("repl.help"))
