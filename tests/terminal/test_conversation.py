"""A conversation as a person has it, in a real terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.terminal.conftest import Open
from tests.terminal.pane import DEADLINE

from tailrace.testing import FakeOllama, done, error, hold, say, slow_load, status, think, tool_call, wait_for

pytestmark = pytest.mark.skipif(os.name == "nt", reason="tmux")

# How soon a second Ctrl-C has to come to leave, instead of within a second.
AGAIN = "from tailrace.terminal.repl import interrupts; interrupts._AGAIN = {seconds}"


def asked(server: FakeOllama, n: int) -> list[dict[str, str]]:
    """The messages of the n-th question."""
    messages: list[dict[str, str]] = server.wait_for_request(n, path="/api/chat").json["messages"]
    return messages


def test_answered_stopped_continued(server: FakeOllama, chat: Open) -> None:
    """The main path: the second question has the first turn before it, and a stopped answer is gone on from."""
    server.script(say("Hel", "lo."), done(eval_count=2, eval_duration=50_000_000))
    server.script(say("One, two, ", "three"), hold())
    server.script(say(", four."))
    pane = chat()
    screen = pane.say("hi", "first token")
    assert re.search(r"\nHello\.\n2 tok · 40 tok/s · first token \d+\.\d\d s\n", screen)

    pane.type("count")
    pane.wait("three")
    pane.press("C-c")
    pane.wait("[stopped · ~2 tok")
    assert server.wait_for_request(2, path="/api/chat").wait_until_left()

    pane.say("/continue", ", four.")
    assert [m["content"] for m in asked(server, 3)] == ["hi", "Hello.", "count", "One, two, three"]
    assert all("interrupted" not in message for message in asked(server, 3))

    server.script(say("Bye."))
    pane.say("and?", "Bye.")
    assert asked(server, 4)[3]["content"] == "One, two, three, four."
    pane.type("/bye")
    assert pane.end() == 0


def test_the_wait_is_visible(server: FakeOllama, chat: Open) -> None:
    """What it waits for, in one line, which is gone when the answer comes."""
    server.script(slow_load(), say("now"))
    server.script(wait_for("asked"), status(200, {"models": []}), path="/api/ps")
    pane = chat()
    pane.ready()
    pane.type("hi")
    pane.wait("waiting for m")
    server.open("asked")
    pane.wait("loading m ")
    server.release("load")
    pane.wait("first token")
    assert "loading m" not in pane.ready(2)


def test_stop_before_the_first_token(server: FakeOllama, chat: Open) -> None:
    """Nothing joins the conversation, and it goes on."""
    server.script(hold())
    server.script(say("yes"))
    pane = chat()
    pane.ready()
    pane.type("hi")
    server.wait_for_request(path="/api/chat").wait_until_phase("holding")
    pane.press("C-c")
    pane.wait("[stopped]")
    pane.ready(2)
    pane.say("again", "yes")
    assert [m["content"] for m in asked(server, 2)] == ["again"]


@pytest.mark.parametrize("where", ["answer", "prompt"])
def test_second_ctrl_c_leaves(server: FakeOllama, chat: Open, where: str) -> None:
    """Within a second, from an answer or from the line; the cursor is there again."""
    server.script(say("words"), hold())
    pane = chat(before=AGAIN.format(seconds=60))  # reading the screen in between may take longer than a second
    pane.ready()
    if where == "answer":
        pane.type("hi")
        pane.wait("words")
        pane.press("C-c")
        pane.wait("[stopped")
    else:
        pane.press("C-c")
        pane.wait("Use Ctrl + d")
    pane.press("C-c")
    assert pane.end() == 130
    assert pane.tmux("display-message", "-p", "#{cursor_flag}").strip() == "1"


def test_ctrl_c_at_the_line(chat: Open) -> None:
    """It clears what was typed; on an empty line it tells how to leave."""
    pane = chat(before=AGAIN.format(seconds=0))
    pane.ready()
    pane.tmux("send-keys", "-l", "never sent")
    pane.wait(">>> never sent")
    pane.press("C-c")
    pane.wait_gone("never sent")
    pane.press("C-c")
    pane.wait("Use Ctrl + d or /bye to exit.")
    pane.press("C-d")
    assert pane.end() == 0


def test_hangup_saves(server: FakeOllama, chat: Open, state: Path) -> None:
    """A terminal that vanishes in the middle of an answer: what was said is kept, and can be loaded."""
    server.script(say("half an "), hold())
    server.script(say("answer"))
    pane = chat()
    pane.ready()
    pane.type("hi")
    pane.wait("half an")
    pane.close()
    assert server.wait_for_request(path="/api/chat").wait_until_left()
    deadline = time.monotonic() + DEADLINE
    while not (files := list((state / "conversations").glob("closed-*.json"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    saved = json.loads(files[0].read_text())
    assert [m["content"] for m in saved["messages"]] == ["hi", "half an "]
    assert saved["messages"][1]["interrupted"] == "cancelled"

    again = chat()
    again.say(f"/load {files[0].stem}", "2 messages; m answers")
    again.say("/continue", "answer")
    assert asked(server, 2)[-1] == {"role": "assistant", "content": "half an "}


def test_lines_are_kept_between_sessions(server: FakeOllama, chat: Open, state: Path) -> None:
    """The arrow brings them back; a damaged line of the file costs itself only."""
    server.always(say("yes"))
    first = chat()
    first.say("a question 问题", "first token")
    first.press("C-d")
    assert first.end() == 0
    with (state / "history").open("ab") as file:
        file.write(b'\xff\xfe{"\n')
    second = chat()
    second.wait("1 damaged lines of")
    second.ready()
    second.press("Up")
    second.wait(">>> a question 问题")
    second.press("Enter")
    second.wait("first token")
    assert asked(server, 2)[-1]["content"] == "a question 问题"


def test_a_history_that_cannot_be_kept(server: FakeOllama, chat: Open, state: Path) -> None:
    """It is said once, and the conversation goes on."""
    (state / "history").mkdir(parents=True)
    server.always(say("yes"))
    pane = chat()
    pane.wait("cannot read the line history")
    pane.say("hi", "first token")
    screen = pane.say("ho", "cannot keep the line history")
    assert screen.count("cannot keep the line history") == 1


def test_many_lines(server: FakeOllama, chat: Open) -> None:
    """Three quotation marks, Alt+Enter and a paste each make one message."""
    server.always(say("yes"))
    pane = chat()
    pane.ready()
    pane.type('"""one')
    pane.wait("\n...")
    pane.type('two"""')
    pane.wait("first token", 1)
    pane.ready()
    pane.say('"""inline"""', "first token")
    pane.wait("first token", 2)
    pane.ready()
    pane.type("three", "M-Enter")
    pane.type("four")
    pane.wait("first token", 3)
    pane.ready()
    pane.paste("def f():\n    return 1\n\nf()")
    pane.wait("... f()")
    pane.press("Enter")
    pane.wait("first token", 4)
    wanted = ["one\ntwo", "inline", "three\nfour", "def f():\n    return 1\n\nf()"]
    assert [m["content"] for m in asked(server, 4) if m["role"] == "user"] == wanted


def test_chinese_in_columns(server: FakeOllama, chat: Open) -> None:
    """Typed, edited and answered: wide characters take two columns everywhere."""
    server.script(say("**注意：**", "后面是中文。", "很长的一段话，" * 12))
    pane = chat("--lang", "zh", size=(40, 20))
    pane.ready()
    assert "输入消息（/? 查看帮助）" in pane.screen()
    pane.type("你好世界", "Left", "Left", "BSpace")
    pane.type("们")
    pane.wait("首个 token")
    pane.ready()
    assert asked(server, 1)[0]["content"] == "你们世界"
    rows = pane.rows()
    start = next(number for number, row in enumerate(rows) if row.startswith("注意："))
    assert rows[start + 1].strip().endswith(("，", "话", "的", "段", "一", "长", "很"))
    assert "**" not in pane.screen()


def test_a_long_code_block(server: FakeOllama, chat: Open) -> None:
    """Longer than the screen: each line is there once, in order, also above."""
    lines = [f"line_{n} = {n}\n" for n in range(120)]
    server.script(say("Here:\n\n```python\n", *lines, "```\n\nDone."))
    pane = chat(size=(60, 15))
    screen = pane.say("code", "first token")
    found = [line for line in screen.splitlines() if line.startswith("line_")]
    assert found == [line.rstrip() for line in lines]


@pytest.mark.parametrize("columns", [80, 44])
def test_resize_while_streaming(server: FakeOllama, chat: Open, columns: int) -> None:
    """Nothing is lost, and what comes after has the new width.

    A tmux that gets narrower may scroll rows out of reach: then the first rows of before stay above, once.
    """
    server.script(say(*(f"word{n} " for n in range(30))), hold(), say(*(f"word{n} " for n in range(30, 60))))
    pane = chat(size=(60, 20))
    pane.ready()
    pane.type("go")
    pane.wait("word29")
    pane.resize(columns, 20)
    server.release()
    pane.wait("first token")
    words = pane.ready(2).split()
    start, end = words.index("go") + 1, words.index("60", words.index("go"))
    found, wanted = words[start:end], [f"word{n}" for n in range(60)]
    old = found[:-60]
    assert found[-60:] == wanted
    assert "".join(wanted[:30]).startswith("".join(old))
    assert not old or columns < 60


def test_thinking_and_tools(server: FakeOllama, chat: Open) -> None:
    """Thinking is shown, or one line of it; tool calls as they come."""
    for _ in range(2):
        server.script(think("hmm, ", "so"), say("yes"), tool_call("look", {"x": 1}))
    pane = chat()
    screen = pane.say("hi", "[tool call]")
    assert "hmm, so\n\nyes" in screen
    assert '[tool call] look({"x":1})' in screen
    other = chat("--hide-thinking")
    screen = other.say("hi", "[tool call]")
    assert "hmm" not in screen
    assert re.search(r"\[thought for \d+\.\d s\]", screen)


@pytest.mark.parametrize("how", ["NO_COLOR", "raw"])
def test_plain_text(server: FakeOllama, chat: Open, how: str) -> None:
    """No Markdown and no styles where they are not wanted."""
    server.script(say("**bold** and `code`"))
    pane = chat("--raw") if how == "raw" else chat(NO_COLOR="1")
    screen = pane.say("hi", "first token")
    assert "**bold** and `code`" in screen


def test_a_prompt_larger_than_the_context(server: FakeOllama, chat: Open) -> None:
    """Both numbers are said, and the conversation goes on."""
    inner = {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_prompt_tokens": 5000}
    server.script(error(json.dumps({"error": {**inner, "n_ctx": 4096}})))
    server.script(say("yes"))
    pane = chat()
    screen = pane.say("hi", "tailrace: ")
    assert "5000" in screen
    assert "4096" in screen
    pane.say("again", "yes")


def test_a_locale_that_does_not_exist(server: FakeOllama, chat: Open) -> None:
    """It works, in English, and Chinese can still be typed and read."""
    server.script(say("好"))
    pane = chat(LC_ALL="xx_YY.UTF-8")
    pane.say("你好", "\n好")
    assert asked(server, 1)[0]["content"] == "你好"


def test_keys_typed_during_an_answer_wait(server: FakeOllama, chat: Open) -> None:
    """They do not show amid the answer; they are the next line."""
    server.script(say("one "), hold(), say("two"))
    pane = chat()
    pane.ready()
    pane.type("hi")
    pane.wait("one")
    pane.tmux("send-keys", "-l", "typed ahead")
    server.release()
    pane.wait("first token")
    screen = pane.wait(">>> typed ahead")
    assert "one two" in screen


def test_what_the_status_says() -> None:
    """Prefill in per cent and the place in the queue, where the server tells them."""
    from tailrace.events import Loading, Prefill, Queued
    from tailrace.terminal.sink import Sink
    from tailrace.terminal.status import Status

    status = Status(Sink(None), "m")
    assert status._now() == "waiting for m"
    status.note(Queued(2))
    assert status._now() == "queued, number 2"
    status.note(Queued())
    assert status._now() == "m is busy; waiting for a turn"
    status.note(Loading("m"))
    assert status._now() == "loading m"
    status.note(Prefill(41, 100))
    assert status._now() == "reading the prompt 41 %"
    status.note(Prefill())
    assert status._now() == "reading the prompt"


def test_sigterm_saves_and_leaves(server: FakeOllama, chat: Open, state: Path) -> None:
    """While a line is being read."""
    server.script(say("yes"))
    pane = chat()
    pane.say("hi", "first token")
    pid = int(pane.tmux("display-message", "-p", "#{pane_pid}"))
    child = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()[0]
    os.kill(int(child), signal.SIGTERM)
    assert pane.end() == 143
    assert list((state / "conversations").glob("closed-*.json"))
