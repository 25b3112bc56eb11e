"""Secrets: removes keys and passwords from findings, wherever they came from."""

from __future__ import annotations

import base64
import os
import re
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

__all__ = ["KEYS", "PROXIES", "known", "redacted", "scrubbed"]

T = TypeVar("T", bound=msgspec.Struct)

KEYS = ("TAILRACE_API_KEY", "OLLAMA_API_KEY", "OPENAI_API_KEY")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_URLS = ("TAILRACE_UPSTREAM", "OLLAMA_HOST", *PROXIES)
_SHORTEST = 4  # what is shorter would blot out ordinary words; `redacted` has taken it out of the URLs anyway
_HIDDEN = "***"


def redacted(url: str) -> str:
    """Returns a URL without credentials, query and fragment, also if it is not much of a URL.

    >>> redacted("openai:https://me:pw@host/v1?key=1"), redacted("me:p/w@host:1"), redacted("embedded:/a@b.gguf")
    ('openai:https://host/v1', 'host:1', 'embedded:/a@b.gguf')
    """
    if url.startswith("embedded:"):
        return url
    scheme, found, rest = url.partition("://")
    if not found:
        scheme, rest = "", url
    rest = rest.partition("?")[0].partition("#")[0].rpartition("@")[2]
    return f"{scheme}://{rest}" if found else rest


def known(*urls: str | None) -> list[str]:
    """Returns every secret that this process was given, longest first."""
    found = {os.environ.get(name, "").strip() for name in KEYS}
    for url in (*urls, *(os.environ.get(name) for name in _URLS)):
        if url and not url.startswith("embedded:"):
            found |= _secrets_of(url)
    return sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True)


def _secrets_of(url: str) -> set[str]:
    rest = url.partition("://")[2] or url
    credentials = rest.partition("?")[0].rpartition("@")[0]
    user, _, password = credentials.partition(":")
    secret = password or user
    pair = base64.b64encode(unquote(credentials).encode("utf-8", "replace")).decode()
    found = {secret, unquote(secret), credentials, unquote(credentials), pair} if credentials else set()
    found |= set(re.split(r"[/:@]", secret))  # a password that should have been quoted is taken apart by others
    try:
        query = urlsplit(url).query
    except ValueError:  # not a URL at all
        query = url.partition("?")[2]
    return found | {value for _, value in parse_qsl(query)} | ({query} if query else set())


def scrubbed(value: T, secrets: list[str]) -> T:
    """Returns a copy of `value` in which no text holds one of the secrets."""
    return msgspec.convert(_without(msgspec.to_builtins(value), secrets), type(value))


def _without(value: object, secrets: list[str]) -> object:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, _HIDDEN)
        return value
    if isinstance(value, dict):
        return {key: _without(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, secrets) for item in value]
    return value
