"""Refusals, each in the shape of the protocol that its path belongs to."""

from __future__ import annotations

from tailrace.protocols.ollama import encode as ollama_encode
from tailrace.protocols.openai.encode import error_json
from tailrace.protocols.problems import MEDIA_TYPE, ProblemError

__all__ = ["refusal", "words"]


def words(error: ProblemError) -> str:
    """Returns what happened and what to do next, in one line."""
    problem = error.problem
    return f"{problem.detail}; {problem.hint}" if problem.hint else problem.detail


def refusal(path: str, error: ProblemError) -> tuple[int, bytes, str]:
    """Returns the status, body and media type of a refusal.

    OpenAI's routes have its error object, Ollama's its line; the AI SDK shows the text of the body as it is; ours have
    a JSON problem.
    """
    if _is_below(path, "/v1"):
        more = {name: error.more[name] for name in ("param", "code") if name in error.more}
        return error.status, error_json(words(error), error.status, **more), "application/json"
    if _is_below(path, "/api"):
        return error.status, ollama_encode.error_json(words(error)), "application/json; charset=utf-8"
    if _is_below(path, "/ai"):
        return error.status, words(error).encode(), "text/plain; charset=utf-8"
    return error.status, error.body, MEDIA_TYPE


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")
