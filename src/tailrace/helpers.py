"""The tutorial's helpers, with its names and behaviour: `stream_chat`, `stream_with_progress`, `CancellableStream`.

Internal as a module: its names are the package's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tailrace.client.default import default_client
from tailrace.client.streams import ChatStream
from tailrace.client.sync import Client
from tailrace.events import Outcome
from tailrace.i18n import say
from tailrace.i18n.output import put
from tailrace.run.reply import Reply

__all__ = ["CancellableStream", "stream_chat", "stream_with_progress"]

_MODEL = "llama3.2"  # the tutorial's
_RULE = "-" * 40


def stream_chat(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    callback: Callable[[str], object] | None = None,
    *,
    client: Client | None = None,
    **rest: Any,
) -> str:
    """Has the model answer, hands each piece to `callback` as it comes, and returns the whole answer.

    Args:
        model: the model's name.
        messages: the conversation.
        callback: takes each piece. What it raises stops the model and comes out here, with the partial reply on the
            exception as ``reply``.
        client: the client to use; the module's own by default.
        rest: what `Client.chat` takes besides.

    Raises:
        TailraceError: as for `Client.chat`.
    """
    stream: ChatStream = (client or default_client()).chat(model, messages, stream=True, **rest)
    _pump(stream, callback)
    return stream.reply.text


def _pump(stream: ChatStream, callback: Callable[[str], object] | None) -> None:
    try:
        for text in stream.text_stream:
            if callback is not None:
                callback(text)
    except BaseException as error:
        stream.stop_for(error)
        raise


def stream_with_progress(prompt: str, model: str = _MODEL, *, client: Client | None = None, **rest: Any) -> Reply:
    """Prints the model's name, the answer as it comes, and how many characters it had.

    Returns:
        The reply, with outcome and metrics; the tutorial's own returns nothing.

    Raises:
        TailraceError: as for `Client.chat`.
    """
    put(f"{say('helper.model', model=model)}\n{_RULE}\n")
    messages = [{"role": "user", "content": prompt}]
    stream: ChatStream = (client or default_client()).chat(model, messages, stream=True, **rest)
    try:
        _pump(stream, put)
    finally:
        put(f"\n{_RULE}\n{say('helper.characters', count=len(stream.reply.text))}\n")
    return stream.reply


class CancellableStream:
    """A stream that another thread can cancel, in every phase: also before the first token.

    Attributes:
        cancelled: True once `cancel` was called.
        reply: the reply of the last `stream`, also of a cancelled one; None before.
    """

    def __init__(self, *, client: Client | None = None) -> None:
        self.cancelled = False
        self.reply: Reply | None = None
        self._client = client
        self._stream: ChatStream | None = None

    def cancel(self) -> None:
        """Stops the model; idempotent, from any thread. Before `stream` is called, that one then sends nothing."""
        self.cancelled = True
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def stream(self, model: str, messages: Sequence[Mapping[str, Any]], **rest: Any) -> str:
        """Prints the answer as it comes, and returns it, or what had come of it.

        Raises:
            TailraceError: as for `Client.chat`.
        """
        stream = self._stream = (self._client or default_client()).chat(model, messages, stream=True, **rest)
        if self.cancelled:  # before the stream was there to be cancelled
            stream.cancel()
        try:
            _pump(stream, put)
        finally:
            self.reply = stream.reply
            self._stream = None
        if self.reply.outcome is Outcome.CANCELLED:
            put(f"\n{say('helper.cancelled')}\n")
        return self.reply.text
