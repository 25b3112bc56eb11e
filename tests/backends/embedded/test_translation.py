"""Ollama's requests to the engine's, and the engine's chunks to Ollama's lines; no engine here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tailrace.backends.embedded import engine, requests
from tailrace.backends.embedded.answers import Answer
from tailrace.backends.embedded.engine import Facts
from tailrace.events import Ended, Outcome, ToolCall, ToolCallDelta
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.requests import GenerateBody, OllamaAPIError

ABLE = Facts(n_ctx=4096, tools=True, thinking=True, vision=True)
PLAIN = Facts(n_ctx=4096)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def chat_payload(body: dict[str, Any], facts: Facts = ABLE, system: str | None = None) -> dict[str, Any]:
    asked = json.dumps({"model": "m", "messages": [], **body}).encode()
    parsed = ollama_requests.decode(asked, requests.EngineChatBody)
    chosen = requests.options(parsed.options, {})
    return dict(json.loads(requests.chat_payload(parsed, chosen, facts, system)))


# ---- options ----


def test_options_request_over_model_over_ollamas_defaults() -> None:
    chosen = requests.options({"top_k": 5.0, "seed": None, "unknown": "x", "num_thread": 3}, {"seed": 7, "top_k": 1})
    assert (chosen["top_k"], chosen["seed"], chosen["temperature"], chosen["top_p"]) == (5, 7, 0.8, 0.9)
    assert "unknown" not in chosen
    assert "num_thread" not in chosen


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"stop": "x"}, 'option "stop" must be of type array'),
        ({"stop": [1]}, 'option "stop" must be of an array of strings'),
        ({"top_k": "1"}, 'option "top_k" must be of type integer'),
        ({"top_k": True}, 'option "top_k" must be of type integer'),
        ({"top_k": float("nan")}, 'option "top_k" must be of type integer'),
        ({"seed": 1e300}, 'option "seed" must be of type integer'),
        ({"top_p": []}, 'option "top_p" must be of type float32'),
    ],
)
def test_options_of_the_wrong_type(given: dict[str, Any], text: str) -> None:
    with pytest.raises(OllamaAPIError) as caught:
        requests.options(given, {})
    assert (caught.value.status, caught.value.text) == (500, text)


# ---- requests ----


def test_chat_payload() -> None:
    """Always streamed, with progress and a limit: without them it could not be stopped, or would not stop."""
    payload = chat_payload({"messages": [{"role": "USER", "content": "hi"}], "options": {"num_keep": 4, "num_ctx": 9}})
    assert payload["messages"] == [{"role": "user", "content": "hi"}]
    assert (payload["stream"], payload["return_progress"], payload["max_tokens"]) == (True, True, 4096)
    assert payload["n_keep"] == 4
    assert "num_ctx" not in payload
    for predict, limit in ((5, 5), (-1, 4096), (-2, 4096), (0, 4096), (10**9, 4096)):
        assert chat_payload({"options": {"num_predict": predict}})["max_tokens"] == limit


def test_system_prompt_of_the_model() -> None:
    """The model's own comes first, unless the conversation has one."""
    mine = {"messages": [{"role": "user", "content": "hi"}]}
    assert chat_payload(mine, system="S")["messages"][0] == {"role": "system", "content": "S"}
    other = {"messages": [{"role": "system", "content": "O"}, *mine["messages"]]}
    assert [message["content"] for message in chat_payload(other, system="S")["messages"]] == ["O", "hi"]


def test_tools_and_their_answers() -> None:
    """Arguments become a string, and answers are paired by id, by name, or in order."""
    call = {"function": {"name": "weather", "arguments": {"city": "Köln"}}}
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_a", **call}, call]},
        {"role": "tool", "content": "rain", "tool_call_id": "call_a"},
        {"role": "tool", "content": "sun", "tool_name": "weather"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "snow"},
        {"role": "tool", "content": "more"},
    ]
    payload = chat_payload({"messages": messages, "tools": [TOOL]})
    assert payload["tools"] == [TOOL]
    first, second, third, fourth, fifth, sixth = payload["messages"]
    assert first["content"] == ""
    assert [called["id"] for called in first["tool_calls"]] == ["call_a", "call_0_1"]
    assert first["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Köln"}'}
    assert second == {"role": "tool", "content": "rain", "tool_call_id": "call_a", "name": "weather"}
    assert third["tool_call_id"] == "call_0_1"
    assert (fourth["tool_calls"][0]["id"], fifth["tool_call_id"]) == ("call_3_0", "call_3_0")
    assert sixth == {"role": "tool", "content": "more"}


def test_images() -> None:
    messages = [{"role": "user", "content": "what?", "images": ["QUJD"]}]
    content = chat_payload({"messages": messages})["messages"][0]["content"]
    assert content[0] == {"type": "text", "text": "what?"}
    assert content[1]["image_url"]["url"].endswith(";base64,QUJD")


def test_thinking() -> None:
    """Unset means true where the model can think; what it cannot do is refused."""
    assert chat_payload({})["chat_template_kwargs"] == {"enable_thinking": True}
    assert chat_payload({"think": False})["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat_payload({"think": "max"})["chat_template_kwargs"] == {
        "enable_thinking": True,
        "reasoning_effort": "high",
    }
    assert "chat_template_kwargs" not in chat_payload({"think": False}, PLAIN)
    for body, text in (
        ({"think": True}, '"m" does not support thinking'),
        ({"think": "low"}, '"m" does not support thinking'),
        ({"tools": [TOOL]}, "m does not support tools"),
        ({"messages": [{"role": "user", "images": ["QUJD"]}]}, "m does not support images"),
    ):
        with pytest.raises(OllamaAPIError, match=text) as caught:
            chat_payload(body, PLAIN)
        assert caught.value.status == 400


def test_thinking_is_fed_back() -> None:
    messages = [
        {"role": "assistant", "content": "4", "thinking": "2+2"},
        {"role": "user", "content": "x", "thinking": "y"},
    ]
    one, two = chat_payload({"messages": messages})["messages"]
    assert one["reasoning_content"] == "2+2"
    assert "reasoning_content" not in two


def test_format() -> None:
    schema = {"type": "object"}
    assert "response_format" not in chat_payload({"format": ""})
    assert chat_payload({"format": "json"})["response_format"] == {"type": "json_object"}
    assert chat_payload({"format": schema})["response_format"]["json_schema"] == {"schema": schema}


def test_generate_and_raw() -> None:
    body = GenerateBody(model="m", prompt="p", system="S", logprobs=True, top_logprobs=3, format={"type": "object"})
    chosen = requests.options(None, {})
    payload = json.loads(requests.generate_payload(body, chosen, PLAIN, "model's"))
    assert [message["content"] for message in payload["messages"]] == ["S", "p"]
    assert (payload["logprobs"], payload["top_logprobs"]) == (True, 3)
    body.system = ""
    payload = json.loads(requests.generate_payload(body, chosen, PLAIN, "model's"))
    assert len(payload["messages"]) == 1  # an empty one is a wish too
    body.system = None
    raw = json.loads(requests.raw_payload(body, chosen, PLAIN))
    assert (raw["prompt"], raw["logprobs"], raw["json_schema"]) == ("p", 3, {"type": "object"})
    assert "messages" not in raw


@pytest.mark.parametrize(
    ("field", "text"), [({"template": "t"}, "the model's own template"), ({"context": [1]}, "context is not supported")]
)
def test_prompts_that_are_refused(field: dict[str, Any], text: str) -> None:
    """What the engine cannot do with a prompt is a bad request, which says what to do."""
    with pytest.raises(OllamaAPIError, match=text) as caught:
        requests.generate_payload(GenerateBody(model="m", prompt="p", **field), requests.options(None, {}), PLAIN, None)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("field", "text"),
    [({"images": ["AAAA"]}, "does not support images"), ({"think": True}, "does not support thinking")],
)
def test_raw_prompts_that_are_refused(field: dict[str, Any], text: str) -> None:
    """A prompt that is used as it is has no place for images and reasoning."""
    with pytest.raises(OllamaAPIError, match=text) as caught:
        requests.raw_payload(GenerateBody(model="m", prompt="p", **field), requests.options(None, {}), PLAIN)
    assert caught.value.status == 400


# ---- answers ----


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta if delta is not None else {}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "object": "chat.completion.chunk", **more}).encode()


TIMINGS = {"cache_n": 3, "prompt_n": 4, "prompt_ms": 1.5, "predicted_n": 2, "predicted_ms": 2.5}


class Folded:
    """What chunks come to: the answer, its lines, and the one record of an answer that is not streamed."""

    def __init__(self, *chunks: bytes, chat: bool = True) -> None:
        self.answer = Answer("m", chat=chat, load_ns=5, started_ns=0)
        self.events = [event for one in chunks for event in self.answer.feed(one)]
        self.error = self.answer.error
        self.written = self.answer.lines(self.events)
        self.lines = [json.loads(line) for line in self.written.splitlines()]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "tailrace" not in line]

    def whole(self) -> dict[str, Any]:
        return dict(json.loads(self.answer.whole(self.events)))


def part(index: int, arguments: str, **more: Any) -> bytes:
    function = {"arguments": arguments, **({"name": more["name"]} if "name" in more else {})}
    return chunk({"tool_calls": [{"index": index, "function": function, **({"id": more["id"]} if more else {})}]})


def test_answer_with_text() -> None:
    """As recorded from the engine: progress, the role, text, the end with its figures."""
    progress: dict[str, Any] = {"prompt_progress": {"total": 7, "cache": 3, "processed": 7, "time_ms": 1}}
    answer = Folded(
        chunk({"role": "assistant", "content": None}, **progress),
        chunk({"role": "assistant", "content": None}),
        chunk({"content": "Hi"}),
        chunk({"content": "\u2028é"}),
        chunk(finish="stop", timings=TIMINGS),
    )
    assert answer.lines[0] == {"tailrace": {"status": "prefill", "processed": 7, "total": 7}}
    assert [record["message"]["content"] for record in answer.lines[1:]] == ["Hi", "\u2028é", ""]
    final = answer.lines[-1]
    assert (final["done"], final["done_reason"]) == (True, "stop")
    assert (final["prompt_eval_count"], final["eval_count"], final["load_duration"]) == (7, 2, 5)
    assert (final["prompt_eval_duration"], final["eval_duration"]) == (1_500_000, 2_500_000)
    assert answer.whole()["message"] == {"role": "assistant", "content": "Hi\u2028é"}


def test_answer_with_thinking() -> None:
    answer = Folded(
        chunk({"reasoning_content": "2+"}), chunk({"reasoning_content": "2"}), chunk({"content": "4"}),
        chunk(finish="length", timings=TIMINGS),
    )  # fmt: skip
    assert answer.records[0]["message"] == {"role": "assistant", "content": "", "thinking": "2+"}
    whole = answer.whole()
    assert whole["message"] == {"role": "assistant", "content": "4", "thinking": "2+2"}
    assert whole["done_reason"] == "length"


def test_answer_with_tool_calls() -> None:
    """Fragments become whole calls with ids; the reason is stop, as Ollama has it."""
    answer = Folded(
        part(0, "{", name="weather", id="abcdefghijkl"), part(0, '"city":'), part(0, '"Köln"}'),
        part(1, "{}", name="time", id="mnopqrstuvwx"),
        chunk(finish="tool_calls", timings=TIMINGS),
    )  # fmt: skip
    calls = answer.whole()["message"]["tool_calls"]
    assert calls == [
        {"id": "call_abcdefgh", "function": {"index": 0, "name": "weather", "arguments": {"city": "Köln"}}},
        {"id": "call_mnopqrst", "function": {"index": 1, "name": "time", "arguments": {}}},
    ]
    assert answer.records[-1]["done_reason"] == "stop"
    assert "tool_calls" not in answer.records[-1]["message"]


def test_interleaved_fragments() -> None:
    """Fragments of two calls may interleave; the parent gets them as they come, and then the whole calls."""
    answer = Folded(
        part(0, "", name="weather", id="abcdefghijkl"), part(1, '{"x"', name="time", id="mnopqrstuvwx"),
        part(0, '{"city":"Köln"}'), part(1, ":1}"),
        chunk(finish="tool_calls", timings=TIMINGS),
    )  # fmt: skip
    *events, last = AnswerDecoder(reports=True).feed(answer.written)
    assert events == [
        ToolCallDelta("", 0, "weather", "call_abcdefgh"),
        ToolCallDelta('{"x"', 1, "time", "call_mnopqrst"),
        ToolCallDelta('{"city":"Köln"}', 0),
        ToolCallDelta(":1}", 1),
        ToolCall("weather", {"city": "Köln"}, "call_abcdefgh", 0),
        ToolCall("time", {"x": 1}, "call_mnopqrst", 1),
    ]
    assert isinstance(last, Ended)
    assert (last.outcome, last.reason) == (Outcome.COMPLETE, "stop")


def test_tool_call_without_an_id() -> None:
    """A call that the engine gives no id gets its number for one."""
    call = {"index": 0, "function": {"name": "weather", "arguments": "{}"}}
    answer = Folded(chunk({"tool_calls": [call]}), chunk(finish="tool_calls", timings=TIMINGS))
    assert [call["id"] for call in answer.whole()["message"]["tool_calls"]] == ["call_0"]


def test_tool_call_cut_off() -> None:
    """Half a call is no call; it stays visible as text."""
    call = {"index": 0, "id": "x", "function": {"name": "weather", "arguments": '{"ci'}}
    answer = Folded(chunk({"tool_calls": [call]}), chunk(finish="length", timings=TIMINGS))
    whole = answer.whole()
    assert "tool_calls" not in whole["message"]
    assert whole["message"]["content"] == 'weather({"ci'


def test_answer_of_a_raw_prompt() -> None:
    text = {"choices": [{"text": " time", "index": 0, "finish_reason": None}]}
    last = {"choices": [{"text": "", "index": 0, "finish_reason": "length"}], "timings": TIMINGS}
    answer = Folded(json.dumps(text).encode(), json.dumps(last).encode(), chat=False)
    assert answer.whole()["response"] == " time"
    assert "message" not in answer.records[0]


def test_errors_of_the_engine() -> None:
    exceeded = {
        "code": 400, "message": "request (9 tokens) exceeds", "type": "exceed_context_size_error",
        "n_prompt_tokens": 9, "n_ctx": 8,
    }  # fmt: skip
    answer = Folded(json.dumps({"error": exceeded}).encode())
    assert answer.lines == []
    assert answer.error is not None
    assert (answer.error.status, "9 tokens" in answer.error.text, "holds 8" in answer.error.text) == (400, True, True)
    for error, status, said in (
        ({"code": 500, "message": "boom", "type": "server_error"}, 500, "boom"),
        ({"message": "odd"}, 500, "odd"),
        ("words", 500, "words"),
        ({"code": 99, "message": "m"}, 500, "m"),
    ):
        fault = Folded(json.dumps({"error": error}).encode()).error
        assert fault is not None
        assert (fault.status, fault.text) == (status, said)


FAILED = "llama_model_load: error loading model:"
UNBOUND = f"""\
0.1 E {FAILED} tensor 'x' data is not within the file bounds
0.1 E llama_model_load_from_file_impl: failed to load model
"""
FUTURE = f"""\
0.1 E gguf_init_from_reader: this GGUF file is version 9
0.1 E {FAILED} llama_model_loader: failed to load model from x
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (UNBOUND, "tensor 'x' data is not within the file bounds"),
        (FUTURE, "this GGUF file is version 9"),
        ("", ""),
        ("noise", ""),
    ],
)
def test_reason_of_a_failed_load(text: str, reason: str) -> None:
    """The line that says why, out of what the library writes when it gives up."""
    assert engine.load_error(text) == reason
