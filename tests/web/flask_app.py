"""The application that the tests of Flask and of WSGI servers run: started by them, not collected."""

from __future__ import annotations

import os

import msgspec
from flask import Flask, Response, request

import tailrace
from tailrace.web.flask import StreamResponse, chat_blueprint
from tailrace.web.wsgi import WSGI_SETTINGS, streams

if os.environ.get("ASK_AT_IMPORT"):
    tailrace.list()  # a server that loads the application before it forks starts our loop in the wrong process

MAX_BODY = 64 * 1024

app = Flask(__name__)
stream_settings = msgspec.structs.replace(WSGI_SETTINGS, send_timeout=float(os.environ.get("SEND_TIMEOUT", "30")))
app.register_blueprint(chat_blueprint(stream_settings=stream_settings, max_body=MAX_BODY))


@app.post("/ask")
def ask() -> Response:
    """An endpoint of one's own, in one line."""
    return StreamResponse(tailrace.chat("m", [{"role": "user", "content": request.json["message"]}], stream=True))


@app.get("/healthz")
def health() -> dict[str, str | int]:
    return {"status": "ok", "streams": streams()}
