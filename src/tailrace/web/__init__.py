"""A run as a web response: `sse` for any ASGI app, `tailrace.web.fastapi` and `tailrace.web.flask`.

from tailrace.web import sse

response = sse(await client.chat("qwen3:0.6b", messages, stream=True))  # an ASGI application, to be called or returned

Frameworks whose responses take an async iterator of bytes, such as Django, get `frames` and `HEADERS`.

Internal: the other modules of this package.
"""

from tailrace.web.asgi import EventStream, frames, sse
from tailrace.web.stream_settings import HEADERS, StreamSettings

__all__ = ["HEADERS", "EventStream", "StreamSettings", "frames", "sse"]
