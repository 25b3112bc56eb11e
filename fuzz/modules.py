"""The modules that a guided fuzzer watches; named apart, since it has to know them before they are imported."""

from __future__ import annotations

__all__ = ["MODULES"]

MODULES = (
    "tailrace.protocols",
    "tailrace.web.requests",
    "tailrace.gateway.access.limits",
    "tailrace.transport.http_server",
    "tailrace.backends.embedded.requests",
    "tailrace.client.requests",
)
"""What is watched while a guided fuzzer runs."""
