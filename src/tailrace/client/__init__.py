"""Clients: `Client` for synchronous code and `AsyncClient` for asyncio, with ollama-python's surface."""
