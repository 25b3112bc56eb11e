"""Continuing an answer that did not finish: what of it a server can be given, and what it is asked where it cannot.

A request to continue is a chat whose last message is the beginning of the answer. Each backend knows how its servers
go on from there; this module holds what they share, and how a server is asked that can only be asked in words.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from tailrace.backends.seam import Given
from tailrace.protocols.ollama.template import TemplateError, render
from tailrace.types import ChatRequest, ContinueRequest, GenerateRequest, ShowResponse

__all__ = [
    "OllamaWay",
    "asked_again",
    "given_of",
    "in_words",
    "language_of",
    "ollama_way",
    "probe",
    "rendered_way",
    "without_format",
]

_QUOTED = 60  # characters of the end that a server is reminded of

_WORDS = {
    "en": (
        "Your last message was cut off. Go on from exactly where it stopped, in the middle of a sentence or word if "
        "that is where it stopped. Repeat nothing of it, do not begin again, and write no introduction. "
        "It ended with: {end}"
    ),
    "zh": (
        "你的上一条回答没有写完就中断了。请从中断的地方接着往下写，即使是在一句话或一个词的中间。"
        "不要重复已经写过的内容，不要重新开始，也不要写任何开场白。它的结尾是：{end}"
    ),
    "ja": (
        "あなたの直前の回答は途中で切れました。文や単語の途中であっても、切れたところからそのまま続けて書いてください。"
        "すでに書いた内容を繰り返さず、最初からやり直さず、前置きも書かないでください。末尾は次のとおりです：{end}"
    ),
    "ko": (
        "마지막 답변이 중간에 끊겼습니다. 문장이나 단어의 중간이라도 끊긴 바로 그 자리에서 이어서 써 주세요. "
        "이미 쓴 내용을 반복하거나 처음부터 다시 시작하지 말고, 서두도 쓰지 마세요. 끝부분은 다음과 같습니다: {end}"
    ),
}
_THOUGHTS = {
    "en": "You began to think about this and were cut off. Your thoughts so far, from whose end you go on:\n\n{end}",
    "zh": "你已经开始思考这个问题，但思考被中断了。以下是你目前的思考，请从结尾处接着想下去：\n\n{end}",
    "ja": "この問いについての思考が途中で切れました。ここまでの思考の末尾から続けてください：\n\n{end}",
    "ko": "이 질문에 대해 생각하기 시작했지만 중간에 끊겼습니다. 지금까지의 생각의 끝에서부터 이어 가세요:\n\n{end}",
}


def given_of(request: ChatRequest) -> Given:
    """Returns the beginning of the answer that a request is to continue: its last message."""
    message = (request.messages or [{}])[-1]
    return Given(message.get("content") or "", message.get("thinking") or "")


def asked_again(request: ChatRequest) -> ChatRequest:
    """Returns the request for an answer of which nothing has come: the question once more."""
    return _chat(request, (request.messages or [])[:-1])


def without_format(request: ChatRequest, given: Given) -> ChatRequest:
    """Returns the request without a format that would be applied anew, in the middle of what it formed.

    Thoughts have no format: if they are all there is, it stands.
    """
    return msgspec.structs.replace(request, format=None) if given.text and request.format else request


def _chat(request: ChatRequest, messages: list[dict[str, Any]]) -> ChatRequest:
    names = (name for name in ChatRequest.__struct_fields__ if name != "messages")
    return ChatRequest(messages=messages, **{name: getattr(request, name) for name in names})


# -- in words ----------------------------------------------------------------------------------------------------------


def in_words(request: ChatRequest) -> ChatRequest:
    """Returns the request for a server that cannot be given the beginning of an answer: it is asked to go on."""
    given = given_of(request)
    before = list((request.messages or [])[:-1])
    question = next((str(each.get("content") or "") for each in reversed(before) if each.get("role") == "user"), "")
    language = language_of(given.text or given.thinking, question)
    if not given.text:
        words = _THOUGHTS[language].format(end=given.thinking)
        if before and before[-1].get("role") == "user":  # many templates refuse two messages of one role in a row
            before[-1] = {**before[-1], "content": f"{before[-1].get('content') or ''}\n\n{words}"}
        else:
            before.append({"role": "user", "content": words})
        return _chat(request, before)
    words = _WORDS[language].format(end=given.text[-_QUOTED:].lstrip())
    said = {"role": "assistant", "content": given.text}
    return _chat(without_format(request, given), [*before, said, {"role": "user", "content": words}])


_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)


def language_of(*texts: str) -> str:
    """Returns the language of a conversation by its letters: ``zh``, ``ja``, ``ko`` or ``en``. Code does not count.

    Args:
        texts: the first with some letters of any language decides.
    """
    for text in texts:
        bare = _CODE.sub(" ", text)
        kana = len(re.findall(r"[\u3040-\u30ff]", bare))
        hangul = len(re.findall(r"[\uac00-\ud7af]", bare))
        han = len(re.findall(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]", bare))
        # A word of a language with spaces is some five letters long, one of Chinese two.
        words = len(re.findall(r"[^\W\d_]+", re.sub(r"[\u3040-\ud7af\uf900-\ufaff]", " ", bare)))
        if hangul > max(kana, words):
            return "ko"
        if kana and (kana + han) / 2 > words:
            return "ja"
        if han / 2 >= words and han:
            return "zh"
        if words:
            return "en"
    return "en"


# -- Ollama ------------------------------------------------------------------------------------------------------------


class OllamaWay(NamedTuple):
    """How an Ollama is asked to continue.

    Attributes:
        request: what it is asked.
        words: it is asked in words.
        close: what ends the thoughts that the prompt stops in, if it is a prompt.
    """

    request: ChatRequest | GenerateRequest
    words: bool = False
    close: str = ""


_TEXT, _THINKING = "tailrace:text", "tailrace:thoughts"  # stand for the given parts while a prompt is made


def ollama_way(request: ContinueRequest, shown: ShowResponse, date: str) -> OllamaWay | None:
    """Returns how an Ollama continues: by a message, where the template leaves it open; by a prompt; or in words.

    None if its prompts are made in code (`model/renderers` of ollama/ollama), some of which leave the last answer open:
    then `probe` asks what they make of it, for `rendered_way`.

    Args:
        request: what is asked of us.
        shown: what `/api/show` says of the model.
        date: today's, for templates that print it.
    """
    given = given_of(request)
    asked = without_format(request, given)
    family = (shown.details.family if shown.details is not None else None) or ""
    if family in (
        "gptoss",
        "gpt-oss",
    ):  # `harmony/harmonyparser.go` goes on with a last message
        return OllamaWay(asked)
    if re.search(r"^RENDERER ", shown.modelfile or "", re.MULTILINE):
        return None
    try:
        prompt, close = _prompt(asked, given, shown, date)
    except TemplateError:
        return OllamaWay(in_words(request), words=True)
    return OllamaWay(asked) if prompt is None else _raw(request, asked, prompt, close)


def probe(request: ContinueRequest) -> dict[str, Any]:
    """Returns the body of `/api/chat` that has it show the prompt, and not call the model (``DebugRenderOnly``)."""
    given = given_of(request)
    last = {"role": "assistant", "content": _TEXT, **({"thinking": _THINKING} if given.thinking else {})}
    body: dict[str, Any] = {"model": request.model, "messages": [*(request.messages or [])[:-1], last], "stream": False}
    settings = {"tools": request.tools, "think": request.think, "keep_alive": request.keep_alive}
    body |= {name: value for name, value in settings.items() if value is not None}
    # One that does not know it makes a word.
    return body | {"options": {**(request.options or {}), "num_predict": 1}, "_debug_render_only": True}


def rendered_way(request: ContinueRequest, prompt: str) -> OllamaWay:
    """Returns how an Ollama continues that makes this prompt of `probe`; empty if it did not say."""
    given = given_of(request)
    asked = without_format(request, given)
    start, found, rest = prompt.rpartition(_TEXT if given.text else _THINKING)
    if not found:
        return OllamaWay(in_words(request), words=True)
    if given.text:
        start = start.replace(_THINKING, given.thinking)
        return OllamaWay(asked) if not rest else _raw(request, asked, start + given.text, "")
    return _raw(request, asked, start + given.thinking, rest.partition(_TEXT)[0].strip() or "</think>")


def _raw(request: ContinueRequest, asked: ChatRequest, prompt: str, close: str) -> OllamaWay:
    """Returns the way by a prompt; in words if tools are offered, for nobody looks for calls in its answer."""
    if request.tools:
        return OllamaWay(in_words(request), words=True)
    images = [image for message in request.messages or () for image in message.get("images") or ()]
    raw = GenerateRequest(
        model=request.model,
        prompt=prompt,
        raw=True,
        stream=request.stream,
        think=False,  # else it would look for thoughts at the start, and take what we go on with for text
        images=images or None,
        format=None if close else asked.format,
        options=request.options,
        keep_alive=request.keep_alive,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        truncate=request.truncate,
        shift=request.shift,
        extra_body=request.extra_body,
    )
    return OllamaWay(raw, close=close)


def _prompt(request: ChatRequest, given: Given, shown: ShowResponse, date: str) -> tuple[str | None, str]:
    """Returns the prompt that ends with what was given, None if a message does that; and what ends the thoughts in it.

    Raises:
        TemplateError: the template cannot be rendered, or does not show what was given.
    """
    before = _tagged((request.messages or [])[:-1])
    if shown.system and not (before and before[0].get("role") == "system"):
        before.insert(0, {"role": "system", "content": shown.system})
    able = "thinking" in (shown.capabilities or ())
    think = request.think if request.think is not None else (True if able else None)

    def rendered(*last: dict[str, str]) -> str:
        return render(shown.template or "", [*before, *last], tools=request.tools or (), think=think, date=date)

    if given.text:
        thoughts = {"thinking": _THINKING} if given.thinking else {}
        whole = rendered({"role": "assistant", "content": _TEXT, **thoughts})
        start, found, rest = whole.rpartition(_TEXT)
        if not found:
            raise TemplateError("the template does not show the last answer")
        return (start.replace(_THINKING, given.thinking) + given.text if rest else None), ""
    if rendered({"role": "assistant", "content": "", "thinking": _THINKING}).endswith(_THINKING):
        return None, ""
    whole = rendered({"role": "assistant", "content": _TEXT, "thinking": _THINKING})
    start, found, rest = whole.rpartition(_THINKING)
    if found:
        return start + given.thinking, rest.partition(_TEXT)[0].strip() or "</think>"
    if not able:
        raise TemplateError("the template knows no thoughts")
    start = rendered()
    return start + ("" if start.rstrip().endswith("<think>") else "<think>\n") + given.thinking, "</think>"


def _tagged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns messages with the tags that stand for images in a prompt (``chatPrompt`` in `server/prompt.go`)."""
    tagged = []
    number = 0
    for message in messages:
        images = message.get("images") or ()
        tags = "".join(f"[img-{number + place}]" for place in range(len(images)))
        number += len(images)
        tagged.append({**message, "content": tags + (message.get("content") or "")} if tags else message)
    return tagged
