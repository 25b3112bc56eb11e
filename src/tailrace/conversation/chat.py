"""Conversations: `StreamingChat` and its asynchronous twin, and the history they keep.

The tutorial's class, with what it lacks: an interrupted answer stays in the history and is marked; a turn that failed
before the model said anything leaves no dangling question; the history can be saved and loaded.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from tailrace.client.aio import AsyncClient
from tailrace.client.default import default_client
from tailrace.client.requests import images_of
from tailrace.client.streams import AsyncChatStream, ChatStream
from tailrace.client.sync import Client
from tailrace.conversation.export import FORMAT
from tailrace.conversation.toolbox import Stop, Toolbox
from tailrace.errors import RequestError, ToolError
from tailrace.events import Outcome, ToolCall
from tailrace.i18n import say
from tailrace.i18n.output import put
from tailrace.run.reply import Reply
from tailrace.types import Options, plain

__all__ = ["AsyncStreamingChat", "StreamingChat"]

DEFAULT_MODEL = "llama3.2"  # the tutorial's


class _Conversation:
    """The history, and the turns that go into it.

    Attributes:
        model: the model that answers.
        messages: the history, as dicts in Ollama's form. An answer that did not finish, also by the limit of tokens,
            has ``"interrupted": <outcome>`` beside its content; that mark is ours and is not sent.
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
        tools: Toolbox | Sequence[Callable[..., Any]] = (),
        max_rounds: int = 8,
    ) -> None:
        self.model = model
        self.messages: list[dict[str, Any]] = []
        if system:
            self.messages.append({"role": "system", "content": system})
        self.options = options
        self.think = think
        self.format = format
        self.last: Reply | None = None
        self.tools = tools if isinstance(tools, Toolbox) else Toolbox(tools)
        self.max_rounds = max_rounds
        self._print = print if print is not None else _to_stdout
        self._stop = Stop()
        self._said: Reply | None = None  # the last words of the turn under way, whole or not

    def _asked(self, turn: _Turn) -> dict[str, Any]:
        """What is asked of the model: the history without our marks, what there is of this turn, and the settings."""
        history = [*self.messages, *turn.messages]
        return {
            "model": self.model,
            "messages": [{name: value for name, value in m.items() if name != "interrupted"} for m in history],
            "think": self.think,
            "options": self.options,
            "format": self.format,
            "tools": self.tools.schemas or None,
        }

    def _calls(self, turn: _Turn, reply: Reply, round: int) -> list[ToolCall]:
        """Returns the calls that are to be made before the model goes on; none: the turn is over.

        Raises:
            ToolError: the model has been let call tools often enough.
        """
        if not (self.tools and reply.finished and reply.tool_calls) or self._stop.event.is_set():
            return []
        if round >= self.max_rounds:
            raise ToolError(f"the model still calls tools after {round} rounds, which are max_rounds")
        turn.called(reply)
        return reply.tool_calls

    def _keep(self, turn: _Turn) -> None:
        """The turn joins the history, unless it came to nothing: a question without any answer would dangle."""
        reply, self._said = self._said, None
        turn.close(reply)
        self.last = reply
        if len(turn.messages) > 1 or turn.resumed:
            self.messages += turn.messages

    def _resumed(self) -> _Turn:
        """Takes the last turn's answer out of the history again, for it to go on.

        Raises:
            RequestError: it is complete, or there is none.
        """
        if not self.interrupted:
            raise RequestError("the last answer is complete, or there is none: there is nothing to continue")
        at = max(place for place, message in enumerate(self.messages) if message["role"] == "assistant")
        turn = _Turn(*self.messages[at:], resumed=True)
        del self.messages[at:]
        return turn

    @property
    def interrupted(self) -> bool:
        """True if the last answer of the history did not finish: `continue_` goes on with it."""
        said = [message for message in self.messages if message["role"] in ("assistant", "user")]
        return bool(said) and "interrupted" in said[-1]

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


class _Turn:
    """One question and all that came of it: answers, calls of tools and their results.

    Args:
        messages: the question; or the answer that goes on, with the results of its calls.
        resumed: it is the latter.

    Attributes:
        messages: as they join the history.
        goes_on: the next words belong to the last message.
    """

    def __init__(self, *messages: dict[str, Any], resumed: bool = False) -> None:
        self.messages = [dict(message) for message in messages]
        self.resumed = resumed
        self.goes_on = resumed and len(messages) == 1
        if resumed and not self.goes_on:
            self.messages[0].pop("interrupted", None)  # the words that follow the tools may complete it
        self._open: list[ToolCall] = []  # calls without a result
        self._kept: Reply | None = None  # the reply that is among the messages already

    def called(self, reply: Reply) -> None:
        """The model has called tools."""
        self._add(reply)
        self._open = list(reply.tool_calls)

    def result(self, call: ToolCall, text: str) -> None:
        """A call has its result."""
        self._open.remove(call)
        message = {"role": "tool", "content": text, "tool_name": call.name, "tool_call_id": call.id}
        self.messages.append({name: value for name, value in message.items() if value is not None})

    def close(self, reply: Reply | None) -> None:
        """Ends the turn: a call without a result gets one that says so, for many a server takes no other history."""
        stopped = bool(self._open)
        for call in list(self._open):
            self.result(call, "stopped before it had a result")
        if reply is not None and reply is not self._kept:
            if reply.finished or reply.text or reply.thinking or reply.tool_calls:
                self._add(reply)
            elif len(self.messages) > 1:
                stopped = True
        if stopped:
            last = next(message for message in reversed(self.messages) if message["role"] == "assistant")
            outcome = reply.outcome if reply is not None and reply.interrupted else None
            last.setdefault("interrupted", (outcome or Outcome.CANCELLED).value)

    def _add(self, reply: Reply) -> None:
        answer = plain(reply.message)
        assert isinstance(answer, dict)
        if self.goes_on:
            before = self.messages.pop()
            for name in ("content", "thinking"):
                if joined := (before.get(name) or "") + (answer.get(name) or ""):
                    answer[name] = joined
            self.goes_on = False
        if reply.outcome is not None and reply.outcome is not Outcome.COMPLETE:
            answer["interrupted"] = reply.outcome.value
        self.messages.append(answer)
        self._kept = reply


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
        tools: functions that the model may call, or a `Toolbox`. What they give goes back to the model, until it
            answers without a call.
        max_rounds: how often it may call tools in one turn.
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
        images: Any = None,
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
        return self._take(_Turn(_question(content, images)), callback)

    def continue_(self, *, callback: Callable[[str], object] | None = None) -> str:
        """Goes on with the last answer, which did not finish, from its last character.

        Prints what is new as it comes, and returns it; in the history it joins the answer. Stopped by a limit of
        tokens, by `cancel`, by an error or a crash: all can be continued, also in a conversation that was loaded.

        Args:
            callback: takes each piece instead of its being printed.

        Raises:
            RequestError: the last answer is complete, or there is none.
            TailraceError: as for `send`.
        """
        return self._take(self._resumed(), callback)

    def _take(self, turn: _Turn, callback: Callable[[str], object] | None) -> str:
        """Lets the model have its turn, and the tools that it calls; returns its last words."""
        self._stop = Stop()
        out = callback or self._print
        if callback is None and not turn.resumed:
            out(say("helper.assistant"))
        try:
            for round in itertools.count():
                reply = self._answer(turn, out)
                calls = self._calls(turn, reply, round)
                if not calls or not self._call(turn, calls):
                    return reply.text
        finally:
            self._keep(turn)
            if callback is None:
                out("\n")
        raise AssertionError("a turn ends")

    def _answer(self, turn: _Turn, out: Callable[[str], object]) -> Reply:
        """Has the model say its next words, and hands them out as they come."""
        client = self._client or default_client()
        ask: Any = client.continue_chat if turn.goes_on else client.chat
        stream: ChatStream = ask(**self._asked(turn), stream=True)
        self._stream = stream
        if self._stop.event.is_set():
            stream.cancel()
        try:
            for text in stream.text_stream:
                out(text)
        except BaseException as error:
            stream.stop_for(error)
            raise
        finally:
            self._stream = None
            self._said = stream.reply
        return self._said

    def _call(self, turn: _Turn, calls: list[ToolCall]) -> bool:
        """Makes the calls; False if it was stopped meanwhile."""
        for call in list(calls):
            result = None if self._stop.event.is_set() else self.tools.run(call, self._stop)
            if result is None:
                return False
            turn.result(call, result)
        return True

    def cancel(self) -> None:
        """Stops the turn under way, from any thread; `send` then returns what had come. Nothing to stop is fine.

        A tool that runs is not waited for.
        """
        self._stop.set()
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
        tools: functions that the model may call, or a `Toolbox`. What they give goes back to the model, until it
            answers without a call.
        max_rounds: how often it may call tools in one turn.
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
        images: Any = None,
        callback: Callable[[str], object] | None = None,
    ) -> str:
        """Sends a message, prints the answer as it comes, and returns it; see `StreamingChat.send`."""
        return await self._take(_Turn(_question(content, images)), callback)

    async def continue_(self, *, callback: Callable[[str], object] | None = None) -> str:
        """Goes on with the last answer, which did not finish; see `StreamingChat.continue_`."""
        return await self._take(self._resumed(), callback)

    async def _take(self, turn: _Turn, callback: Callable[[str], object] | None) -> str:
        """Lets the model have its turn, and the tools that it calls; returns its last words."""
        self._stop = Stop()
        out = callback or self._print
        if callback is None and not turn.resumed:
            out(say("helper.assistant"))
        try:
            for round in itertools.count():
                reply = await self._answer(turn, out)
                calls = self._calls(turn, reply, round)
                if not calls or not await self._call(turn, calls):
                    return reply.text
        finally:
            self._keep(turn)
            if callback is None:
                out("\n")
        raise AssertionError("a turn ends")

    async def _answer(self, turn: _Turn, out: Callable[[str], object]) -> Reply:
        """Has the model say its next words, and hands them out as they come."""
        ask: Any = self._client.continue_chat if turn.goes_on else self._client.chat
        stream: AsyncChatStream = await ask(**self._asked(turn), stream=True)
        self._stream = stream
        if self._stop.event.is_set():
            stream.cancel()
        try:
            async for text in stream.text_stream:
                out(text)
        except BaseException as error:
            stream.stop_for(error)
            raise
        finally:
            self._stream = None
            self._said = stream.reply
        return self._said

    async def _call(self, turn: _Turn, calls: list[ToolCall]) -> bool:
        """Makes the calls; False if it was stopped meanwhile."""
        for call in list(calls):
            result = None if self._stop.event.is_set() else await self.tools.run_async(call, self._stop)
            if result is None:
                return False
            turn.result(call, result)
        return True

    def cancel(self) -> None:
        """Stops the turn under way; `send` then returns what had come. Safe from any thread."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()


def _question(content: str, images: Any) -> dict[str, Any]:
    """Returns the question as a message; images are read now, so that the history can be saved."""
    question: dict[str, Any] = {"role": "user", "content": content}
    if images is not None and (read := images_of(images)):
        question["images"] = read
    return question


def _to_stdout(text: str) -> None:
    put(text)
