"""The tutorial's FastAPI route in one line, with stop and reading on; and an endpoint of your own.

python examples/web_fastapi.py
curl -N -X POST 'http://127.0.0.1:8000/chat/stream?message=hello'
"""

import os

import uvicorn
from fastapi import FastAPI

from tailrace import AsyncClient
from tailrace.web.fastapi import StreamResponse, chat_router

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

app = FastAPI()
app.include_router(chat_router(model=MODEL))  # POST /chat/stream; GET and DELETE of the run that it starts

client = AsyncClient()


@app.post("/rivers")
async def rivers(country: str) -> StreamResponse:
    question = f"Name three rivers in {country}."
    stream = await client.chat(MODEL, [{"role": "user", "content": question}], stream=True)
    return StreamResponse(stream)  # if the browser goes away, the model stops


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
