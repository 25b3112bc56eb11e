"""Continuing an answer on servers of OpenAI's protocol, which has no word for it: each has its own, or none.

Sources: ``entrypoints/openai/chat_completion/protocol.py`` of vllm-project/vllm, ``entrypoints/openai/protocol.py`` of
sgl-project/sglang (``continue_final_message``); pull requests 23012 and 23089 of ggml-org/llama.cpp, whose llama-server
goes on with a last message by default and takes the same members since; ``koboldcpp.py`` of LostRuins/koboldcpp
(``continue_assistant_turn``).
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from tailrace import errors
from tailrace.backends.continuing import asked_again, given_of, in_words, without_format
from tailrace.backends.seam import Given, Seam, Seamed
from tailrace.run.exchange import Exchange, Opener, Report
from tailrace.types import ChatRequest, ContinueRequest

__all__ = ["continued"]

_LLAMA = {"continue_final_message": True, "add_generation_prompt": False, "echo": False}
_TRANSFORMERS = {"continue_final_message": True, "add_generation_prompt": False}
_MEMBERS: dict[str, dict[str, Any]] = {  # by what `owned_by` says in the list of models
    "llamacpp": _LLAMA,
    "jan": _LLAMA,
    "vllm": _TRANSFORMERS,
    "sglang": _TRANSFORMERS,
    "koboldcpp": {"continue_assistant_turn": True},
}
_REFUSALS = (400, 422)


class _Backend(Protocol):
    """What of the backend is needed here."""

    def chat(self, request: ChatRequest, **more: Any) -> Opener:
        """Returns what opens a chat."""

    async def server(self, report: Report) -> str:
        """Returns what the server is."""


def continued(backend: _Backend, request: ContinueRequest) -> Opener:
    """Returns what opens the rest of an answer: of a last message where the server goes on with it, else in words."""

    async def open(report: Report) -> Exchange:
        given = given_of(request)
        if not (given.text or given.thinking):
            return await backend.chat(asked_again(request))(report)
        members = _MEMBERS.get(await backend.server(report))
        if members is not None:
            asked, close = _prefilled(request, given, own_thoughts=members is _LLAMA)
            try:
                exchange = await backend.chat(asked, **members)(report)
            except errors.ResponseError as error:
                if error.status_code not in _REFUSALS:  # what it refuses are the members, or the model's template
                    raise
            else:
                return Seamed(exchange, Seam(given, spaced=members is _TRANSFORMERS, close=close))
        return Seamed(await backend.chat(in_words(request))(report), Seam(given, words=True))

    return open


def _prefilled(request: ChatRequest, given: Given, *, own_thoughts: bool) -> tuple[ChatRequest, str]:
    """Returns the request with the beginning as its last message, and what ends the thoughts if we are to tell them.

    Args:
        request: what is asked of us.
        given: the beginning.
        own_thoughts: the server is given thoughts as such, goes on with them, and applies a format to the whole.
    """
    if own_thoughts:
        return request, ""
    if given.text:
        return without_format(request, given), ""
    *before, last = request.messages or []
    begun = {**last, "content": f"<think>\n{given.thinking}"}
    begun.pop("thinking", None)
    return msgspec.structs.replace(request, messages=[*before, begun]), "</think>"
