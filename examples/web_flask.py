"""The tutorial's Flask route in one line, with stop and reading on; and an endpoint of your own.

python examples/web_flask.py
curl -N -X POST 'http://127.0.0.1:5000/chat/stream' -H 'Content-Type: application/json' -d '{"message": "hello"}'

It serves the files of this folder too: open http://127.0.0.1:5000/reader_fetch.html for a page that reads it.
A real server runs it as well: gunicorn -k gthread --threads 32 --chdir examples web_flask:app
"""

import os

from flask import Flask, request

import tailrace
from tailrace.web.flask import StreamResponse, chat_blueprint

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

app = Flask(__name__, static_folder=".", static_url_path="/")
app.register_blueprint(chat_blueprint(model=MODEL))  # POST /chat/stream; GET and DELETE of the run that it starts


@app.post("/rivers")
def rivers() -> StreamResponse:
    question = f"Name three rivers in {request.args['country']}."
    stream = tailrace.chat(MODEL, [{"role": "user", "content": question}], stream=True)
    return StreamResponse(stream)  # if the browser goes away, the model stops


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
