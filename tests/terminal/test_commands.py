"""Each command of a conversation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.terminal.conftest import Open
from tests.terminal.pane import DEADLINE

from tailrace.testing import FakeOllama, hold, say

pytestmark = pytest.mark.skipif(os.name == "nt", reason="tmux")


def test_settings_reach_the_model(server: FakeOllama, chat: Open) -> None:
    """What /set and /model change goes along with the next question."""
    server.always(say("yes"))
    pane = chat()
    pane.say("/set parameter temperature 0.5", "temperature is 0.5 now")
    pane.say("/set parameter nope 1", "no model option is called 'nope'")
    pane.say("/set parameter seed x", "seed takes a whole number")
    pane.say("/set system Be brief.", "the system prompt is set")
    pane.say("/set format json", "answers will be JSON")
    pane.say("/set think low", "thinking is on")
    pane.say("/set wordwrap", "shown as Markdown")
    pane.say("/set nothing", "usage: /set parameter|system|")
    pane.say("/model n", "n answers from now on")
    pane.say("/model x", "there is no model x")
    pane.say("hi", "first token")
    sent = server.wait_for_request(path="/api/chat").json
    assert sent["options"] == {"temperature": 0.5}
    assert (sent["model"], sent["format"], sent["think"]) == ("n", "json", "low")
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    pane.say("/set noformat", "any form")
    pane.say("/set nothink", "thinking is off")
    pane.say("/set verbose", "follow each answer")
    pane.say("hi", "eval count:")
    pane.say("/set quiet", "will not be shown")
    pane.say("/system", "Be brief.")
    pane.say("/set nohistory", "not kept from now on")


def test_looking_around(server: FakeOllama, chat: Open) -> None:
    """/list, /show, /stats, /?, and words that are no command."""
    server.script(say("yes"))
    pane = chat()
    pane.say("/list", "n:latest")
    pane.say("/show info", "upstream")
    pane.say("/show nope", "usage: /show info|")
    pane.say("/stats", "nothing there yet")
    pane.say("hi", "first token")
    pane.say("/stats", "1 answers · ")
    pane.say("/?", "Ctrl-G opens the editor")
    pane.say("/nope", "no such command: /nope")
    pane.type("/br", "Tab")
    pane.wait(">>> /branch")


def test_what_tab_offers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, their words, options of models, models, saved conversations and paths; nothing in a message."""
    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from tailrace.terminal.repl.completion import CommandCompleter

    (tmp_path / "state" / "conversations").mkdir(parents=True)
    (tmp_path / "state" / "conversations" / "spring.json").touch()
    (tmp_path / "summer.md").touch()
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    commands: dict[str, Sequence[str]] = {
        "/set": ("parameter", "system"),
        "/load": ("<saved>", "<model>", "<path>"),
        "/model": ("<model>",),
        "/export": ("<path>",),
    }
    completer = CommandCompleter(commands, lambda: ["qwen3:0.6b", "smollm2:135m"], ["num_ctx", "seed"])
    completer._fetch()

    def offered(line: str) -> list[str]:
        return [one.text for one in completer.get_completions(Document(line), CompleteEvent())]

    assert offered("/m") == ["/model"]
    assert offered("/set s") == ["system"]
    assert offered("/set parameter n") == ["num_ctx"]
    assert offered("/model q") == ["qwen3:0.6b"]
    assert offered("/load s") == ["spring", "smollm2:135m", "tate", "ummer.md"]  # of a path, what is missing
    assert offered("/export su") == ["mmer.md"]
    assert offered("tell me /m") == []
    assert offered("/nope x") == []


def test_ctrl_l_clears_the_screen(server: FakeOllama, chat: Open) -> None:
    """What was typed stays, in the first line."""
    server.script(say("yes"))
    pane = chat()
    pane.say("hi", "first token")
    pane.type("half", "C-l")
    deadline = time.monotonic() + DEADLINE
    while not pane.rows()[0].startswith(">>> half"):
        assert time.monotonic() < deadline, pane.rows()
    assert "yes" not in "".join(pane.rows())


def test_branches(server: FakeOllama, chat: Open) -> None:
    """/retry, /edit and /clear begin branches; /branch lists them and goes back."""
    for word in ("first", "second", "third", "fourth"):
        server.script(say(f"{word} answer"))
    pane = chat()
    pane.say("/retry", "there is no question yet")
    pane.say("why?", "first answer")
    pane.say("/retry", "second answer")
    pane.ready()
    pane.type("/edit")
    pane.wait(">>> why?", 2)
    pane.type(" really", "Enter")
    pane.wait("third answer")
    pane.say("/branch", "* 3  why? really (2 messages)")
    pane.say("/branch 9", "there are 3")
    pane.say("/branch 1", "on branch 1 now: why?")
    pane.say("more", "fourth answer")
    sent = server.wait_for_request(4, path="/api/chat").json["messages"]
    assert [m["content"] for m in sent] == ["why?", "first answer", "more"]
    pane.say("/clear", "a new conversation")
    pane.say("/continue", "was not interrupted")


def test_save_load_export(server: FakeOllama, chat: Open, tmp_path: Path) -> None:
    """By name or by path; what exists is not overwritten by chance; branches come back."""
    server.script(say("half"), hold())
    server.script(say("other"))
    pane = chat("--system", "Be brief.")
    pane.ready()
    pane.type("why?")
    pane.wait("half")
    pane.press("C-c")
    pane.wait("[stopped")
    pane.say("/retry", "other")
    pane.say("/save talk", "saved: ")
    pane.say("/export talk.md", "saved: talk.md")
    pane.say("/export talk.md", "/export -f talk.md overwrites it")
    pane.say("/export talk.json", "saved: talk.json")
    pane.say("/export talk.txt", "usage: /export")
    pane.say("/export /proc/nope/x.md", "cannot write")
    text = (tmp_path / "talk.md").read_text()
    assert text == "# m\n\n## System\n\nBe brief.\n\n## User\n\nwhy?\n\n## Assistant\n\nother\n"
    data = json.loads((tmp_path / "talk.json").read_text())
    assert [m["role"] for m in data["messages"]] == ["system", "user", "assistant"]
    (tmp_path / "bad.json").write_text('{"tailrace": 1, "messages": [1]}')
    other = chat()
    other.say("/load nope", "neither a conversation nor a model")
    other.say("/load bad.json", "is not a saved conversation")
    other.say("/load talk", "2 messages; m")
    other.say("/system", "Be brief.")
    other.say("/branch 1", "on branch 1")
    other.say("/load n", "n answers from now on")
    other.say("/load", "saved conversations: talk")


def test_copy(server: FakeOllama, chat: Open) -> None:
    """Through the terminal, which keeps it in its own buffer."""
    server.script(say("**copied** 文字"))
    pane = chat(DISPLAY="", WAYLAND_DISPLAY="")
    pane.tmux("set-option", "-g", "set-clipboard", "on")
    pane.say("/copy", "nothing there yet")
    pane.say("hi", "first token")
    assert pane.tmux("list-buffers") == ""
    pane.say("/copy", "13 characters copied")
    assert pane.tmux("show-buffer") == "**copied** 文字"


def test_the_editor(server: FakeOllama, chat: Open, tmp_path: Path) -> None:
    """Ctrl-G opens it with what was typed."""
    server.script(say("yes"))
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf " and more\\nlines" >> "$1"\n')
    editor.chmod(0o755)
    pane = chat(EDITOR=str(editor), VISUAL="")
    pane.ready()
    pane.type("typed", "C-g")
    pane.wait("... lines")
    pane.press("Enter")
    pane.wait("first token")
    sent = server.wait_for_request(path="/api/chat").json["messages"]
    assert "and more\nlines" in sent[0]["content"]
    assert sent[0]["content"].startswith("typed")
