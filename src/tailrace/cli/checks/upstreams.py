"""Upstreams: which environment variables apply, which servers answer, and which one would be chosen."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from tailrace import errors
from tailrace.backends.base import Backend
from tailrace.backends.openai import OpenAIBackend
from tailrace.backends.resolve import DEFAULT_URL, PROBE, Resolver, without_endpoint
from tailrace.cli.checks.finding import Finding, Mark, reason_of
from tailrace.cli.checks.secrets import KEYS, PROXIES, redacted
from tailrace.cli.session import hint_for
from tailrace.i18n import say
from tailrace.transport.connect import Reach, Target
from tailrace.types import ListedModel

__all__ = [
    "PROBE",
    "Choice",
    "can_chat",
    "choose",
    "environment",
    "is_openai",
    "name_of",
    "ollama",
    "proxy_for",
    "server",
    "verdict",
]

_SHOWN = 6  # models named on the page; the JSON has them all
_VARIABLES = ("TAILRACE_UPSTREAM", "OLLAMA_HOST", "TAILRACE_MODEL")
_PLAIN = ("TAILRACE_HOME", "OLLAMA_MODELS", "TAILRACE_OFFLINE", "NO_PROXY", "no_proxy")


class Choice(msgspec.Struct, frozen=True):
    """What the environment names.

    Attributes:
        kind: ``auto`` if it names nothing, ``wrong`` if what it names is no upstream.
        by: the variable that names it; empty if none does.
        backend: what it names.
        error: why that is no upstream.
    """

    kind: Literal["auto", "ollama", "openai", "embedded", "wrong"]
    by: str = ""
    backend: Any = None
    error: str = ""

    @property
    def url(self) -> str:
        """What it names, without credentials."""
        return redacted(self.backend.url) if self.backend is not None else ""

    @property
    def file(self) -> str:
        """The model file it names; empty for the default model."""
        return self.backend.url.partition(":")[2] if self.kind == "embedded" else ""


def choose() -> Choice:
    """Reads what the environment names. Asks nobody."""
    named = os.environ.get("TAILRACE_UPSTREAM", "").strip()
    by = "TAILRACE_UPSTREAM" if named else "OLLAMA_HOST" if os.environ.get("OLLAMA_HOST", "").strip() else ""
    try:
        backend = Resolver().known
    except errors.TailraceError as error:
        return Choice("wrong", by, None, reason_of(error))
    return Choice(_kind(backend), by if backend is not None else "", backend)


def _kind(backend: Backend | None) -> Literal["auto", "ollama", "openai", "embedded"]:
    for kind in ("ollama", "openai", "embedded"):
        if backend is not None and backend.kind == kind:
            return kind
    return "auto"


async def environment(choice: Choice) -> Finding:
    """What of the environment was looked at, and whether a proxy would catch the upstream."""
    variables = {name: redacted(os.environ[name]) for name in (*_VARIABLES, *PROXIES) if os.environ.get(name)}
    variables |= {name: say("doctor.is_set") for name in KEYS if os.environ.get(name)}
    variables |= {name: os.environ[name] for name in _PLAIN if os.environ.get(name)}
    proxy = proxy_for(choice.backend.url) if choice.kind in ("ollama", "openai") else None
    facts: dict[str, Any] = {"variables": {**variables, **dict.fromkeys(_keys_set(), True)}, "proxy": proxy}
    seen = say("doctor.variables", text=", ".join(f"{name}={value}" for name, value in variables.items()))
    if proxy is not None:
        words = say("doctor.proxied", url=choice.url, proxy=proxy)
        host = urlsplit(choice.url.removeprefix("openai:")).hostname or ""
        do = say("doctor.no_proxy", host=host)
        return Finding(name="environment", mark="note", seen=f"{words}; {seen}", do=do, facts=facts)
    return Finding(name="environment", mark="ok", seen=seen if variables else say("doctor.no_variables"), facts=facts)


def _keys_set() -> list[str]:
    return [name for name in KEYS if os.environ.get(name)]


def proxy_for(url: str) -> str | None:
    """Returns the proxy that the environment puts before a server, without credentials; None if there is none."""
    try:
        target = Target.of(url.removeprefix("openai:"), url)
        proxy = Reach().proxy_for(target.host, target.port, target.tls)
    except errors.ConnectionError:
        return None  # what asks it says so
    return proxy.url if proxy is not None else None


async def ollama(choice: Choice) -> Finding:
    """Whether Ollama answers, where, with what version and models."""
    is_chosen = choice.kind == "ollama"
    backend: Backend = choice.backend
    if not is_chosen:
        host = os.environ.get("OLLAMA_HOST", "").strip() if choice.kind != "auto" else ""
        meant = without_endpoint(host).removeprefix("openai:").removesuffix("/v1")
        found = Resolver(f"ollama:{meant or DEFAULT_URL}").known
        assert found is not None
        backend = found
    url = redacted(backend.url)
    facts: dict[str, Any] = {"answers": False, "url": url}
    began = time.monotonic()
    try:
        version = await backend.version()
        took = time.monotonic() - began
        models = list((await backend.list()).models)
    except errors.TailraceError as error:
        return await _no_ollama(error, url, facts, mark="problem" if is_chosen else "note")
    facts = {"answers": True, "url": url, "version": version, "seconds": round(took, 3), "models": facts_of(models)}
    if not any(map(can_chat, models)):
        words = say("doctor.ollama_empty", version=version, url=url)
        get = say("hint.get_ollama", model="qwen3:0.6b")
        return Finding(name="ollama", mark="problem" if is_chosen else "note", seen=words, do=get, facts=facts)
    words = say("doctor.ollama_here", version=version, url=url, count=len(models), names=names(models))
    return Finding(name="ollama", mark="ok", seen=words, facts=facts)


async def _no_ollama(error: errors.TailraceError, url: str, facts: dict[str, Any], mark: Mark) -> Finding:
    reason = reason_of(error)
    facts = {**facts, "error": reason}
    do = hint_for(error) if error.about else say("hint.not_model_server")
    if isinstance(error, errors.ResponseError) and not error.about and await is_openai(url):
        do = say("doctor.use_openai", url=url)
    return Finding(name="ollama", mark=mark, seen=say("doctor.no_ollama", reason=reason), do=do, facts=facts)


async def is_openai(url: str) -> bool:
    """Says whether an OpenAI-compatible server is there."""
    backend = Resolver(f"openai:{url}/v1").known
    try:
        return backend is not None and bool((await backend.list()).models)
    except errors.TailraceError:
        return False


async def server(choice: Choice) -> Finding | None:
    """Whether the OpenAI-compatible server that was named answers; None if none was."""
    if choice.kind != "openai":
        return None
    assert isinstance(choice.backend, OpenAIBackend)
    facts: dict[str, Any] = {"answers": False, "url": choice.url}
    try:
        models = list((await choice.backend.list()).models)
    except errors.TailraceError as error:
        reason = reason_of(error)
        do = hint_for(error) if error.about else say("hint.not_model_server")
        words = say("doctor.no_server", reason=reason)
        return Finding(name="server", mark="problem", seen=words, do=do, facts={**facts, "error": reason})
    facts = {"answers": True, "url": choice.url, "models": facts_of(models)}
    if not models:
        words = say("doctor.server_empty", url=choice.url)
        return Finding(name="server", mark="problem", seen=words, do=say("hint.get_openai"), facts=facts)
    words = say("doctor.server_here", url=choice.url, count=len(models), names=names(models))
    return Finding(name="server", mark="ok", seen=words, facts=facts)


def verdict(choice: Choice, found: Mapping[str, Finding]) -> Finding:
    """Which upstream would be chosen, why, and whether a model could answer there.

    Args:
        found: the other findings by their names.
    """
    facts: dict[str, Any] = {"kind": choice.kind, "url": choice.url, "by": choice.by}
    if choice.kind == "wrong":
        do = say("help.upstream")
        words = say("doctor.wrong", name=choice.by, reason=choice.error)
        return Finding(name="upstream", mark="problem", seen=words, do=do, facts=facts)
    if choice.kind != "auto":
        words = say("doctor.named", url=choice.url, name=choice.by)
        return _judged(choice.kind, words, facts, found)
    answer = found["ollama"].facts
    facts |= {"by": "search"}
    if answer.get("answers") and answer["seconds"] <= PROBE:
        words = say("doctor.found", url=DEFAULT_URL, ms=round(answer["seconds"] * 1000))
        return _judged("ollama", words, {**facts, "kind": "ollama", "url": DEFAULT_URL}, found)
    if found["engine"].facts.get("installed"):
        words = say("doctor.fallback", url=DEFAULT_URL)
        if answer.get("answers"):
            words = say("doctor.too_slow", url=DEFAULT_URL, ms=round(PROBE * 1000))
        return _judged("embedded", words, {**facts, "kind": "embedded", "url": "embedded:"}, found)
    if answer.get("answers"):
        return _judged("ollama", say("doctor.only", url=DEFAULT_URL), {**facts, "kind": "ollama"}, found)
    words = say("doctor.nothing", url=DEFAULT_URL)
    return Finding(name="upstream", mark="problem", seen=words, do=say("doctor.get_one"), facts=facts)


def _judged(kind: str, words: str, facts: dict[str, Any], found: Mapping[str, Finding]) -> Finding:
    """An upstream is as good as what it stands on."""
    needed = {"ollama": ["ollama"], "openai": ["server"], "embedded": ["engine", "model"]}[kind]
    broken = [found[name] for name in needed if found[name].mark == "problem"]
    if kind == "ollama" and not broken and not any(map(_chats, found["ollama"].facts.get("models", ()))):
        broken = [found["ollama"]]
    if not broken:
        return Finding(name="upstream", mark="ok", seen=words, facts=facts)
    because = say("doctor.cannot_answer", reason=broken[0].seen)
    return Finding(name="upstream", mark="problem", seen=f"{words}; {because}", do=broken[0].do, facts=facts)


def _chats(model: Mapping[str, Any]) -> bool:
    return bool(model["chat"])


# -- models of a server ----------------------------------------------------------------------------------------------


def can_chat(model: ListedModel) -> bool:
    """Says whether a model answers, rather than only embeds."""
    return not model.capabilities or "completion" in model.capabilities


def name_of(model: ListedModel) -> str:
    """Returns a model's name."""
    return model.model or model.name or ""


def names(models: list[ListedModel]) -> str:
    """Returns the first names, for the page."""
    shown = [name_of(model) for model in models[:_SHOWN]]
    return ", ".join([*shown, *(["…"] if len(models) > _SHOWN else [])])


def facts_of(models: list[ListedModel]) -> list[dict[str, Any]]:
    """Returns what is told of a server's models."""
    return [{"name": name_of(model), "size": model.size, "chat": can_chat(model)} for model in models]
