"""What reads foreign bytes, tried with inputs at random, after those that are kept; `python -m fuzz` tries more."""

from __future__ import annotations

import pytest
from fuzz import corpus
from fuzz.holding import BrokenError, cut, every_way, hold, shallow
from fuzz.linear import NASTY
from fuzz.mutating import LONGEST, inputs
from fuzz.running import Found, plain
from fuzz.targets import TARGETS

from tailrace.events import Event
from tailrace.protocols.ollama.decode import AnswerDecoder

SOME, MANY = 300, 100_000


@pytest.mark.parametrize("target", TARGETS)
def test_some_inputs(target: str) -> None:
    """Whatever comes, nothing but our own errors comes of it, and in pieces the same as whole."""
    assert plain(target, SOME, seed=1) == SOME


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("target", TARGETS)
def test_many_inputs(target: str) -> None:
    """The same of some hundred times as many."""
    assert plain(target, MANY, seed=2) == MANY


def test_every_target_has_inputs_and_words() -> None:
    """No target goes without kept inputs; together they are small, and each is within what is tried."""
    kept = {target: corpus.inputs(target) for target in TARGETS}

    assert set(corpus.WORDS) == set(TARGETS) == {path.name for path in corpus.FOLDER.iterdir()}
    assert all(kept.values())
    assert sum(len(data) for each in kept.values() for data in each) < 100_000
    assert max(len(data) for each in kept.values() for data in each) <= LONGEST


def test_inputs_repeat() -> None:
    """One seed makes the same inputs each time, another one others; the kept ones come first."""
    kept, words = [b"abc", b"de"], [b"word"]
    first = list(inputs(kept, words, 50, 1))

    assert first == list(inputs(kept, words, 50, 1))
    assert first != list(inputs(kept, words, 50, 2))
    assert first[:2] == kept
    assert len(first) == 50


@pytest.mark.parametrize("size", [0, 1, 2, 40, 1000])
def test_pieces_make_the_whole(size: int) -> None:
    """An input is cut, and nothing of it is lost."""
    data = bytes(number % 256 for number in range(size))

    assert b"".join(cut(data)) == data


class _Forgetful(AnswerDecoder):
    """A decoder with a bug: it forgets what came before when a piece has no line end."""

    def feed(self, data: bytes) -> list[Event]:
        return super().feed(data) if data.endswith(b"\n") else []


def test_a_decoder_that_minds_the_cut_is_found() -> None:
    """A decoder that says something else when its bytes come in pieces does not hold."""
    data = b"".join(b'{"message":{"content":"%d"},"done":false}\n' % number for number in range(9)) + b'{"done":true}\n'
    assert len(cut(data)) > 1

    every_way(AnswerDecoder, data)
    with pytest.raises(BrokenError, match="cut another way"):
        every_way(_Forgetful, data)


def test_what_is_found_has_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input for which something does not hold comes with the error."""

    def check(data: bytes) -> None:
        hold(b"rest" not in data, "a rest", data)

    monkeypatch.setitem(TARGETS, "lines", check)
    with pytest.raises(Found, match="a rest") as caught:
        plain("lines", SOME, seed=1)
    assert b"rest" in caught.value.data


def test_what_is_nested_too_deeply_is_short() -> None:
    """There is little room for calls within calls, so that inputs of a few bytes are nested too deeply."""

    def down(depth: int) -> int:
        return down(depth - 1) + 1 if depth else 0

    with shallow():
        assert down(50) == 50
        with pytest.raises(RecursionError):
            down(200)
    assert down(200) == 200


_DEEP = {
    "ollama": [b'{"error":%b}\n', b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"x":%b}}}]}}\n'],
    "openai": [
        b'data: {"error":%b}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":%b}}]}}]}\n\ndata: [DONE]\n\n',
        b'{"error":{"message":%b}}',
    ],
    "progress": [b'{"error":%b}\n'],
    "ask_ollama": [
        b'{"model":"m","messages":[{"role":"user"}],"format":%b}',
        b'{"model":"m","messages":[{"role":"user","x":%b}],"keep_alive":%b}',
        b'{"model":"m","messages":[{"role":"user","tool_calls":[{"function":{"name":"f","arguments":{"x":%b}}}]}]}',
        b'{"model":"m","prompt":"a","raw":true,"format":{"x":%b}}',
    ],
    "ask_openai": [
        b'{"model":"m","messages":[{"role":"user"}],"tools":[{"type":"function","function":{"name":"f","x":%b}}]}',
        b'{"model":"m","messages":[{"role":"user"}],"tool_choice":{"x":%b}}',
        b'{"model":"m","input":[%b],"prompt":[%b]}',
    ],
    "ask_ai": [
        b'{"id":"c","messages":[{"role":"assistant","parts":[{"type":"tool-f","state":"output-available","output":%b}]}]}'
    ],
    "ask_runs": [b'{"message":"a","model":"m","format":{"x":%b}}', b'{"messages":[{"role":"user","images":%b}]}'],
}


@pytest.mark.parametrize(("target", "shape"), [(target, shape) for target, shapes in _DEEP.items() for shape in shapes])
@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"error":', b"}")], ids=["lists", "objects"])
def test_every_depth(target: str, shape: bytes, opened: bytes, closed: bytes) -> None:
    """Wherever in it values are nested, and however deeply, just within what can be read or just beyond, it holds."""
    with shallow():
        for depth in range(1, 160):
            TARGETS[target](shape.replace(b"%b", opened * depth + b"1" + closed * depth))


@pytest.mark.parametrize("name", NASTY)
def test_nasty_inputs(name: str) -> None:
    """Each input whose time is compared is one that its decoder takes."""
    take, make = NASTY[name]
    take(make(16))

    assert len(make(32)) > len(make(16))
