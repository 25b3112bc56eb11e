"""What is fuzzed: each target takes an input, and raises if something does not hold that has to.

Nothing may raise anything but our own errors, and what comes in pieces is what comes whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from fuzz.holding import Decoder, cut, every_way, hold
from tailrace.backends.embedded.engine import Facts
from tailrace.backends.embedded.requests import chat_payload, generate_payload, raw_payload
from tailrace.backends.embedded.requests import options as engine_options
from tailrace.errors import RequestError
from tailrace.events import Event, TextDelta
from tailrace.gateway.access import limits
from tailrace.gateway.conversations.service import Turn
from tailrace.gateway.endpoints.conversations import Change
from tailrace.gateway.endpoints.ollama import _message as ollama_message
from tailrace.gateway.endpoints.ollama import _options as ollama_options
from tailrace.gateway.endpoints.render import Texts
from tailrace.protocols import sse
from tailrace.protocols.aisdk.encode import UIWire
from tailrace.protocols.aisdk.requests import run_request_of
from tailrace.protocols.lines import LineSplitter
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.encode import Lines, OllamaWire
from tailrace.protocols.ollama.progress import ProgressDecoder
from tailrace.protocols.ollama.requests import OllamaAPIError
from tailrace.protocols.openai import requests as openai_requests
from tailrace.protocols.openai.decode import ChunkDecoder
from tailrace.protocols.openai.encode import Answer, ChatWire
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.encode import RunsWire
from tailrace.protocols.runs.requests import RunRequest, parse, parse_json
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.protocols.tutorial.encode import PlainWire
from tailrace.run.metrics import Metrics
from tailrace.transport.http_server import NEED_DATA, BadRequestError, RequestParser
from tailrace.types import ChatRequest, GenerateRequest
from tailrace.web.requests import request_of
from tailrace.web.source import Wire

__all__ = ["TARGETS"]

_DEEP = 60  # values within values
_SHORT = 100  # bytes that a line may have in every eighth input


def _longest(data: bytes) -> int:
    """How long a line may be: mostly as long as ever, sometimes so short that an input reaches it."""
    return 16 * 1024 * 1024 if zlib.crc32(data) & 7 else _SHORT


# -- answers -----------------------------------------------------------------------------------------------------------


def ollama(data: bytes) -> None:
    """The lines of an answer on Ollama's wire."""
    longest, chance = _longest(data), zlib.crc32(data)
    every_way(lambda: AnswerDecoder(longest, whole=bool(chance & 8), reports=bool(chance & 16)), data)


def progress(data: bytes) -> None:
    """The lines of a pull."""
    longest = _longest(data)
    every_way(lambda: ProgressDecoder(longest, whole=bool(zlib.crc32(data) & 8)), data)


def openai(data: bytes) -> None:
    """The events of an answer on OpenAI's wire, or a whole one."""
    longest = _longest(data)
    every_way(lambda: ChunkDecoder(longest), data)


def events(data: bytes) -> None:
    """Server-sent events: those that come out, written and read again, are the same."""
    longest = _longest(data)
    whole, pieces = SSEDecoder(longest), SSEDecoder(longest)
    found = whole.feed(data) + whole.eof()
    again = [event for piece in cut(data) for event in pieces.feed(piece)] + pieces.eof()
    hold(found == again, "cut another way", again, found)
    told = (whole.last_event_id, whole.retry, whole.overflow)
    hold((pieces.last_event_id, pieces.retry, pieces.overflow) == told, "cut another way", told)
    for event in found:
        hold(not {"\n", "\r"} & set(event.type + event.id) and b"\r" not in event.data, "a line end inside", event)
        if "\0" in event.type:
            continue  # which the standard lets come in, and we never send
        written = sse.encode(event.data, id=event.id, event="" if event.type == "message" else event.type)
        hold(SSEDecoder().feed(written) == [event], "written and read again", event)


def lines(data: bytes) -> None:
    """Lines: cut on LF and on nothing else; in blocks or one by one."""
    longest = _longest(data)
    one, blocks = LineSplitter(longest), LineSplitter(longest)
    found = [line for piece in cut(data) for line in one.feed(piece)]
    block = b"".join(map(blocks.feed_block, cut(data)))
    hold(block == b"".join(line + b"\n" for line in found), "in blocks another way", block, found)
    hold((one.taken, one.overflow) == (blocks.taken, blocks.overflow) == (len(block), one.overflow), "miscounted")
    if not one.overflow:
        *expected, rest = data.split(b"\n")
        hold(found == expected and one.eof() == rest, "other lines", found, rest)


def told(data: bytes) -> None:
    """What an answer holds, whatever that is, is written on every wire, and read again where it has a decoder.

    What is nested nearly as deeply as can be read is not tried: to be written it may need more room than it had.
    """
    if data.count(b"[") + data.count(b"{") > _DEEP:
        return
    decoder: Any = ChunkDecoder() if data.lstrip().startswith((b"data:", b":", b"event:")) else AnswerDecoder()
    came: list[Event] = decoder.feed(data) + decoder.eof()
    text = "".join(event.text for event in came if type(event) is TextDelta)
    lines = Lines("m", chat=True, clock=lambda: 0)
    ollama_wire = OllamaWire(lines, "run_1", lambda usage: usage)
    chat_wire = ChatWire(Answer(run="run_1", created=0, model="m"), usage=True)
    for wire in (PlainWire("0123abcd", Metrics), RunsWire("0123abcd", Metrics), UIWire("run_1", "m", "msg-1")):
        reader = SSEDecoder()
        for number, event in enumerate(came):
            read = reader.feed(wire.encode([event], number))
            hold(all(_is_json(each) for each in read), "not JSON", read)
    both: list[tuple[Wire, Decoder]] = [(ollama_wire, AnswerDecoder()), (chat_wire, ChunkDecoder())]
    for of_others, again_read in both:
        back: list[Event] = []
        for number, event in enumerate(came):
            back += again_read.feed(of_others.encode([event], number))
        back += again_read.eof()
        again = "".join(event.text for event in back if type(event) is TextDelta)
        hold(again.startswith(text), "told as another text", again, text)


def _is_json(event: ServerSentEvent) -> bool:
    try:
        return event.data == b"[DONE]" or msgspec.json.decode(event.data) is not None
    except ValueError:
        return False


# -- requests ----------------------------------------------------------------------------------------------------------

_LIMITS = limits.Limits()


def _refused(read: Callable[[], Any]) -> Any:
    """Reads a request; None if it is refused as it should be."""
    try:
        return read()
    except ProblemError as error:
        hold(400 <= error.status < 500 or error.status == 501, "not the client's fault", error.status)
    except RequestError:
        pass
    except OllamaAPIError as fault:
        hold(400 <= fault.status < 600, "no status", fault.status)
    return None


def _sent(asked: RunRequest | ChatRequest | GenerateRequest) -> None:
    """What the gateway does with what was asked: holds it to the limits, and makes a request of it."""
    try:
        limits.check(asked, _LIMITS)
        request = request_of(asked) if isinstance(asked, RunRequest) else asked
    except RecursionError as error:
        raise ProblemError(400, "the request is nested too deeply") from error
    hold(isinstance(request, (ChatRequest, GenerateRequest)), "no request", request)


def ask_ollama(data: bytes) -> None:
    """The bodies of Ollama's requests, for the gateway and for the embedded engine."""
    for kind in (ollama_requests.NamedBody, ollama_requests.CopyBody, ollama_requests.EmbedBody):
        _refused(partial(ollama_requests.decode, data, kind))
    _refused(lambda: _ollama_chat(data))
    _refused(lambda: _ollama_generate(data))


def _ollama_chat(data: bytes) -> None:
    body, given = ollama_requests.read(data, ollama_requests.ChatBody)
    options = ollama_options(body)
    messages = [ollama_message(message) for message in given.get("messages") or ()]
    _sent(ChatRequest(model=body.model, messages=messages, tools=body.tools, options=options, format=body.format))
    facts = Facts(4096, tools=True, thinking=True, vision=True)
    chat_payload(body, engine_options(body.options, {}), facts, "s")


def _ollama_generate(data: bytes) -> None:
    body = ollama_requests.decode(data, ollama_requests.GenerateBody)
    options = ollama_options(body)
    images = ollama_requests.base64_of(body.images or [])
    _sent(GenerateRequest(model=body.model, prompt=body.prompt, images=images, options=options, format=body.format))
    chosen, facts = engine_options(body.options, {}), Facts(4096, thinking=True, vision=True)
    if body.raw:
        raw_payload(body, chosen, facts)
    else:
        generate_payload(body, chosen, facts, None)


def ask_openai(data: bytes) -> None:
    """The bodies of OpenAI's requests."""
    for openai in (False, True):
        _refused(partial(_openai_chat, data, openai))
        _refused(partial(_openai_completion, data, openai))
        _refused(partial(_openai_embeddings, data, openai))


def _openai_chat(data: bytes, openai: bool) -> None:
    _sent(openai_requests.run_request_of_chat(*openai_requests.read(data, openai_requests.ChatBody), openai=openai))


def _openai_completion(data: bytes, openai: bool) -> None:
    read = openai_requests.read(data, openai_requests.CompletionBody)
    _sent(openai_requests.run_request_of_completion(*read, openai=openai))


def _openai_embeddings(data: bytes, openai: bool) -> None:
    openai_requests.embeddings_of(*openai_requests.read(data, openai_requests.EmbeddingsBody), openai=openai)


def ask_ai(data: bytes) -> None:
    """The bodies of the AI SDK's requests."""
    _refused(lambda: _ai(data))


def _ai(data: bytes) -> None:
    body, asked = run_request_of(data)
    hold(isinstance(body.goes_on, str), "no id", body.goes_on)
    _sent(asked)


def ask_runs(data: bytes) -> None:
    """The bodies of the gateway's own routes."""
    _refused(lambda: _sent(parse(data, {"message": "", "model": "m"})))
    for kind in (Turn, Change, Texts):
        _refused(partial(parse_json, data, kind))


def http(data: bytes) -> None:
    """Requests to a server of our own: read, refused, or cut short, the same in pieces as whole."""
    longest = _longest(data)
    whole, pieces = _requests([data], longest), _requests(cut(data), longest)
    hold(whole == pieces, "cut another way", pieces, whole)


def _requests(pieces: list[bytes], longest: int) -> list[Any]:
    """Returns the requests that come, and what is wrong with the last."""
    parser = RequestParser(max_head=longest, max_body=longest)
    found: list[Any] = []
    try:
        for piece in pieces:
            parser.receive_data(piece)
            while (event := parser.next_event()) is not NEED_DATA:
                found.append(event)
    except BadRequestError as refused:
        hold(400 <= refused.status < 600, "no status", refused.status)
        found.append((refused.status, str(refused)))
    return found


TARGETS: dict[str, Callable[[bytes], None]] = {
    "ollama": ollama,
    "progress": progress,
    "openai": openai,
    "events": events,
    "lines": lines,
    "told": told,
    "ask_ollama": ask_ollama,
    "ask_openai": ask_openai,
    "ask_ai": ask_ai,
    "ask_runs": ask_runs,
    "http": http,
}
"""By name, in the order in which they are run."""
