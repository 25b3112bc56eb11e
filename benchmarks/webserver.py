"""A contestant that serves `POST /chat/stream`: `python -m benchmarks.webserver WHICH UPSTREAM`, driven over stdin.

All of them run under uvicorn with the same settings, in this one process. Each line of standard input is answered with
the processor time that was used until now.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

_BACKLOG = 4096


def tailrace(upstream: str) -> Any:
    """Our router."""
    from fastapi import FastAPI

    from tailrace import AsyncClient
    from tailrace.web.fastapi import chat_router

    app = FastAPI()
    app.include_router(chat_router(AsyncClient(upstream), model="m"))
    return app


def ollama(upstream: str) -> Any:
    """The tutorial's route made asynchronous: ollama-python in an async generator."""
    import ollama
    from fastapi import Body, FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()
    client = ollama.AsyncClient(upstream)
    message = Body(embed=True)

    @app.post("/chat/stream")
    async def chat_stream(message: str = message) -> StreamingResponse:
        async def generate() -> AsyncIterator[str]:
            stream = await client.chat("m", [{"role": "user", "content": message}], stream=True)
            async for chunk in stream:
                content = chunk["message"]["content"]
                if content:
                    yield f"data: {json.dumps({'content': content})}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(generate(), media_type="text/event-stream")

    return app


def relay(upstream: str) -> Any:
    """The least that a server in Python can do: bytes are copied, and nothing is known of them."""
    import aiohttp

    sessions: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                sessions.append(session)
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await passed(await whole(receive), scope["path"], send)

    async def whole(receive: Any) -> bytes:
        body = b""
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if not message.get("more_body", False):
                return body

    async def passed(body: bytes, path: str, send: Any) -> None:
        async with sessions[0].post(upstream + path, data=body, timeout=aiohttp.ClientTimeout()) as answer:
            kind = answer.headers["content-type"].encode()
            await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]})
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body"})

    return app


async def serve(app: Any) -> None:
    """Serves until standard input ends."""
    import uvicorn

    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="auto", ws="none")
    server = uvicorn.Server(config)
    sock = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    serving = asyncio.create_task(server.serve([sock]))
    print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps({"cpu": time.process_time()}), flush=True)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(serve({"tailrace": tailrace, "ollama": ollama, "relay": relay}[sys.argv[1]](sys.argv[2])))
