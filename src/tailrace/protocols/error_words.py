"""The words of errors: what a server says went wrong, found in whatever form it says it.

Ollama's is ``{"error": "…"}`` and OpenAI's ``{"error": {"message": "…"}}``. Others are seen behind the same paths:
``{"object": "error", "message": "…"}`` of older vLLM (`vllm/entrypoints/openai/protocol.py`, ``ErrorResponse``),
``{"text": "…", "error_code": 50001}`` of FastChat (`fastchat/constants.py`, ``ErrorCode``), ``{"detail": …}`` of
FastAPI, problem details (RFC 9457), ``error`` with ``error_description`` (RFC 6749 section 5.2).
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["body_text", "error_in", "error_text", "page_title", "shortened"]

_LONGEST = 2_000  # characters of an error that are kept: more than that a terminal does not bear
# Where the words are, the best first.
_WORDS = (
    *("message", "detail", "error_description", "error_message", "errorMessage", "error_msg", "msg", "error"),
    *("errors", "reason", "text", "title"),
)
_SIGNS = ("detail", "error_code", "error_message", "errorMessage", "error_msg", "errors")
_CODES = ("code", "status", "status_code")
_FINE = (None, False, 0, 200, "", "0", "200", "ok", "success")  # codes that mean that nothing went wrong
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)


def shortened(text: str) -> str:
    """Returns a text that is not longer than an error may be."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def error_text(error: Any) -> str:
    """Returns the text of an ``error`` member: a string, an object with words, or a string that holds such JSON."""
    try:
        text = _text(error)
    except RecursionError:
        return "an error that is nested too deeply to be shown"
    # Halves of characters cannot be encoded.
    return shortened(text).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def body_text(body: str) -> str:
    """Returns what the body of an HTTP error says: the words in its JSON, else the body as it is, shortened."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return shortened(body.strip())
    if not isinstance(parsed, dict):
        return shortened(body.strip())
    error, described = parsed.get("error"), _described(parsed)
    if isinstance(error, str) and error and described and described != error:
        return error_text(f"{error}: {described}")
    if error:
        return error_text(error)
    return error_text(parsed) if _found(parsed) is not None else shortened(body.strip())


def error_in(value: Any) -> tuple[Any, Any] | None:
    """Returns the error, and its code, that a JSON value tells in place of an answer; None if it tells of none."""
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if error:
        return error, _code(error) or _code(value)
    named = "error" in (value.get("object"), value.get("type"), value.get("status"))
    if named or value.get("success") is False or any(value.get(sign) and value[sign] not in _FINE for sign in _SIGNS):
        return value, _code(value)
    says = isinstance(value.get("message") or value.get("msg"), str)
    kind = str(value.get("type") or value.get("error_type") or "").lower()
    wrong = any(sign in kind for sign in ("error", "exception", "invalid"))
    if says and (wrong or any(_hashable(value.get(name)) not in _FINE for name in _CODES)):
        return value, _code(value)
    return None


def page_title(text: str) -> str:
    """Returns what names a web page in an error; empty if it has no title."""
    title = _TITLE.search(text)
    return f' ("{" ".join(title[1].split())}")' if title else ""


def _code(value: Any) -> Any:
    codes = [value.get(name) for name in ("code", "status_code", "status")] if isinstance(value, dict) else []
    return next((code for code in codes if type(code) is int), None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None))) else True


def _described(parsed: dict[str, Any]) -> str:
    words = (parsed.get(name) for name in ("error_description", "message", "detail"))
    return next((each for each in words if isinstance(each, str) and each), "")


def _found(error: dict[str, Any]) -> Any:
    """Returns that member of an object which holds its words; None if none does."""
    values = (error.get(name) for name in _WORDS)
    return next((value for value in values if value and isinstance(value, (str, dict, list))), None)


def _text(error: Any) -> str:
    if isinstance(error, str):
        return _unpacked(error)
    if isinstance(error, list) and error and all(isinstance(each, dict) and "msg" in each for each in error):
        return "; ".join(map(_invalid, error))
    if not isinstance(error, dict):
        return str(error)
    found = _found(error)
    if found is None:
        return json.dumps(error, ensure_ascii=False)
    text = found if isinstance(found, str) else _text(found)
    prompt, context = error.get("n_prompt_tokens"), error.get("n_ctx")
    if isinstance(prompt, int) and isinstance(context, int):  # llama.cpp: what the words of old versions left out
        return f"{text} (the prompt has {prompt} tokens, the context holds {context})"
    return text


def _unpacked(text: str) -> str:
    """Ollama hands its runner's body on verbatim, so an error's text may itself be {"error": {"message": …}}."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return _text(inner["error"]) if isinstance(inner, dict) and inner.get("error") else text


def _invalid(problem: dict[str, Any]) -> str:
    """Returns one of FastAPI's complaints about a request: where, and what."""
    loc = problem.get("loc")
    where = ".".join(map(str, loc)) if isinstance(loc, list) else ""
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])
