"""Django: a stream from an asynchronous view, in one file.

python examples/web_django.py
curl -N -X POST 'http://127.0.0.1:8000/chat/stream?message=hello'
"""

import os

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, StreamingHttpResponse
from django.urls import path

from tailrace import AsyncClient
from tailrace.web import HEADERS, frames

MODEL = os.environ.get("TAILRACE_MODEL", "smollm2:135m")

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1", "localhost"])

client = AsyncClient()


async def chat_stream(request: HttpRequest) -> StreamingHttpResponse:
    messages = [{"role": "user", "content": request.GET["message"]}]
    stream = await client.chat(MODEL, messages, stream=True)
    return StreamingHttpResponse(frames(stream), headers=dict(HEADERS))  # if the browser goes away, the model stops


urlpatterns = [path("chat/stream", chat_stream)]
application = get_asgi_application()

if __name__ == "__main__":
    uvicorn.run(application, port=int(os.environ.get("PORT", "8000")), lifespan="off")
