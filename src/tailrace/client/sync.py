"""The synchronous client: a reader over runs whose owners live on the portal's loop."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from tailrace.client.base import BaseClient, Headers, create_body, now
from tailrace.client.chunks import chat_response, generate_response
from tailrace.client.portal import portal
from tailrace.client.requests import Format, KeepAlive, Messages, Tools, chat_request, generate_request
from tailrace.client.streams import ChatStream, GenerateStream, ProgressStream, given_continued
from tailrace.types import (
    ChatResponse,
    EmbeddingsResponse,
    EmbedResponse,
    GenerateResponse,
    ListResponse,
    Message,
    Options,
    ProcessResponse,
    ProgressResponse,
    ShowResponse,
    StatusResponse,
    SystemOneResponse,
    WebFetchResponse,
    WebSearchResponse,
)

__all__ = ["Client"]

Conversation = Sequence[Mapping[str, Any] | Message]


class Client(BaseClient):
    """A synchronous client. Safe to use from any thread, and across fork.

    Making one does nothing: no connection, no thread, no look around. The methods, their parameters and the shapes of
    their results are ollama-python's.

    Args:
        host: the upstream: ``http://host:port`` or any form of OLLAMA_HOST (Ollama), ``openai:http://…/v1``,
            ``embedded:`` or ``embedded:/path/model.gguf``. None takes TAILRACE_UPSTREAM, then OLLAMA_HOST; with
            neither, Ollama if it answers within 300 ms, else the embedded engine.
        follow_redirects: follow redirects that stay on the same host.
        timeout: `Timeouts`, seconds for each phase, or None for no limits at all; by default `Timeouts()`.
        headers: sent with each request to the upstream.
        api_key: sent as a bearer token; by default TAILRACE_API_KEY, then OLLAMA_API_KEY.
        verify: True to check TLS certificates against what this computer trusts, a path (a file, or a folder as OpenSSL
            keeps them) or an `ssl.SSLContext` to check against that, False to accept any.
        cert: a certificate to show to the server: a path, ``(certificate, key)`` or ``(certificate, key, password)``.
        auth: ``(name, password)``, or a callable that takes each request, sets its headers and returns it.
        cookies: sent with each request: a dict, pairs or a `http.cookiejar.CookieJar`.
        params: added to each URL's query: a dict, pairs or a text.
        proxy: the proxy for every request, ``http://name:password@host:port``, ``https://…`` or ``socks5://…``; by
            default what HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say, and none for this computer itself.
        trust_env: look at those variables, and at SSL_CERT_FILE and SSL_CERT_DIR.
        limits: how many connections there may be at once (a number, or an httpx.Limits); further calls wait.
        unsupported: what else httpx's clients take is refused, with what to use instead.

    Attributes:
        timeouts: the limits of its runs.
        observe: called for each run with its request, returns what watches the run; see `tailrace.telemetry`.

    Raises:
        RequestError: `host` has none of the forms, or an argument none of its own.
    """

    def close(self) -> None:
        """Closes the client: calls from now on are refused. Streams that have begun go on to their end."""
        self._closed = True

    def find_upstream(self) -> str:
        """Looks for the upstream now, rather than at the first call, and returns it; see `upstream`.

        Raises:
            TailraceError: what was named cannot be one.
        """
        portal().run(self._backend())
        return self.upstream

    def __enter__(self) -> Client:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @overload
    def chat(
        self,
        model: str = "",
        messages: Messages | None = None,
        *,
        tools: Tools | None = None,
        stream: Literal[False] = False,
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        format: Format = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> ChatResponse: ...
    @overload
    def chat(
        self,
        model: str = "",
        messages: Messages | None = None,
        *,
        tools: Tools | None = None,
        stream: Literal[True],
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        format: Format = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> ChatStream: ...
    @overload
    def chat(
        self,
        model: str = "",
        messages: Messages | None = None,
        *,
        tools: Tools | None = None,
        stream: bool = False,
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        format: Format = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> ChatResponse | ChatStream: ...
    def chat(
        self,
        model: str = "",
        messages: Messages | None = None,
        *,
        tools: Tools | None = None,
        stream: bool = False,
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        format: Format = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> ChatResponse | ChatStream:
        """Has the model answer a conversation.

        Args:
            model: the model's name.
            messages: the conversation: dicts or `Message`, one of them, or a text of the user's. Content may come in
                parts (``text``, ``image_url``, ``image``), images as `generate` takes them.
            tools: functions with annotations and a docstring, `Tool`, or dicts.
            stream: True returns a stream at once; nothing is sent before it is first read.
            think: let a thinking model think, or how hard.
            logprobs: ask for the probabilities of tokens.
            top_logprobs: how many alternatives to each token, 0 to 20.
            format: ``"json"``, or a JSON Schema that the answer is to follow: a dict, or a class that has one (of
                pydantic's, a dataclass, a typed dict).
            options: `Options` or a dict of Ollama's option names.
            keep_alive: how long the model stays loaded: seconds, ``"5m"``, or a `timedelta`.
            headers: sent with this request, beside the client's own.
            extra_body: members that are sent as they are beside those that this library knows, for what only one
                server has (`min_p`, `chat_template_kwargs`, `tool_choice`); they count where both say something.

        Raises:
            RequestError: something in the request has no form that could be sent; nothing was.
            ConnectionError: nothing answers.
            ResponseError: the server refused.
            StreamError: the answer broke off; the partial reply is on the error as ``reply``.
        """
        request = chat_request(
            model,
            messages,
            tools,
            stream,
            think=think,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            format=format,
            options=options,
            keep_alive=keep_alive,
            extra_body=extra_body,
        )
        answer = ChatStream(*self._chat_run(request, headers))
        if stream:
            return answer
        with answer:  # a caller who leaves stops the model, also while its exception is kept
            return chat_response(answer.wait(), now())

    @overload
    def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: Literal[False] = False,
        **settings: Any,
    ) -> ChatResponse: ...
    @overload
    def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: Literal[True],
        **settings: Any,
    ) -> ChatStream: ...
    @overload
    def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: bool = False,
        **settings: Any,
    ) -> ChatResponse | ChatStream: ...
    def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: bool = False,
        **settings: Any,
    ) -> ChatResponse | ChatStream:
        """Has the model go on with an answer that did not finish, from its last character; only what is new comes back.

        The beginning of the answer is given to the model as its own, where the server can be given it; one that cannot
        is asked in words, in the conversation's language. A ``format`` is applied to the whole answer by llama.cpp
        and the embedded engine; elsewhere it only formed the beginning.

        Args:
            model: the model's name; may be left out, also in front of the messages, for the upstream's default.
            messages: the conversation, with what there is of the answer as its last message (``reply.message``).
            stream: True returns a stream at once.
            settings: as for `chat`.

        Raises:
            RequestError: ``messages`` does not end with an answer that can be continued; nothing was sent.
            TailraceError: as for `chat`.
        """
        if not isinstance(model, str):
            messages = model if messages is None else messages
        if not model or not isinstance(model, str):
            model = self.default_model(headers=settings.get("headers"))
        chat: ChatStream = self.chat(model, messages, stream=True, **settings)
        answer = ChatStream(*given_continued(chat))
        if stream:
            return answer
        with answer:
            return chat_response(answer.wait(), now())

    @overload
    def generate(
        self,
        model: str = "",
        prompt: str | None = None,
        suffix: str | None = None,
        *,
        system: str | None = None,
        template: str | None = None,
        context: Sequence[int] | None = None,
        stream: Literal[False] = False,
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        raw: bool | None = None,
        format: Format = None,
        images: Any = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> GenerateResponse: ...
    @overload
    def generate(
        self,
        model: str = "",
        prompt: str | None = None,
        suffix: str | None = None,
        *,
        system: str | None = None,
        template: str | None = None,
        context: Sequence[int] | None = None,
        stream: Literal[True],
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        raw: bool | None = None,
        format: Format = None,
        images: Any = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> GenerateStream: ...
    @overload
    def generate(
        self,
        model: str = "",
        prompt: str | None = None,
        suffix: str | None = None,
        *,
        system: str | None = None,
        template: str | None = None,
        context: Sequence[int] | None = None,
        stream: bool = False,
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        raw: bool | None = None,
        format: Format = None,
        images: Any = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> GenerateResponse | GenerateStream: ...
    def generate(
        self,
        model: str = "",
        prompt: str | None = None,
        suffix: str | None = None,
        *,
        system: str | None = None,
        template: str | None = None,
        context: Sequence[int] | None = None,
        stream: bool = False,
        think: bool | str | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        raw: bool | None = None,
        format: Format = None,
        images: Any = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        headers: Headers = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> GenerateResponse | GenerateStream:
        """Has the model complete a prompt.

        Args:
            model: the model's name.
            prompt: the text to go on with.
            suffix: text after the gap, for models that fill in.
            system: overrides the model's own system prompt.
            template: overrides the model's own template.
            context: token ids of an earlier answer (deprecated by Ollama).
            stream: True returns a stream at once; nothing is sent before it is first read.
            think: let a thinking model think, or how hard.
            logprobs: ask for the probabilities of tokens.
            top_logprobs: how many alternatives to each token, 0 to 20.
            raw: send the prompt without any template.
            format: ``"json"``, or a JSON Schema that the answer is to follow: a dict, or a class that has one (of
                pydantic's, a dataclass, a typed dict).
            images: paths, bytes, base64 text, data URLs, open files, images of Pillow's or `Image`; or one of them.
            options: `Options` or a dict of Ollama's option names.
            keep_alive: how long the model stays loaded: seconds, ``"5m"``, or a `timedelta`.
            headers: sent with this request, beside the client's own.
            extra_body: members that are sent as they are beside those that this library knows, for what only one
                server has (`min_p`, `chat_template_kwargs`, `tool_choice`); they count where both say something.
            width: of a generated image, pixels.
            height: of a generated image, pixels.
            steps: of image generation.

        Raises:
            TailraceError: as for `chat`.
        """
        request = generate_request(
            model,
            stream,
            images,
            prompt=prompt,
            suffix=suffix,
            system=system,
            template=template,
            context=context,
            think=think,
            logprobs=logprobs,
            top_logprobs=top_logprobs,
            raw=raw,
            format=format,
            options=options,
            keep_alive=keep_alive,
            width=width,
            height=height,
            steps=steps,
            extra_body=extra_body,
        )
        answer = GenerateStream(self._generate_run(request, headers))
        if stream:
            return answer
        with answer:
            return generate_response(answer.wait(), now())

    def systemone(
        self,
        model: str,
        state: str | Mapping[str, Any] | Sequence[Any],
        questions: Mapping[str, Any],
        keep_alive: KeepAlive = None,
        *,
        headers: Headers = None,
    ) -> SystemOneResponse:
        """Has a System One model answer choice, noul and score questions about a state; one JSON answer, no stream."""
        body = create_body({"model": model, "state": state, "questions": questions, "keep_alive": keep_alive})
        return portal().run(self._post("/v1/systemone", body, SystemOneResponse, headers=headers, by_model=True))

    def embed(
        self,
        model: str = "",
        input: str | Sequence[str] = "",
        truncate: bool | None = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        dimensions: int | None = None,
        *,
        headers: Headers = None,
    ) -> EmbedResponse:
        """Returns the embeddings of one text or several."""
        body = self._embed(
            model=model,
            input=input,
            truncate=truncate,
            options=options,
            keep_alive=keep_alive,
            dimensions=dimensions,
            headers=headers,
        )
        return portal().run(body)

    def embeddings(
        self,
        model: str = "",
        prompt: str | None = None,
        options: Mapping[str, Any] | Options | None = None,
        keep_alive: KeepAlive = None,
        *,
        headers: Headers = None,
    ) -> EmbeddingsResponse:
        """Returns the embedding of one text; older than `embed`."""
        body = create_body({"model": model, "prompt": prompt, "options": options, "keep_alive": keep_alive})
        return portal().run(self._post("/api/embeddings", body, EmbeddingsResponse, headers=headers, by_model=True))

    @overload
    def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[False] = False,
        headers: Headers = None,
    ) -> ProgressResponse: ...
    @overload
    def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[True],
        headers: Headers = None,
    ) -> ProgressStream: ...
    @overload
    def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | ProgressStream: ...
    def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | ProgressStream:
        """Fetches a model to the server. Ollama resumes what an earlier pull began.

        Args:
            model: the model's name.
            insecure: allow a registry without TLS.
            stream: True returns a stream of progress; dropping it stops the work.
            headers: sent with this request, beside the client's own.
        """
        return self._progress("pull", {"model": model, "insecure": insecure, "stream": stream}, stream, headers)

    @overload
    def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[False] = False,
        headers: Headers = None,
    ) -> ProgressResponse: ...
    @overload
    def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[True],
        headers: Headers = None,
    ) -> ProgressStream: ...
    @overload
    def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | ProgressStream: ...
    def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | ProgressStream:
        """Sends a model to its registry.

        Args:
            model: the model's name.
            insecure: allow a registry without TLS.
            stream: True returns a stream of progress; dropping it stops the work.
            headers: sent with this request, beside the client's own.
        """
        return self._progress("push", {"model": model, "insecure": insecure, "stream": stream}, stream, headers)

    @overload
    def create(
        self,
        model: str,
        quantize: str | None = None,
        from_: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        template: str | None = None,
        license: str | list[str] | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | Options | None = None,
        messages: Messages | None = None,
        *,
        stream: Literal[False] = False,
        headers: Headers = None,
    ) -> ProgressResponse: ...
    @overload
    def create(
        self,
        model: str,
        quantize: str | None = None,
        from_: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        template: str | None = None,
        license: str | list[str] | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | Options | None = None,
        messages: Messages | None = None,
        *,
        stream: Literal[True],
        headers: Headers = None,
    ) -> ProgressStream: ...
    @overload
    def create(
        self,
        model: str,
        quantize: str | None = None,
        from_: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        template: str | None = None,
        license: str | list[str] | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | Options | None = None,
        messages: Messages | None = None,
        *,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | ProgressStream: ...
    def create(
        self,
        model: str,
        quantize: str | None = None,
        from_: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        template: str | None = None,
        license: str | list[str] | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | Options | None = None,
        messages: Messages | None = None,
        *,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | ProgressStream:
        """Makes a model on the server, from another or from files (see `create_blob`)."""
        body = create_body(
            {
                "model": model,
                "stream": stream,
                "quantize": quantize,
                "from_": from_,
                "files": files,
                "adapters": adapters,
                "template": template,
                "license": license,
                "system": system,
                "parameters": parameters,
                "messages": messages,
            }
        )
        return self._progress("create", body, stream, headers)

    def _progress(
        self, operation: str, body: dict[str, Any], stream: bool, headers: Headers
    ) -> ProgressResponse | ProgressStream:
        lines = ProgressStream(self.progress_run(operation, body, headers=headers))
        if stream:
            return lines
        last = ProgressResponse()
        with lines:
            for line in lines:
                last = line
        return last

    def create_blob(self, path: str | os.PathLike[str], *, headers: Headers = None) -> str:
        """Sends a file to the server for `create`, and returns its digest."""
        return portal().run(self._create_blob(path, headers))

    def list(self, *, headers: Headers = None) -> ListResponse:
        """Returns the models that the server has."""
        return portal().run(self._list(headers))

    def delete(self, model: str, *, headers: Headers = None) -> StatusResponse:
        """Deletes a model from the server."""
        portal().run(self._post("/api/delete", {"model": model}, StatusResponse, "DELETE", headers=headers))
        return StatusResponse("success")

    def copy(self, source: str, destination: str, *, headers: Headers = None) -> StatusResponse:
        """Gives a model a second name."""
        body = {"source": source, "destination": destination}
        portal().run(self._post("/api/copy", body, StatusResponse, headers=headers))
        return StatusResponse("success")

    def show(self, model: str, *, headers: Headers = None) -> ShowResponse:
        """Returns what the server knows of a model."""
        return portal().run(self._show(model, headers))

    def ps(self, *, headers: Headers = None) -> ProcessResponse:
        """Returns the models that are loaded."""
        return portal().run(self._ps(headers))

    def default_model(self, *, headers: Headers = None) -> str:
        """Returns the model that is meant where none is named: TAILRACE_MODEL, one that is loaded, or the first listed.

        Raises:
            RequestError: the upstream has no model.
        """
        return portal().run(self._default_model(headers))

    def version(self, *, headers: Headers = None) -> str:
        """Returns the server's version."""
        return portal().run(self._version(headers))

    def web_search(self, query: str, max_results: int = 3, *, headers: Headers = None) -> WebSearchResponse:
        """Searches the web by ollama.com, which wants an API key.

        Raises:
            ValueError: no key was given.
        """
        self._bearer("web search", headers)
        body = {"query": query, "max_results": max_results}
        return portal().run(self._web("web_search", body, WebSearchResponse, headers))

    def web_fetch(self, url: str, *, headers: Headers = None) -> WebFetchResponse:
        """Fetches a page by ollama.com, which wants an API key.

        Raises:
            ValueError: no key was given.
        """
        self._bearer("web fetch", headers)
        return portal().run(self._web("web_fetch", {"url": url}, WebFetchResponse, headers))
