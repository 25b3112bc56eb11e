"""Programs that use libraries built on ollama-python, with tailrace in its place.

`python -m tests.libraries.programs NAME` runs one.
Each prints JSON: the pieces of a streamed answer, the call of a tool, and the error for a model that is not there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import tailrace

tailrace.install_as_ollama()
URL = os.environ["OLLAMA_HOST"]
QUESTION = "Weather?"


def weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"sunny in {city}"


def failing(ask: Callable[[], Any]) -> str:
    """The class of what asking a model that is missing raises."""
    try:
        ask()
    except Exception as error:
        return type(error).__name__
    return ""


def langchain() -> dict[str, Any]:
    from langchain_core.tools import tool
    from langchain_ollama import ChatOllama

    model = ChatOllama(model="fake", base_url=URL)
    pieces = [chunk.content for chunk in model.stream(QUESTION) if chunk.content]

    async def collect() -> list[Any]:
        return [chunk.content async for chunk in model.astream(QUESTION) if chunk.content]

    again = asyncio.run(collect())
    called = model.bind_tools([tool(weather)]).invoke(QUESTION).tool_calls[0]
    return {
        "pieces": pieces,
        "again": again,
        "call": [called["name"], called["args"]],
        "error": failing(lambda: ChatOllama(model="missing", base_url=URL).invoke(QUESTION)),
    }


def llamaindex() -> dict[str, Any]:
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.ollama import Ollama

    def model(name: str) -> Any:
        return Ollama(model=name, base_url=URL, request_timeout=60, context_window=1000)

    asked = [ChatMessage(role="user", content=QUESTION)]
    pieces = [piece.delta for piece in model("fake").stream_chat(asked) if piece.delta]

    async def collect() -> list[Any]:
        return [piece.delta async for piece in await model("fake").astream_chat(asked) if piece.delta]

    again = asyncio.run(collect())
    answer = model("fake").chat_with_tools([FunctionTool.from_defaults(weather)], user_msg=QUESTION)
    called = model("fake").get_tool_calls_from_response(answer)[0]
    return {
        "pieces": pieces,
        "again": again,
        "call": [called.tool_name, called.tool_kwargs],
        "error": failing(lambda: model("missing").chat(asked)),
    }


def llm() -> dict[str, Any]:
    import llm
    from llm_ollama.models.chat import AsyncOllamaChatModel, OllamaChatModel

    able = {"ollama_name": "fake", "capabilities": ["completion", "tools"]}
    model = OllamaChatModel(model_id="fake", **able)
    pieces = [piece for piece in model.prompt(QUESTION) if piece]

    async def collect() -> list[Any]:
        asked = AsyncOllamaChatModel(model_id="fake", **able).prompt(QUESTION)
        return [piece async for piece in asked if piece]

    again = asyncio.run(collect())
    answer = model.prompt(QUESTION, tools=[llm.Tool.function(weather)])
    called = answer.tool_calls()[0]
    missing = OllamaChatModel(model_id="missing", ollama_name="missing", capabilities=[])
    return {
        "pieces": pieces,
        "again": again,
        "call": [called.name, called.arguments],
        "error": failing(lambda: missing.prompt(QUESTION).text()),
    }


def autogen() -> dict[str, Any]:
    from autogen_core.models import ModelInfo, UserMessage
    from autogen_core.tools import FunctionTool
    from autogen_ext.models.ollama import OllamaChatCompletionClient

    able = ModelInfo(vision=False, function_calling=True, json_output=True, family="unknown", structured_output=True)
    asked = [UserMessage(content=QUESTION, source="user")]

    async def use() -> dict[str, Any]:
        model = OllamaChatCompletionClient(model="fake", host=URL, model_info=able)
        pieces = [piece async for piece in model.create_stream(asked) if isinstance(piece, str)]
        again = [piece async for piece in model.create_stream(asked) if isinstance(piece, str)]
        answer = await model.create(asked, tools=[FunctionTool(weather, description="Tells the weather.")])
        called: Any = answer.content[0]
        error = ""
        try:
            await OllamaChatCompletionClient(model="missing", host=URL, model_info=able).create(asked)
        except Exception as raised:
            error = type(raised).__name__
        return {
            "pieces": pieces,
            "again": again,
            "call": [called.name, json.loads(called.arguments)],
            "error": error,
        }

    return asyncio.run(use())


PROGRAMS = {"langchain-ollama": langchain, "llama-index": llamaindex, "llm-ollama": llm, "autogen": autogen}

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]]()))
