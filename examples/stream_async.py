"""Two answers at once on one event loop."""

import asyncio
import os

import tailrace

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")


async def ask(client: tailrace.AsyncClient, question: str) -> None:
    text = ""
    async for chunk in await client.chat(MODEL, [{"role": "user", "content": question}], stream=True):
        text += chunk.message.content or ""
    print(f"{question}\n  {text.strip()}")


async def main() -> None:
    async with tailrace.AsyncClient() as client, asyncio.TaskGroup() as group:
        group.create_task(ask(client, "Name one river."))
        group.create_task(ask(client, "Name one mountain."))


asyncio.run(main())
