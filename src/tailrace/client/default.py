"""The module's own functions (``tailrace.chat`` and the rest): methods of one client, made on first use.

ollama-python makes its client at import and reads the environment then; here both happen at the first call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tailrace.client.sync import Client

__all__ = ["default_client", "method"]

F = TypeVar("F", bound=Callable[..., Any])

_client: Client | None = None


def default_client() -> Client:
    """Returns the client behind the module's functions."""
    global _client
    if _client is None:
        _client = Client()  # two threads at once may make two: a client holds nothing, so one is dropped without loss
    return _client


def method(of_class: F) -> F:
    """Returns a function that is a method of the default client, with the method's own signature."""
    name = of_class.__name__
    signature = inspect.signature(of_class)

    @functools.wraps(of_class)
    def function(*args: Any, **kwargs: Any) -> Any:
        return getattr(default_client(), name)(*args, **kwargs)

    parameters = list(signature.parameters.values())[1:]  # without self
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return cast(F, function)
