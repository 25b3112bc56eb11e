"""Continuing on the real engine, and on a real llama-server: an answer that was cut reads as if it had not been."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tailrace import Client
from tailrace.backends.embedded.supervisor import Endpoint

MODEL = "smollm2:135m"
QUESTIONS = [
    "Write a long story about a river and a mill.",
    "List ten animals, each with one sentence.",
    "Explain how bread is baked, step by step.",
    "Write a Python function that sorts a list, with comments.",
    "写一个关于狐狸的故事。",
]
THINKING = """{%- for message in messages %}<|im_start|>{{ message.role }}
{%- if message.reasoning_content %}
<think>
{{ message.reasoning_content }}
</think>
{% endif %}
{{ message.content }}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""


def cut_and_continued(
    client: Client, question: str, most: int, cuts: list[int], think: bool | None = None
) -> tuple[str, str]:
    """An answer of `most` tokens in one piece, and one that was cut after so many tokens each time."""
    messages = [{"role": "user", "content": question}]
    settings: dict[str, Any] = {"temperature": 0, "seed": 1}
    whole = client.chat(MODEL, messages, think=think, options={**settings, "num_predict": most}).message.content or ""
    said, used = "", 0
    for cut in [*cuts, most]:
        options = {**settings, "num_predict": cut - used}
        given = [*messages, {"role": "assistant", "content": said}] if said else messages
        asked: Any = client.continue_chat if said else client.chat
        said += asked(MODEL, given, think=think, options=options).message.content or ""
        used = cut
    return whole, said


def some(seed: int, most: int) -> list[int]:
    chance = random.Random(seed)
    return sorted(chance.sample(range(1, most), chance.choice((1, 1, 2))))


@pytest.fixture
def client(endpoint: Endpoint) -> Client:
    return Client("embedded:")


@pytest.mark.parametrize("seed", range(4))
def test_cut_answers_read_as_if_uncut(client: Client, seed: int) -> None:
    """Cut anywhere and continued, a deterministic answer is the same, with no character lost or repeated."""
    whole, said = cut_and_continued(client, QUESTIONS[seed % 2], 24, some(seed, 24))

    assert whole == said


def test_a_stopped_stream_goes_on(client: Client) -> None:
    """Stopped in mid-answer, by whoever, the rest follows from the last character."""
    options = {"temperature": 0, "num_predict": 24}
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    whole = client.chat(MODEL, messages, options=options).message.content
    stream = client.chat(MODEL, messages, stream=True, options=options)
    for number, _ in enumerate(stream.text_stream):
        if number == 5:
            stream.cancel()
    rest = stream.continue_()
    rest.wait()

    assert whole is not None
    assert (stream.reply.text + rest.reply.text).startswith(whole)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_answers_read_as_if_uncut(client: Client) -> None:
    """A hundred answers, cut at random, are the uncut ones to the letter, but for where they end.

    A cut inside of a character of Chinese, which is several tokens here, spends those tokens twice: so many fewer come.
    """
    same = 0
    for seed in range(100):
        whole, said = cut_and_continued(client, QUESTIONS[seed % len(QUESTIONS)], 32, some(seed, 32))
        print(seed, "same" if whole == said else f"{whole!r} {said!r}", flush=True)
        assert said == whole[: len(said)]
        assert len(whole) - len(said) <= 3
        same += whole == said
    assert same >= 80  # those in Chinese are twenty


# -- a real llama-server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["", THINKING], ids=["plain", "thinking"])
def server(request: pytest.FixtureRequest, home: Path) -> Iterator[tuple[Client, bool]]:
    xllamacpp = pytest.importorskip("xllamacpp")
    from tailrace.backends.embedded import models

    params = xllamacpp.CommonParams()
    params.model.path = str(models.find(MODEL).path)
    params.n_ctx, params.port, params.verbosity, params.warmup = 1024, 0, 0, False
    params.chat_template = request.param
    one = xllamacpp.Server(params)
    yield Client(f"openai:{one.listening_address}/v1"), bool(request.param)
    del one


def test_llama_server_goes_on(server: tuple[Client, bool]) -> None:
    """From the last character, with no repetition, whatever it repeats by itself."""
    client, thinks = server
    # A thinking model that has not thought is given an empty thought when it goes on, as it is when it is not to think.
    whole, said = cut_and_continued(client, QUESTIONS[0], 16, [5, 9], think=False if thinks else None)

    assert whole == said


def test_llama_server_goes_on_with_thoughts(server: tuple[Client, bool]) -> None:
    """A model that thinks goes on thinking."""
    client, thinks = server
    if not thinks:
        pytest.skip("this template knows no thoughts")
    given = {"role": "assistant", "thinking": "The user wants a story, so"}
    message = client.continue_chat(
        MODEL, [{"role": "user", "content": QUESTIONS[0]}, given], options={"temperature": 0, "num_predict": 4}
    ).message

    assert (bool(message.thinking), message.content or "") == (True, "")


def test_llama_server_applies_a_format_to_the_whole(server: tuple[Client, bool]) -> None:
    """The format of the answer goes on where the answer does."""
    client, _ = server
    schema = {"type": "object", "properties": {"animal": {"enum": ["zebra"]}}, "required": ["animal"]}
    given = '{"animal": "ze'
    message = client.continue_chat(
        MODEL,
        [{"role": "user", "content": "Which animal?"}, {"role": "assistant", "content": given}],
        format=schema,
        options={"temperature": 0, "num_predict": 20},
    ).message

    assert msgspec.json.decode(given + (message.content or "")) == {"animal": "zebra"}
