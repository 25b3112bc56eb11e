"""Conversations: `StreamingChat` and its asynchronous twin, and the history they keep.

The tutorial's class, with what it lacks: an interrupted answer stays in the history and is marked; a turn that failed
before the model said anything leaves no dangling question; the history can be saved and loaded.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from tailrace.client.aio import AsyncClient
from tailrace.client.default import default_client
from tailrace.client.streams import AsyncChatStream, ChatStream
from tailrace.client.sync import Client
from tailrace.errors import RequestError
from tailrace.export import FORMAT
from tailrace.i18n import say
from tailrace.run.reply import Reply
from tailrace.types import Options, plain

__all__ = ["AsyncStreamingChat", "StreamingChat"]

DEFAULT_MODEL = "llama3.2"  # the tutorial's


class _Conversation:
    """The history, and the turns that go into it.

    Attributes:
        model: the model that answers.
        messages: the history, as dicts in Ollama's form. An interrupted answer has ``"interrupted": <outcome>``
            beside its content; that mark is ours and is not sent.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        system: str | None = None,
        *,
        options: Mapping[str, Any] | Options | None = None,
        think: bool | str | None = None,
        format: Mapping[str, Any] | Literal["", "json"] | None = None,
        print: Callable[[str], object] | None = None,
    ) -> None:
        self.model = model
        self.messages: list[dict[str, Any]] = []
        if system:
            self.messages.append({"role": "system", "content": system})
        self.options = options
        self.think = think
        self.format = format
        self.last: Reply | None = None
        self._print = print if print is not None else _to_stdout

    def _sent(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        """What goes to the model: the history without our marks, and the question."""
        history = [{name: value for name, value in m.items() if name != "interrupted"} for m in self.messages]
        return [*history, question]

    def _keep(self, question: dict[str, Any], reply: Reply) -> None:
        """The turn joins the history, unless it came to nothing: a question without any answer would dangle."""
        self.last = reply
        if not (reply.finished or reply.text or reply.thinking or reply.tool_calls):
            return
        answer = plain(reply.message)
        assert isinstance(answer, dict)
        if reply.interrupted:
            assert reply.outcome is not None
            answer["interrupted"] = reply.outcome.value
        self.messages += [question, answer]

    @property
    def interrupted(self) -> bool:
        """True if the last answer of the history ended early."""
        return bool(self.messages) and "interrupted" in self.messages[-1]

    def clear(self) -> None:
        """Forgets everything but the system prompt."""
        self.messages = [message for message in self.messages[:1] if message["role"] == "system"]
        self.last = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the conversation to a JSON file, whole or not at all."""
        target = Path(path)
        data = msgspec.json.encode({"tailrace": FORMAT, "model": self.model, "messages": self.messages})
        text = msgspec.json.format(data, indent=2)
        handle, temporary = tempfile.mkstemp(dir=target.parent or ".", prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text + b"\n")
            os.replace(temporary, target)  # noqa: PTH105
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _restore(self, path: str | os.PathLike[str]) -> None:
        try:
            data = msgspec.json.decode(Path(path).read_bytes())
            messages = data["messages"]
            good = isinstance(messages, list) and all(
                isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
            )
            model = data.get("model", self.model)
            if data.get("tailrace") != FORMAT or not isinstance(model, str) or not good:
                raise ValueError("not a conversation saved by tailrace")
        except (msgspec.MsgspecError, RecursionError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise RequestError(f"{path} is not a saved conversation: {error}") from error
        self.model = model
        self.messages = [dict(message) for message in messages]


class StreamingChat(_Conversation):
    """A conversation that prints its answers as they come.

    Args:
        model: the model that answers.
        system: a system prompt.
        client: the client to use; the module's own by default.
        options: model options for each turn.
        think: let a thinking model think.
        format: ``"json"`` or a JSON Schema for each answer.
        print: takes each piece that is printed; by default it goes to stdout.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, system: str | None = None, *, client: Client | None = None, **rest: Any
    ) -> None:
        super().__init__(model, system, **rest)
        self._client = client
        self._stream: ChatStream | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **rest: Any) -> StreamingChat:
        """Returns the conversation that `save` wrote.

        Raises:
            RequestError: the file holds none.
            OSError: it cannot be read.
        """
        chat = cls(**rest)
        chat._restore(path)
        return chat

    def send(
        self,
        content: str,
        *,
        images: Sequence[Any] | None = None,
        callback: Callable[[str], object] | None = None,
    ) -> str:
        """Sends a message, prints the answer as it comes, and returns it.

        After `cancel` it returns what had come. Ctrl-C stops the model and raises KeyboardInterrupt; what had come is
        in the history, marked as interrupted.

        Args:
            content: the message.
            images: images for a multimodal model.
            callback: takes each piece instead of its being printed.

        Raises:
            TailraceError: the answer broke off; what had come is in the history, marked, and on the error.
        """
        question = _question(content, images)
        client = self._client or default_client()
        stream = self._stream = client.chat(
            self.model,
            self._sent(question),
            stream=True,
            think=self.think,
            options=self.options,
            format=self.format,
        )
        out = callback or self._print
        if callback is None:
            out(say("helper.assistant"))
        try:
            for text in stream.text_stream:
                out(text)
        except BaseException as error:
            stream.stop_for(error)
            raise
        finally:
            self._stream = None
            self._keep(question, stream.reply)
            if callback is None:
                out("\n")
        return stream.reply.text

    def cancel(self) -> None:
        """Stops the answer under way, from any thread; `send` then returns what had come. Nothing to stop is fine."""
        stream = self._stream
        if stream is not None:
            stream.cancel()


class AsyncStreamingChat(_Conversation):
    """`StreamingChat` for asyncio.

    Args:
        model: the model that answers.
        system: a system prompt.
        client: the client to use; one of its own by default.
        options: model options for each turn.
        think: let a thinking model think.
        format: ``"json"`` or a JSON Schema for each answer.
        print: takes each piece that is printed; by default it goes to stdout.
    """

    def __init__(
        self, model: str = DEFAULT_MODEL, system: str | None = None, *, client: AsyncClient | None = None, **rest: Any
    ) -> None:
        super().__init__(model, system, **rest)
        self._client = client or AsyncClient()
        self._stream: AsyncChatStream | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str], **rest: Any) -> AsyncStreamingChat:
        """Returns the conversation that `save` wrote.

        Raises:
            RequestError: the file holds none.
            OSError: it cannot be read.
        """
        chat = cls(**rest)
        chat._restore(path)
        return chat

    async def send(
        self,
        content: str,
        *,
        images: Sequence[Any] | None = None,
        callback: Callable[[str], object] | None = None,
    ) -> str:
        """Sends a message, prints the answer as it comes, and returns it; see `StreamingChat.send`."""
        question = _question(content, images)
        stream = self._stream = await self._client.chat(
            self.model,
            self._sent(question),
            stream=True,
            think=self.think,
            options=self.options,
            format=self.format,
        )
        out = callback or self._print
        if callback is None:
            out(say("helper.assistant"))
        try:
            async for text in stream.text_stream:
                out(text)
        except BaseException as error:
            stream.stop_for(error)
            raise
        finally:
            self._stream = None
            self._keep(question, stream.reply)
            if callback is None:
                out("\n")
        return stream.reply.text

    def cancel(self) -> None:
        """Stops the answer under way; `send` then returns what had come. Safe from any thread."""
        stream = self._stream
        if stream is not None:
            stream.cancel()


def _question(content: str, images: Sequence[Any] | None) -> dict[str, Any]:
    question: dict[str, Any] = {"role": "user", "content": content}
    if images:
        question["images"] = list(images)
    return question


def _to_stdout(text: str) -> None:
    print(text, end="", flush=True)
