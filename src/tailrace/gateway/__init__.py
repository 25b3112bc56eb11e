"""The gateway: the streaming layer behind HTTP, for browsers, programs and other machines.

`create_app` returns it as an ASGI application; ``tailrace serve`` runs that on uvicorn. A route of your own, added to
the application, starts a run with ``context_of(request).start(RunRequest(…), caller_of(request.scope), linger=…)``.

Internal: the modules of this package and of the packages in it; what is public is imported from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailrace.gateway.access.middleware import Caller, caller_of
    from tailrace.gateway.app import create_app
    from tailrace.gateway.context import GatewayContext, context_of
    from tailrace.gateway.settings import Settings
    from tailrace.protocols.runs.requests import RunRequest

__all__ = ["Caller", "GatewayContext", "RunRequest", "Settings", "caller_of", "context_of", "create_app"]

# Where the names are defined. They are imported when asked for: modules of this package are used without Starlette too.
_MODULES = {
    "Caller": "tailrace.gateway.access.middleware",
    "GatewayContext": "tailrace.gateway.context",
    "RunRequest": "tailrace.protocols.runs.requests",
    "Settings": "tailrace.gateway.settings",
    "caller_of": "tailrace.gateway.access.middleware",
    "context_of": "tailrace.gateway.context",
    "create_app": "tailrace.gateway.app",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
