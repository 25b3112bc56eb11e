"""Continuing: what each kind of server is asked for the rest of an answer, and what is made of what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tailrace import Client, errors
from tailrace.backends.continuing import language_of
from tailrace.testing import FakeModel, FakeOllama, FakeOpenAI, Record, done, raw, say, status, think

USER = {"role": "user", "content": "Count."}
OPEN = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}"
CLOSED = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}</s>{{ end }}<assistant>"
# As Qwen 3's: thoughts are closed before the answer, and the answer is left open.
THINKING = """{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
<{{ .Role }}>{{ if .Thinking }}<think>
{{ .Thinking }}
</think>

{{ end }}{{ .Content }}{{ if or (not $last) (ne .Role "assistant") }}</s>{{ end }}
{{- if and $last (ne .Role "assistant") }}<assistant>{{ end }}
{{- end }}"""


def answer(content: str = "", thinking: str = "") -> dict[str, Any]:
    given = {"content": content, "thinking": thinking}
    return {"role": "assistant"} | {name: text for name, text in given.items() if text}


def continued(client: Client, *messages: dict[str, Any], **settings: Any) -> tuple[str, str]:
    """The new thoughts and the new text."""
    message = client.continue_chat("m", [USER, *messages], **settings).message
    return message.thinking or "", message.content or ""


# -- Ollama ----------------------------------------------------------------------------------------------------------


def ollama(template: str, *script: Any, **model: Any) -> FakeOllama:
    server = FakeOllama(models=[FakeModel("m", template=template, **model)])
    if script:
        server.script(*script)
    return server


def asked(server: FakeOllama | FakeOpenAI) -> Record:
    """The request for the answer."""
    (record,) = (record for record in server.requests if record.path not in ("/api/show", "/v1/models"))
    return record


@pytest.mark.parametrize("template", [OPEN, THINKING, "{{ .Prompt }}"])
def test_ollama_goes_on_with_a_message(template: str) -> None:
    """Where the template leaves the last answer open, it is the last message."""
    with ollama(template, say(", three")) as server:
        new = continued(Client(server.url), answer("One, two"), options={"seed": 1})
        record = asked(server)

    assert new == ("", ", three")
    assert record.path == "/api/chat"
    assert record.json["messages"] == [USER, answer("One, two")]
    assert record.json["options"] == {"seed": 1}


def test_ollama_goes_on_with_a_prompt() -> None:
    """Where the template closes the last answer, the prompt is made here, and ends with it."""
    image = "iVBORw0KGgo="
    with ollama(CLOSED, say(", three")) as server:
        question = {**USER, "images": [image]}
        settings: dict[str, Any] = {"keep_alive": "5m", "extra_body": {"own": 1}}
        message = Client(server.url).continue_chat("m", [question, answer("One, two")], **settings).message
        record = asked(server)

    assert message.content == ", three"
    assert record.path == "/api/generate"
    assert {name: record.json[name] for name in ("prompt", "raw", "think", "images", "keep_alive", "own")} == {
        "prompt": "<user>[img-0]Count.</s><assistant>One, two",
        "raw": True,
        "think": False,
        "images": [image],
        "keep_alive": "5m",
        "own": 1,
    }


@pytest.mark.parametrize("size", [1, 100])
def test_ollama_goes_on_with_thoughts(size: int) -> None:
    """Thoughts under way go on in a prompt, and what ends them is found."""
    said = "so three.\n</think>\n\nThree."
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    with ollama(THINKING, say(*pieces)) as server:
        new = continued(Client(server.url), answer(thinking="Two, "), think=True)
        record = asked(server)

    assert (new[0].strip(), new[1]) == ("so three.", "Three.")
    assert record.json["prompt"] == "<user>Count.</s><assistant><think>\nTwo, "


def test_ollama_goes_on_with_thoughts_that_the_template_does_not_show() -> None:
    """Then they go on after the usual mark."""
    with ollama(OPEN + "<assistant>", say("three.</think>Three.")) as server:
        new = continued(Client(server.url), answer(thinking="Two, "))
        record = asked(server)

    assert new == ("three.", "Three.")
    assert record.json["prompt"] == "<user>Count.<assistant><think>\nTwo, "


@pytest.mark.parametrize("given", [answer("Three"), answer(thinking="Two, ")])
def test_ollama_goes_on_with_a_message_of_gpt_oss(given: dict[str, Any]) -> None:
    """Its own format goes on with a last message, also with thoughts."""
    with ollama(CLOSED, say(", four"), family="gptoss") as server:
        continued(Client(server.url), given)

    assert asked(server).json["messages"] == [USER, given]


@pytest.mark.parametrize(
    ("given", "rendered", "path", "sent"),
    [
        (answer("One"), "<user>Count.<assistant>{text}", "/api/chat", [USER, answer("One")]),
        (answer("One"), "<user>Count.<assistant>{text}</s>", "/api/generate", "<user>Count.<assistant>One"),
        (
            answer("One", "Hm."),
            "<user>Count.<assistant><t>{thoughts}</t>{text}</s>",
            "/api/generate",
            "<user>Count.<assistant><t>Hm.</t>One",
        ),
        (
            answer(thinking="Hm."),
            "<user>Count.<assistant><t>{thoughts}</t>{text}",
            "/api/generate",
            "<user>Count.<assistant><t>Hm.",
        ),
    ],
)
def test_ollama_with_prompts_made_in_code(given: dict[str, Any], rendered: str, path: str, sent: Any) -> None:
    """It is asked what prompt it makes, and goes on with a message or with that prompt."""
    shown = {"template": "{{ .Prompt }}", "modelfile": "FROM x\nRENDERER glm-4.6\n", "details": {}}
    prompt = rendered.format(text="tailrace:text", thoughts="tailrace:thoughts")
    with ollama(OPEN) as server:
        server.script(status(200, shown), path="/api/show")
        server.script(status(200, {"model": "m", "_debug_info": {"rendered_template": prompt}}), path="/api/chat")
        server.script(say("!" if "content" in given else "so.</t>"), path=path)
        new = continued(Client(server.url), given)
        *_, probed, record = server.requests

    assert probed.json["_debug_render_only"] is True
    assert record.path == path
    assert record.json["messages" if path == "/api/chat" else "prompt"] == sent
    assert new == (("so.", "") if "content" not in given else ("", "!"))


def test_ollama_that_does_not_show_its_prompts() -> None:
    """Then in words."""
    shown = {"template": "{{ .Prompt }}", "modelfile": "FROM x\nRENDERER glm-4.6\n", "details": {}}
    with ollama(OPEN) as server:
        server.script(status(200, shown), path="/api/show")
        server.script(say("O"), done(), path="/api/chat")
        server.script(say(", two"), path="/api/chat")
        assert continued(Client(server.url), answer("One")) == ("", ", two")

        assert len(server.requests[-1].json["messages"]) == 3


@pytest.mark.parametrize("template", ["{% for m in messages %}{{ m }}{% endfor %}", "{{ foo .Bar }}"])
def test_ollama_in_words(template: str) -> None:
    """A template that cannot be rendered here: it is asked in words, and what it repeats is cut."""
    with ollama(template, say("One,", " two, three")) as server:
        new = continued(Client(server.url), answer("One, two"))
        record = asked(server)

    assert new == ("", ", three")
    assert record.json["messages"][:2] == [USER, answer("One, two")]
    assert record.json["messages"][2]["role"] == "user"


def test_ollama_with_tools_and_a_closed_template() -> None:
    """The answer to a prompt is not searched for calls, so it is asked in words."""
    tool = {"type": "function", "function": {"name": "f"}}
    with ollama(CLOSED, say(", three")) as server:
        continued(Client(server.url), answer("One, two"), tools=[tool])
        record = asked(server)

    assert (record.path, len(record.json["messages"])) == ("/api/chat", 3)


def test_a_server_that_only_looks_like_ollama() -> None:
    """Without `/api/show` nothing is known of the template: in words."""
    with ollama(OPEN, say(", three")) as server:
        server.script(status(404, {"error": "not found"}), path="/api/show")
        continued(Client(server.url), answer("One, two"))
        record = asked(server)

    assert len(record.json["messages"]) == 3


def test_a_format_is_not_applied_anew() -> None:
    """In the middle of what it formed it would begin a second value; before the first word it stands."""
    with ollama(OPEN, say("1}")) as server:
        continued(Client(server.url), answer('{"a": '), format="json")
        record = asked(server)
    with ollama("{{ .Messages }}", say("{}")) as other:
        continued(Client(other.url), answer(), format="json")

    assert "format" not in record.json
    assert asked(other).json["format"] == "json"


def test_nothing_had_come() -> None:
    """Then the question is asked again."""
    with ollama(OPEN, say("One")) as server:
        assert continued(Client(server.url), answer()) == ("", "One")

        assert asked(server).json["messages"] == [USER]


def test_an_unknown_model() -> None:
    """Is one, as for a chat."""
    with ollama(OPEN) as server, pytest.raises(errors.ModelNotFoundError):
        Client(server.url).continue_chat("other", [USER, answer("a")])


# -- OpenAI's protocol -----------------------------------------------------------------------------------------------

LLAMA = {"continue_final_message": True, "add_generation_prompt": False, "echo": False}
VLLM = {"continue_final_message": True, "add_generation_prompt": False}


@pytest.fixture
def openai() -> Iterator[FakeOpenAI]:
    with FakeOpenAI("openai") as server:
        yield server


def client_of(server: FakeOpenAI) -> Client:
    return Client(f"openai:{server.base_url}")


def owned_by(server: FakeOpenAI, owner: str) -> None:
    server.script(status(200, {"data": [{"id": "m", "owned_by": owner}]}), path="/v1/models")


@pytest.mark.parametrize(
    ("owner", "members"),
    [
        ("llamacpp", LLAMA),
        ("vllm", VLLM),
        ("sglang", VLLM),
        ("koboldcpp", {"continue_assistant_turn": True}),
    ],
)
def test_servers_that_go_on_with_a_message(openai: FakeOpenAI, owner: str, members: dict[str, Any]) -> None:
    """Each is told so in its own words, and found out once."""
    owned_by(openai, owner)
    openai.script(say(", three"))
    openai.script(say(", five"))
    client = client_of(openai)
    new = continued(client, answer("One, two"))
    continued(client, answer("One, two, three, four"))
    listed, first, second = openai.requests

    assert (new, listed.path) == (("", ", three"), "/v1/models")
    assert first.json["messages"] == [USER, answer("One, two")]
    assert {name: first.json.get(name) for name in members} == members
    assert second.json["messages"] == [USER, answer("One, two, three, four")]


@pytest.mark.parametrize("owner", ["llamacpp", "vllm"])
@pytest.mark.parametrize(
    "pieces", [("One, two, three",), ("One, two", ", three"), (", three",), ("One", ", two, three")]
)
def test_what_a_server_repeats_comes_once(openai: FakeOpenAI, owner: str, pieces: tuple[str, ...]) -> None:
    """The newest llama-server repeats the given beginning, older ones do not."""
    owned_by(openai, owner)
    openai.script(think("Hm. So."), say(*pieces))

    assert continued(client_of(openai), answer("One, two", "Hm. So.")) == ("", ", three")


def test_thoughts_on_llama_server(openai: FakeOpenAI) -> None:
    """It is given them as such, and tells them from the text itself."""
    owned_by(openai, "llamacpp")
    openai.script(think("so three."), say("Three."))
    new = continued(client_of(openai), answer(thinking="Two, "), format="json")
    record = asked(openai)

    assert new == ("so three.", "Three.")
    assert record.json["messages"][-1] == {"role": "assistant", "content": "", "reasoning_content": "Two, "}
    assert record.json["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("script", [(say("so three.</thi", "nk>\n\nThree."),), (think("so three."), say("Three."))])
def test_thoughts_on_vllm(openai: FakeOpenAI, script: Any) -> None:
    """They are the open beginning of the message; whoever tells them from the text, they are thoughts."""
    owned_by(openai, "vllm")
    openai.script(*script)
    new = continued(client_of(openai), answer(thinking="Two, "))

    assert new == ("so three.", "Three.")
    assert asked(openai).json["messages"][-1] == {"role": "assistant", "content": "<think>\nTwo, "}


@pytest.mark.parametrize(
    ("question", "given", "word"),
    [
        ("Tell me a story", "Once upon a", "cut off"),
        ("讲个故事", "从前有座", "中断"),
        ("讲个故事", "```python\nprint(", "中断"),
        ("Write it in Chinese", "从前有座山，山里有座", "中断"),
    ],
)
def test_servers_that_cannot(openai: FakeOpenAI, question: str, given: str, word: str) -> None:
    """One that has no such thing is asked in words, in the conversation's language; what it says again is cut."""
    openai.script(say(given, "!"))
    asking = {"role": "user", "content": question}
    message = client_of(openai).continue_chat("m", [asking, answer(given)], format="json").message
    body = asked(openai).json

    assert message.content == "!"
    assert body["messages"][:2] == [asking, answer(given)]
    assert (body["messages"][2]["role"], word in body["messages"][2]["content"]) == ("user", True)
    assert "response_format" not in body


def test_thoughts_in_words(openai: FakeOpenAI) -> None:
    """They cannot be given as the model's own: it is told what it thought, with the question."""
    openai.script(think("so three."), say("Three."))
    new = continued(client_of(openai), answer(thinking="Two, "))
    (message,) = asked(openai).json["messages"]

    assert new == ("so three.", "Three.")
    assert message["content"].startswith("Count.\n\n")
    assert message["content"].endswith("Two, ")


@pytest.mark.parametrize("refusal", [400, 422])
def test_a_refusal_is_followed_by_words(openai: FakeOpenAI, refusal: int) -> None:
    """A model whose template does not go with it, or an older server: then in words."""
    owned_by(openai, "vllm")
    openai.script(status(refusal, {"error": {"message": "continue_final_message is set but"}}))
    openai.script(say("two, three"))
    new = continued(client_of(openai), answer("One, two"))
    _, first, second = openai.requests

    assert new == ("", ", three")
    assert (len(first.json["messages"]), len(second.json["messages"])) == (2, 3)


def test_a_server_without_a_list_of_models(openai: FakeOpenAI) -> None:
    """It does not say what it is: in words."""
    openai.script(status(404, {"error": {"message": "no"}}), path="/v1/models")
    openai.script(raw(b""), path="/v1/none")
    openai.script(say(", three"), done())

    assert continued(client_of(openai), answer("One, two")) == ("", ", three")


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (("Once upon a time", "讲个故事"), "en"),
        (("从前有座山", "Tell me"), "zh"),
        (("使用 FastAPI 和 uvicorn 部署服务", ""), "zh"),
        (("What does 你好 mean in English?", ""), "en"),
        (("```\nx = 1\n```", "怎么写？"), "zh"),
        (("```\nx = 1", "How?"), "en"),
        (("1, 2, 3", "从一数到十"), "zh"),
        (("むかしむかし、あるところに", ""), "ja"),
        (("옛날 옛적에", ""), "ko"),
        (("...", "123"), "en"),
        (("Voilà, c'est ça", "讲"), "en"),
    ],
)
def test_language(texts: tuple[str, ...], language: str) -> None:
    """The answer's own letters decide, then the question's; code counts for nothing."""
    assert language == language_of(*texts)
