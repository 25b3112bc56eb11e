"""Words people see, in English and Simplified Chinese, from one catalogue; the locale or `use` picks the language.

Errors of the library itself stay English: they are searched for and compared. What tailrace prints goes through `say`.
"""

from __future__ import annotations

import os

__all__ = ["CATALOGUE", "language", "say", "use"]

CATALOGUE: dict[str, tuple[str, str]] = {
    # the tutorial's helpers
    "helper.model": ("Model: {model}", "模型: {model}"),
    "helper.characters": ("{count} characters written", "共输出 {count} 个字符"),
    "helper.assistant": ("Assistant: ", "助手: "),
    "helper.cancelled": ("[cancelled]", "[已取消]"),
    # choice of the upstream
    "note.embedded": (
        (
            "tailrace: no Ollama answers at {url}; using the embedded engine ({model}). "
            "To change it: start Ollama, or set TAILRACE_UPSTREAM (http://…, openai:http://…/v1, embedded:/path.gguf)."
        ),
        (
            "tailrace: {url} 没有 Ollama 应答,改用内置引擎({model})。"
            "如需更改:启动 Ollama,或设置 TAILRACE_UPSTREAM(http://…、openai:http://…/v1、embedded:/path.gguf)。"
        ),
    ),
    "note.english_only": (
        (
            "{model} is small and speaks English only. For Chinese, use Ollama (`ollama pull qwen3:0.6b`) or a GGUF "
            "(`tailrace models add FILE`)."
        ),
        (
            "{model} 很小,只会英语。需要中文时,请使用 Ollama(`ollama pull qwen3:0.6b`)或 GGUF 文件"
            "(`tailrace models add FILE`)。"
        ),
    ),
}

_chosen: str | None = None


def use(name: str | None) -> None:
    """Fixes the language, ``en`` or ``zh``; None goes back to the locale."""
    global _chosen
    _chosen = name


def language() -> str:
    """Returns ``en`` or ``zh``: what was fixed, else TAILRACE_LANG, else the locale's variables."""
    if _chosen is not None:
        return _chosen
    for name in ("TAILRACE_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"


def say(key: str, /, *, lang: str | None = None, **values: object) -> str:
    """Returns the words of `key` in the language, with `values` filled in."""
    english, chinese = CATALOGUE[key]
    text = chinese if (lang or language()) == "zh" else english
    return text.format(**values) if values else text
