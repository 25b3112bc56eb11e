"""The two ends of the worker's connection to a client, in one process: what it answers, without an engine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tailrace.backends.embedded.http1 import Exchange, read_request

GET = b"GET / HTTP/1.1\r\n\r\n"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[socket.socket, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client's socket, and the streams at its other end."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=ours)
    try:
        yield theirs, reader, writer
    finally:
        theirs.close()
        writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def exchanging(request_: bytes = GET) -> AsyncIterator[tuple[socket.socket, Exchange]]:
    """An exchange whose request was read and whose client is watched."""
    async with connected() as (client, reader, writer):
        await asyncio.get_running_loop().sock_sendall(client, request_)
        exchange = await read_request(reader, writer, None)
        exchange.watch()
        yield client, exchange
        await exchange.close(complete=False)


async def rest_of(client: socket.socket) -> bytes:
    """All that a client still gets."""
    loop, data = asyncio.get_running_loop(), b""
    while piece := await loop.sock_recv(client, 65536):
        data += piece
    return data
