"""The web servers of the tutorial, to the letter: `python -m benchmarks.tutorial fastapi|flask UPSTREAM`.

They are told the model server's address the way its users tell it, by OLLAMA_HOST. FastAPI's runs under uvicorn with
the settings of the other contestants, Flask's by its own `app.run(threaded=True)`. Each prints its port as a line of
JSON, and ends when its standard input does.
"""

# ruff: noqa: W293 - to the letter

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from typing import Any

from benchmarks.ports import free_port, wait_for
from benchmarks.webserver import serve

FASTAPI = """\
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
import ollama
import json

app = FastAPI()

@app.post("/chat/stream")
async def chat_stream(message: str):
    def generate():
        stream = ollama.chat(
            model='llama3.2',
            messages=[{'role': 'user', 'content': message}],
            stream=True
        )
        
        for chunk in stream:
            content = chunk['message']['content']
            if content:
                yield f"data: {json.dumps({'content': content})}\\n\\n"
        
        yield "data: [DONE]\\n\\n"
    
    return StreamingResponse(generate(), media_type="text/event-stream")
"""

FLASK = """\
from flask import Flask, Response, request
import ollama
import json

app = Flask(__name__)

@app.route('/chat/stream', methods=['POST'])
def chat_stream():
    data = request.json
    message = data.get('message', '')
    
    def generate():
        stream = ollama.chat(
            model='llama3.2',
            messages=[{'role': 'user', 'content': message}],
            stream=True
        )
        
        for chunk in stream:
            content = chunk['message']['content']
            if content:
                yield f"data: {json.dumps({'content': content})}\\n\\n"
    
    return Response(generate(), mimetype='text/event-stream')
"""


def app(code: str) -> Any:
    """Runs the code, and returns the app that it makes."""
    names: dict[str, Any] = {"__name__": "tutorial"}
    exec(code, names)
    return names["app"]


def flask() -> None:
    """Serves until standard input ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    answers, sys.stdout = sys.stdout, sys.stderr  # it says on standard output what it is
    port = free_port()
    made = app(FLASK)
    threading.Thread(target=lambda: made.run(port=port, threaded=True), daemon=True).start()
    wait_for(port)
    print(json.dumps({"port": port}), file=answers, flush=True)
    sys.stdin.read()
    os._exit(0)  # its threads wait for answers that may never come


if __name__ == "__main__":
    os.environ["OLLAMA_HOST"] = sys.argv[2]
    if sys.argv[1] == "flask":
        flask()
    else:
        asyncio.run(serve(app(FASTAPI)))
