"""Clients: `Client` for synchronous code and `AsyncClient` for asyncio, with ollama-python's surface.

Internal: may change in any release. What is public is listed in docs/public.md.
"""
