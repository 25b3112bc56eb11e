"""A chat with htmx: answers grow as safe HTML, by `?render=html` and htmx's extension for server-sent events.

npm install --prefix /tmp/htmx htmx.org@4
HTMX=/tmp/htmx/node_modules python examples/web_htmx.py
open http://127.0.0.1:8000

It is the gateway with two routes of its own. With htmx 2 (`npm install htmx.org@2 htmx-ext-sse@2`) it works as well.
"""

import html
import os
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tailrace.gateway import RunRequest, Settings, caller_of, context_of, create_app

HTMX = Path(os.environ.get("HTMX", "node_modules"))  # the folder that npm made; nothing is loaded from elsewhere
TWO = (HTMX / "htmx-ext-sse").exists()

PAGE = f"""<!doctype html>
<meta charset="utf-8">
<title>htmx</title>
<link rel="icon" href="data:,">
<script src="/htmx/htmx.org/dist/htmx.min.js"></script>
<script src="/htmx/{"htmx-ext-sse/dist/sse.min.js" if TWO else "htmx.org/dist/ext/hx-sse.min.js"}"></script>
<form hx-post="/ask" hx-target="#answers" hx-swap="beforeend">
  <input name="message" value="Write a list of three rivers." size="40" aria-label="Message">
  <button>Send</button>
</form>
<main id="answers"></main>
"""

# Finished blocks are appended, the open tail is replaced; after a loss both go on where they were.
ANSWER = """
<h2>{question}</h2>
<article hx-sse:connect="/runs/{run}/events?render=html" hx-sse:close="ended"
         hx-on:block="this.querySelector('.blocks').insertAdjacentHTML('beforeend', event.detail.data)"
         hx-on:tail="this.querySelector('.tail').innerHTML = event.detail.data"
         hx-on:ended="this.querySelector('.outcome').textContent = JSON.parse(event.detail.data).outcome">
  <div class="blocks"></div>
  <div class="tail"></div>
  <small class="outcome"></small>
</article>
<button hx-delete="/runs/{run}" hx-swap="none">Stop</button>
"""

ANSWER_2 = """
<h2>{question}</h2>
<article hx-ext="sse" sse-connect="/runs/{run}/events?render=html" sse-close="ended">
  <div class="blocks" sse-swap="block" hx-swap="beforeend"></div>
  <div class="tail" sse-swap="tail"></div>
</article>
<button hx-delete="/runs/{run}" hx-swap="none">Stop</button>
"""


def page(_request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def ask(request: Request) -> HTMLResponse:
    question = parse_qs((await request.body()).decode()).get("message", [""])[0]
    run, _ = await context_of(request).start(RunRequest(message=question), caller_of(request.scope), linger=30)
    return HTMLResponse((ANSWER_2 if TWO else ANSWER).format(question=html.escape(question), run=run.id))


app = create_app(Settings(model=os.environ.get("TAILRACE_MODEL", ""), page=False))
app.routes[:0] = [
    Route("/", page),
    Route("/ask", ask, methods=["POST"]),
    Mount("/htmx", StaticFiles(directory=HTMX, check_dir=False)),
]

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
