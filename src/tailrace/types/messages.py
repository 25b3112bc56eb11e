"""Messages and the tool calls in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from tailrace.errors import RequestError
from tailrace.types.content import ContentError, arguments_of, flattened
from tailrace.types.images import Image
from tailrace.types.record import Record

__all__ = ["Message", "MessageToolCall", "ToolCallFunction"]


class ToolCallFunction(Record):
    """The function a tool call names, with its arguments."""

    name: str
    arguments: Mapping[str, Any] = {}
    index: int | None = None

    def _prepare(self) -> None:
        """Parses arguments that are the JSON text of an object; called when a record is made."""
        try:
            self.arguments = arguments_of(self.arguments, "Message.ToolCall.Function")
        except ContentError as error:
            raise RequestError(str(error)) from None


class MessageToolCall(Record):
    """A tool call in a message. `id` pairs it with the tool's answer (`Message.tool_call_id`)."""

    function: ToolCallFunction
    id: str | None = None

    Function: ClassVar = ToolCallFunction


class Message(Record, gc=False):
    """A message of a conversation."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: Sequence[Any] | None = None
    tool_name: str | None = None
    tool_calls: Sequence[MessageToolCall] | None = None
    tool_call_id: str | None = None

    ToolCall: ClassVar = MessageToolCall

    def _prepare(self) -> None:
        """Brings content in parts, and images of any kind, to the fields' form; called when a message is made."""
        content: Any = self.content
        if content is not None and not isinstance(content, str):
            try:
                made = flattened({name: getattr(self, name) for name in self.keys()}, "Message", lambda image, _: image)
            except ContentError as error:
                raise RequestError(str(error)) from None
            self.content, self.images, self.thinking = (made.get(name) for name in ("content", "images", "thinking"))
        if self.images is not None:
            given: Any = self.images
            single = isinstance(given, (str, bytes, bytearray, Image)) or not isinstance(given, Iterable)
            self.images = [each if isinstance(each, Image) else Image(each) for each in ([given] if single else given)]
