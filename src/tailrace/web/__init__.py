"""A run read out as a web response: `sse` for any ASGI app, `tailrace.web.fastapi` and `tailrace.web.flask`.

from tailrace.web import sse

response = sse(client.chat("qwen3:0.6b", messages, stream=True))     # an ASGI application, to be called or returned
"""

from tailrace.web.asgi import EventStream, sse

__all__ = ["EventStream", "sse"]
