"""The application that the tests of Flask run on real servers: started by them, not collected."""

from __future__ import annotations

import os

from flask import Flask, Response, request

import tailrace
from tailrace.web.flask import StreamResponse, chat_blueprint

app = Flask(__name__)
app.register_blueprint(chat_blueprint(on_leave=os.environ.get("ON_LEAVE", "cancel")))


@app.post("/ask")
def ask() -> Response:
    """A user's own endpoint: one line."""
    return StreamResponse(tailrace.chat("m", [{"role": "user", "content": request.json["message"]}], stream=True))


@app.get("/healthz")
def health() -> dict[str, str]:
    return {"status": "ok"}
