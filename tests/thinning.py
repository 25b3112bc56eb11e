"""What the quick run leaves out: of the matrices here a fixed sample is quick, and the rest is marked `long`.

A matrix is here because it takes long, and because its other cases say almost the same. `run.py test --all` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from _pytest.mark import ParameterSet

# A file, or a test: the parameters of the cases that are quick. With none, all of it is long.
QUICK: dict[str, tuple[str, ...]] = {
    # versions and kinds of what others make
    "web/test_wsgi_servers.py": ("gunicorn",),
    "web/test_asgi_slow.py": ("uvicorn-httptools", "granian"),
    "gateway/endpoints/test_clients_engine.py::test_npm_ai": ("ai7",),
    "test_benchmarks.py::test_benchmark_completes": ("short", "start", "html", "wires"),
    "test_web_examples.py::test_the_fetch_reader_reads_on": ("web_fastapi.py",),
    "test_web_examples.py::test_htmx_shows_blocks_once_and_the_tail_as_it_grows": ("4",),
    # many at once
    "page/test_tabs.py::test_c12_eight_tabs_with_an_answer_each": (),
    "page/test_tabs.py::test_c12_without_a_shared_worker": (),
    "test_covered.py::test_other_processes_are_measured": (),  # and `--all` measures them
    # one page for each case
    "page/test_autoscroll.py::test_it_yields_to_whoever_moves_up": ("wheel", "key", "touch"),
    "page/test_chinese.py::test_the_language_follows_the_browser": ("zh-CN-zh-CN", "en-GB-en"),
    "page/test_copy.py::test_a_long_piece_of_code_is_copied_whole": ("clipboard",),
    "page/test_copy.py::test_a_question_is_copied": ("clipboard",),
    "page/test_copy.py::test_an_answer_under_way_is_copied_as_far_as_it_is": ("clipboard",),
    "page/test_copy.py::test_code_is_copied_without_anything_else": ("clipboard",),
    "page/test_dark.py::test_contrast": ("light-zh-CN", "dark-en-US"),
    "page/test_dark.py::test_contrast_of_what_lies_above": ("dark",),
    "page/test_ime.py::test_enter_while_composing_never_sends": ("isComposing",),
    "page/test_ime.py::test_esc_and_enter_of_an_input_method_in_other_fields": ("keyCode 229",),
    "page/test_locked.py::test_the_key_is_asked_for": ("shared worker",),
    "page/test_mobile.py::test_the_keyboard_covers_nothing": ("300",),
    "page/test_reading.py::test_c10_answers_after_which_nothing_comes": ("204", "410"),
    "page/test_reading.py::test_events_are_parsed_whole_and_by_character": ("lines", "names and ids", "endings"),
    "page/test_resume.py::test_a_restarted_server": ("shared worker-at the end", "alone-while it is away"),
    "page/test_resume.py::test_t2_a_server_that_sleeps": ("12",),
    "page/test_resume.py::test_the_network_is_lost_and_comes_back": ("alone",),
    "page/test_safety.py::test_x1_what_a_model_says_can_do_nothing": ("a character",),
    "page/test_waiting.py::test_each_thing_that_is_waited_for": ("queued", "prefill"),
    # a model that is loaded, or fetched, for each case
    "backends/embedded/test_cancel_embedded.py::test_p13_exit_in_mid_stream": ("sync",),
    "backends/embedded/test_fetch.py::test_index_that_has_it_not": (),
    "backends/embedded/test_fetch.py::test_index_with_another_file": (),
    "backends/embedded/test_fetch.py::test_fetch_without_pip": (),
    "backends/embedded/test_supervisor.py::test_crash_and_next_use": ("9",),
    "backends/embedded/test_supervisor.py::test_leaving_over_a_port": ("half_close",),
    "backends/embedded/test_supervisor.py::test_parent_killed": ("9",),
    # megabytes for each case
    "render/test_html.py::test_x15_a_mebibyte_of_one_mark_is_linear_in_html": ("[", "`", "|", "> "),
    "render/test_html.py::test_x15_an_answer_in_small_deltas_is_linear_in_html": ("english", "code"),
}


def is_long(name: str) -> bool:
    """Returns whether a test, by its name from the folder of the tests on, is left out of the quick run."""
    test, _, case = name.partition("[")
    quick = QUICK.get(test)
    if quick is None:
        quick = QUICK.get(test.partition("::")[0])
    if quick is None:
        return False
    case = case.removesuffix("]")
    return not any(case == one or case.startswith(f"{one}-") or case.endswith(f"-{one}") for one in quick)


def diagonal(first: Sequence[Any], second: Sequence[Any]) -> list[ParameterSet]:
    """Returns every pair of two lists; quick are those that have each value of the longer list once."""
    most = min(len(first), len(second))
    return [
        pytest.param(one, other, marks=() if place % most == number % most else pytest.mark.long)
        for place, one in enumerate(first)
        for number, other in enumerate(second)
    ]
