"""Upstreams: makes the client of a command, finds the model it means, and says what to do if one is missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tailrace.backends.embedded import models
from tailrace.cli.session import Session
from tailrace.client.sync import Client
from tailrace.errors import ModelNotFoundError, RequestError, TailraceError
from tailrace.i18n import say
from tailrace.i18n.output import put
from tailrace.run.timeouts import Timeouts
from tailrace.terminal.progress import ProgressPrinter
from tailrace.types import ListedModel

__all__ = ["choose_model", "client_for", "explain_missing", "fetch_default", "note_english_only"]

_CONNECT = 10.0  # seconds; a longer --timeout is for the model, not for the network


def client_for(upstream: str | None, timeout: float | None = None) -> Client:
    """Returns the client of a call.

    Args:
        upstream: as given by ``--upstream``.
        timeout: seconds without a token; 0 for no limit, None for the defaults.

    Raises:
        RequestError: the upstream has none of its forms.
    """
    _note_endpoint(upstream)
    if timeout is None:
        return Client(upstream)
    if timeout == 0:
        return Client(upstream, timeout=None)
    connect = min(timeout, _CONNECT)
    return Client(upstream, timeout=Timeouts(connect=connect, first_token=timeout, idle=timeout, answer=timeout))


def _note_endpoint(upstream: str | None) -> None:
    """Tells how an address is taken that has the path of an API at its end."""
    from tailrace.backends.resolve import without_endpoint
    from tailrace.cli.checks.secrets import redacted

    named = upstream or os.environ.get("TAILRACE_UPSTREAM") or os.environ.get("OLLAMA_HOST") or ""
    meant = without_endpoint(named.strip())
    if meant == named.strip():
        return
    if meant.startswith("openai:"):
        words = say("note.is_openai", meant=redacted(meant), named=redacted(named))
    else:
        words = say("note.without_api", meant=redacted(meant), named=redacted(named))
    put(f"{words}\n", sys.stderr)


def choose_model(client: Client, named: str | None, session: Session) -> str:
    """Returns the model a call means, having fetched the default one if that is meant and not here.

    Raises:
        RequestError: none is named, and the upstream has none or several.
        TailraceError: the upstream cannot be asked.
    """
    model = named or os.environ.get("TAILRACE_MODEL", "").strip()
    upstream = client.find_upstream()
    session.is_embedded = upstream.startswith("embedded:")
    if session.is_embedded:
        path = upstream.removeprefix("embedded:")
        if path:
            return model or Path(path).name
        model = model or models.DEFAULT_MODEL
        if model == models.DEFAULT_MODEL:
            _ready_default(session)
        return model
    return model or _only_model(client)


def _only_model(client: Client) -> str:
    there = [entry for entry in client.list().models if _can_chat(entry)]
    names = [entry.model or entry.name or "" for entry in there]
    if len(names) == 1:
        return names[0]
    where = client.upstream
    if names:
        raise RequestError(
            say("error.model_choice", upstream=where), hint=say("hint.models_here", names=", ".join(names))
        )
    get = say("hint.get_openai") if where.startswith("openai:") else say("hint.get_ollama", model="qwen3:0.6b")
    raise RequestError(say("error.model_none", upstream=where), hint=get)


def _can_chat(entry: ListedModel) -> bool:
    return not entry.capabilities or "completion" in entry.capabilities


def explain_missing(error: ModelNotFoundError, client: Client, model: str) -> ModelNotFoundError:
    """Returns the error with the models that are there, and how to get the one that is not."""
    where = client.upstream
    try:
        names = [entry.model or entry.name or "" for entry in client.list().models]
    except TailraceError:
        return error
    if where.startswith("embedded:"):
        get = say("hint.get_embedded")
    else:
        get = say("hint.get_openai") if where.startswith("openai:") else say("hint.get_ollama", model=model)
    here = say("hint.models_here", names=", ".join(names)) if names else say("hint.models_none")
    told = ModelNotFoundError(say("error.model_missing", upstream=where, model=model), hint=f"{here}; {get}")
    told.reply = error.reply
    told.__cause__ = error
    return told


# -- the default model -----------------------------------------------------------------------------------------------


def _ready_default(session: Session) -> None:
    try:
        models.find(models.DEFAULT_MODEL)
    except models.UnknownModelError:
        if os.environ.get("TAILRACE_OFFLINE", "") in ("", "0"):
            session.err.line(say("note.fetching", model=models.DEFAULT_MODEL))
            fetch_default(session)
    note_english_only(session)


def fetch_default(session: Session) -> models.ModelFile:
    """Fetches the default model, showing how far it is.

    Raises:
        FetchError: it cannot be fetched.
    """
    from tailrace.backends.embedded import fetch

    printer = ProgressPrinter(session.err)

    def show(now: models.Progress) -> None:
        printer.show(now.status, now.completed, (now.status != "success" and now.total) or None)

    try:
        return fetch.fetch_default(show)
    finally:
        printer.close()


def note_english_only(session: Session) -> None:
    """Says once, in both languages, that the default model speaks English only."""
    marker = models.data_dir() / "notes" / "english-only"
    if marker.exists():
        return
    for language in ("en", "zh"):
        session.err.line(say("note.english_only", lang=language, model=models.DEFAULT_MODEL))
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError:
        pass  # a read-only home hears it again
