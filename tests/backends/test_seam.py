"""The seam of a continued answer: what of it is new, whole and character by character."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tailrace.backends.seam import Given, Seam
from tailrace.events import Ended, Event, Outcome, TextDelta, ThinkingDelta

END = Ended(Outcome.COMPLETE)


def joined(seam: Seam, *came: Event) -> tuple[str, str]:
    """What is new: thoughts and text."""
    events: Sequence[Event] = [
        new for event in (*came, END) for new in (seam.feed([event]) if not seam.over else [event])
    ]
    assert events[-1] == END
    thoughts = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    return thoughts, "".join(event.text for event in events if isinstance(event, TextDelta))


def pieces(kind: type[TextDelta] | type[ThinkingDelta], text: str, size: int) -> list[Event]:
    return [kind(text[start : start + size]) for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("given", "came", "whole"),
    [
        ("Once upon", " a time", "Once upon a time"),
        ("Once upon", "Once upon a time", "Once upon a time"),
        ("Once upon", "Once more", "Once uponOnce more"),  # no repetition: nothing is lost
        ("Once upon", "On", "Once uponOn"),
        ("Once upon ", " a time", "Once upon  a time"),
        ("从前", "从前有座山", "从前有座山"),
        ("\n\nOnce", "Once upon", "\n\nOnce upon"),
        ("\n\nOnce", "\n\nOnce upon", "\n\nOnce upon"),
        ("\n\nOnce", "\nmore", "\n\nOnce\nmore"),
        ("a\n", "\nb", "a\n\nb"),
    ],
)
def test_after_a_prefill(given: str, came: str, whole: str, size: int) -> None:
    """A server that repeats the whole of what it was given, and one that does not: each character comes once."""
    new = joined(Seam(Given(given)), *pieces(TextDelta, came, size))

    assert ("", whole) == (new[0], given + new[1])


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize(
    ("given", "came", "whole"),
    [
        ("The quick brown", " fox", "The quick brown fox"),
        ("The quick brown", "brown fox", "The quick brown fox"),
        ("The quick brown", " quick brown fox", "The quick brown fox"),
        ("The quick brown", "The quick brown fox", "The quick brown fox"),
        ("The quick brown", "\n\nThe quick brown fox", "The quick brown fox"),
        ("The quick brown", "...brown fox", "The quick brown fox"),
        ("The quick brown", "… quick brown fox", "The quick brown fox"),
        ("Once upon a ti", "time there", "Once upon a time there"),
        ("Once upon a ti", "me there", "Once upon a time there"),
        ("1, 2, 3", "3, 4", "1, 2, 3, 4"),
        ("Hel", "lo", "Hello"),
        ("hello", "o world", "helloo world"),  # one letter within a word is a coincidence
        ("unbeliev", "believable", "unbelievable"),
        ("今天天气", "天气很好", "今天天气很好"),
        ("今天天", "天气很好", "今天天天气很好"),  # so is one character of Chinese
        ("春眠不觉晓，", "处处闻啼鸟。", "春眠不觉晓，处处闻啼鸟。"),
        ("春眠不觉晓，", "春眠不觉晓，处处闻啼鸟。", "春眠不觉晓，处处闻啼鸟。"),
        ("```python\nprint(", "```python\nprint(1)\n```", "```python\nprint(1)\n```"),
        ("a.\n", "\nb", "a.\n\nb"),
        ("Yes", "", "Yes"),
        ("The end of the", "The", "The end of theThe"),
    ],
)
def test_after_words(given: str, came: str, whole: str, size: int) -> None:
    """A server that was asked in words: what it says again is cut, and nothing else."""
    new = joined(Seam(Given(given), words=True), *pieces(TextDelta, came, size))

    assert ("", whole) == (new[0], given + new[1])


def test_no_more_is_held_back_than_may_be_a_repetition() -> None:
    """What cannot be one comes out at once, and so does all after the seam."""
    seam = Seam(Given("The quick brown"), words=True)
    first = seam.feed([TextDelta(" fox")])
    held = Seam(Given("The quick brown"), words=True).feed([TextDelta("The quick")])

    assert ([TextDelta(" fox")], True, []) == (first, seam.over, held)


def test_a_space_that_the_server_dropped() -> None:
    """A template that trims what it is given makes the model say the last space again; it comes once."""
    assert [joined(Seam(Given("Once "), spaced=True), TextDelta(came)) for came in (" a", "a", "\na")] == [
        ("", "a"),
        ("", "a"),
        ("", "\na"),
    ]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("came", ["so on.</think>\n\nYes.", "so on.\n</think>Yes."])
def test_thoughts_in_a_text(came: str, size: int) -> None:
    """Where thoughts go on in a prompt, what ends them is found in the text."""
    thoughts, text = joined(Seam(Given("", "And "), close="</think>"), *pieces(TextDelta, came, size))

    assert (thoughts.strip(), text) == ("so on.", "Yes.")


def test_thoughts_that_never_end() -> None:
    """The limit of tokens may come first: all was thoughts, also what looked like the beginning of their end."""
    assert joined(Seam(Given("", "And "), close="</think>"), TextDelta("so </thi")) == ("so </thi", "")


def test_thoughts_that_the_server_tells() -> None:
    """Then the text is a text."""
    events: list[Event] = [ThinkingDelta("so on."), TextDelta("Yes.")]

    assert joined(Seam(Given("", "And "), close="</think>"), *events) == ("so on.", "Yes.")


@pytest.mark.parametrize("size", [1, 1000])
def test_repeated_thoughts(size: int) -> None:
    """Thoughts and text are each compared with their own beginning; white space before thoughts may be missing."""
    came = [*pieces(ThinkingDelta, "Hm. So", size), *pieces(TextDelta, "Yes, it is", size)]

    assert joined(Seam(Given("Yes,", "\nHm. So")), *came) == ("", " it is")
    assert joined(Seam(Given("", "\nHm.")), *came) == (" So", "Yes, it is")
