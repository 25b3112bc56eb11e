"""`tailrace chat` and `tailrace generate`: what goes where."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.cli.driver import Command

from tailrace.events import Ended, Event, Outcome, TextDelta
from tailrace.testing import FakeModel, FakeOllama, FakeOpenAI, done, say, think, tool_call


def test_the_answer_alone_is_on_standard_output(server: FakeOllama, tailrace: Command) -> None:
    """Thinking and tool calls go to standard error."""
    server.script(think("hm, ", "well"), say("Good ", "day.\n"), tool_call("look", {"x": 1}))

    result = tailrace("chat", "-m", "m", "hi")

    assert (result.code, result.out) == (0, b"Good day.\n")
    assert "hm, well" in result.err
    assert '[tool call] look({"x":1})' in result.err


@pytest.mark.parametrize(("command", "path"), [("chat", "/api/chat"), ("generate", "/api/generate")])
def test_everything_asked_for_is_sent(server: FakeOllama, tailrace: Command, command: str, path: str) -> None:
    """Model, system prompt, options by their types, format and think reach the server."""
    asked = ["--system", "Be brief.", "--option", "temperature=0.5", "--option", "num_ctx=512", "--option", "stop=a"]
    more = ["--option", 'stop=["b"]', "--option", "use_mmap=false", "--format", '{"type": "object"}', "--think", "high"]

    result = tailrace(command, "-m", "m", *asked, *more, "two", "words")

    assert result.code == 0, result.err
    sent = server.wait_for_request(path=path).json
    assert sent["model"] == "m"
    assert sent["think"] == "high"
    assert sent["format"] == {"type": "object"}
    assert sent["options"] == {"temperature": 0.5, "num_ctx": 512, "stop": ["a", "b"], "use_mmap": False}
    if command == "chat":
        assert sent["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "two words"},
        ]
    else:
        assert (sent["system"], sent["prompt"]) == ("Be brief.", "two words")


def test_think_without_a_value_leaves_the_prompt_alone(server: FakeOllama, tailrace: Command) -> None:
    """`--think "Why?"` thinks about why."""
    assert tailrace("chat", "--think", "Why?").code == 0
    sent = server.wait_for_request(path="/api/chat").json
    assert (sent["think"], sent["messages"][0]["content"]) == (True, "Why?")


def test_format_json_and_a_schema_file(server: FakeOllama, tailrace: Command, tmp_path: Path) -> None:
    """The format is the word json, or a file with a schema."""
    (tmp_path / "schema.json").write_text('{"type": "array"}')
    tailrace("chat", "hi", "--format", "json")
    tailrace("chat", "hi", "--format", str(tmp_path / "schema.json"))
    assert server.wait_for_request(1, path="/api/chat").json["format"] == "json"
    assert server.wait_for_request(2, path="/api/chat").json["format"] == {"type": "array"}


def test_piped_input_comes_before_the_prompt(server: FakeOllama, tailrace: Command) -> None:
    """As with `ollama run`; Chinese text and a byte order mark are no trouble."""
    tailrace("chat", "Translate this.", stdin="\ufeff你好\n".encode())
    tailrace("chat", stdin=b"alone")
    contents = [server.wait_for_request(n, path="/api/chat").json["messages"][0]["content"] for n in (1, 2)]
    assert contents == ["你好\n Translate this.", "alone"]


def test_json_is_one_event_a_line(server: FakeOllama, tailrace: Command) -> None:
    """Each line decodes to an event; the last is the ending."""
    server.script(say("a", "b\n", "\x1b[31m"))

    result = tailrace("chat", "--json", "hi")

    events = [msgspec.json.decode(line, type=Event) for line in result.out.splitlines()]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "ab\n\x1b[31m"
    assert isinstance(events[-1], Ended)
    assert events[-1].outcome is Outcome.COMPLETE


def test_verbose_prints_what_ollama_prints(server: FakeOllama, tailrace: Command) -> None:
    """Ollama's labels in Ollama's columns, in every language, and the time to the first token."""
    figures: dict[str, Any] = {"total_duration": 18293521648, "load_duration": 97885315, "prompt_eval_count": 21}
    figures |= {"prompt_eval_duration": 1346030951, "eval_count": 160, "eval_duration": 16774703785}
    server.script(say("x"), done("stop", **figures))

    result = tailrace("chat", "--verbose", "--lang", "zh", "hi")

    lines = result.err.splitlines()
    assert [line for line in lines if not line.startswith("time to first token:  ")] == [
        "total duration:       18.293521648s",
        "load duration:        97.885315ms",
        "prompt eval count:    21 token(s)",
        "prompt eval duration: 1.346030951s",
        "prompt eval rate:     15.60 tokens/s",
        "eval count:           160 token(s)",
        "eval duration:        16.774703785s",
        "eval rate:            9.54 tokens/s",
    ]
    assert len(lines) == 9


def test_progress_prints_what_the_tutorial_prints(server: FakeOllama, tailrace: Command) -> None:
    """The number of characters, not of tokens, and how long it took; in the tutorial's words in Chinese."""
    server.always(say("春天", " 来了"))
    english, chinese = tailrace("chat", "--progress", "hi"), tailrace("chat", "--progress", "--lang", "zh", "hi")
    assert english.out.decode() == "春天 来了"
    assert re.fullmatch(r"5 characters written · [\d.]+ s\n", english.err)
    assert re.fullmatch(r"共输出 5 个字符 · [\d.]+ 秒\n", chinese.err)


def test_an_answer_cut_by_the_limit_says_so(server: FakeOllama, tailrace: Command) -> None:
    """An answer that was cut is not taken for a whole one."""
    server.script(say("half"), done("length"))
    result = tailrace("chat", "hi")
    assert (result.code, result.out) == (0, b"half")
    assert "token limit" in result.err


# -- which model ------------------------------------------------------------------------------------------------------


def test_the_only_model_needs_no_name(server: FakeOllama, tailrace: Command) -> None:
    """A model that only embeds does not count."""
    with FakeOllama(models=["one", FakeModel("embedder", capabilities=("embedding",))]) as other:
        assert tailrace("chat", "hi", "--upstream", other.url).code == 0
        assert other.wait_for_request(path="/api/chat").json["model"] == "one:latest"


def test_several_models_are_listed(tailrace: Command) -> None:
    """With several models there, one must be named: with -m, or by the environment."""
    with FakeOllama(models=["one", "two"]) as other:
        result = tailrace("chat", "hi", "--upstream", other.url)
        named = tailrace("chat", "hi", "--upstream", other.url, env={"TAILRACE_MODEL": "two"})
    assert (result.code, result.out) == (1, b"")
    assert "choose one with -m" in result.err
    assert "one:latest, two:latest" in result.err
    assert named.code == 0


def test_no_model_at_all(tailrace: Command) -> None:
    """An Ollama without models: how to get one."""
    with FakeOllama(models=[]) as other:
        result = tailrace("chat", "hi", "--upstream", other.url)
    assert result.code == 1
    assert "ollama pull" in result.err


def test_an_openai_upstream(tailrace: Command) -> None:
    """The only model of /v1/models is taken, and answers."""
    with FakeOpenAI("vllm", models=["served"]) as other:
        other.script(say("yes"))
        result = tailrace("chat", "hi", "--upstream", f"openai:{other.base_url}")
        assert other.wait_for_request(path="/v1/chat/completions").json["model"] == "served"
    assert (result.code, result.out) == (0, b"yes")


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_unknown_model_names_what_is_there(tailrace: Command) -> None:
    """What was asked for, what there is, and how to get it."""
    result = tailrace("chat", "-m", "nope", "hi")
    first, second = result.err.splitlines()
    assert (result.code, result.out) == (1, b"")
    assert "'nope'" in first
    assert "m:latest" in second
    assert "ollama pull nope" in second


def test_a_broken_answer_keeps_its_text(server: FakeOllama, tailrace: Command) -> None:
    """The text stays on standard output; the error names the outcome."""
    from tailrace.testing import cut

    server.script(say("half an ans"), cut())
    result = tailrace("chat", "hi")
    assert (result.code, result.out) == (1, b"half an ans")
    assert result.err.startswith("tailrace: the answer is incomplete (truncated): ")


def test_json_ends_with_the_ending_of_a_broken_answer(server: FakeOllama, tailrace: Command) -> None:
    """Whoever reads the events learns of the fault there, too."""
    from tailrace.testing import fin

    server.script(say("half"), fin())
    result = tailrace("chat", "--json", "hi")
    last = json.loads(result.out.splitlines()[-1])
    assert result.code == 1
    assert (last["type"], last["outcome"]) == ("ended", "truncated")
