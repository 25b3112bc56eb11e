"""The asynchronous client."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from tailrace.client.base import BaseClient, Headers, create_body, now
from tailrace.client.chunks import chat_response, generate_response
from tailrace.client.requests import Format, KeepAlive, Messages, Tools, chat_request, generate_request
from tailrace.client.streams import AsyncChatStream, AsyncGenerateStream, AsyncProgressStream, given_continued
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

__all__ = ["AsyncClient"]

Conversation = Sequence[Mapping[str, Any] | Message]


class AsyncClient(BaseClient):
    """An asynchronous client. Works on any event loop, also on several, one after the other or at once.

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

    async def close(self) -> None:
        """Closes the client: calls from now on are refused. Streams that have begun go on to their end."""
        self._closed = True

    async def find_upstream(self) -> str:
        """Looks for the upstream now, rather than at the first call, and returns it; see `upstream`.

        Raises:
            TailraceError: what was named cannot be one.
        """
        await self._backend()
        return self.upstream

    async def __aenter__(self) -> AsyncClient:
        self._check_open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @overload
    async def chat(
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
    async def chat(
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
    ) -> AsyncChatStream: ...
    @overload
    async def chat(
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
    ) -> ChatResponse | AsyncChatStream: ...
    async def chat(
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
    ) -> ChatResponse | AsyncChatStream:
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
        answer = AsyncChatStream(*self._chat_run(request, headers))
        if stream:
            return answer
        async with answer:  # a caller who leaves stops the model, also while its exception is kept
            return chat_response(await answer.wait(), now())

    @overload
    async def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: Literal[False] = False,
        **settings: Any,
    ) -> ChatResponse: ...
    @overload
    async def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: Literal[True],
        **settings: Any,
    ) -> AsyncChatStream: ...
    @overload
    async def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: bool = False,
        **settings: Any,
    ) -> ChatResponse | AsyncChatStream: ...
    async def continue_chat(
        self,
        model: str | Conversation = "",
        messages: Conversation | None = None,
        *,
        stream: bool = False,
        **settings: Any,
    ) -> ChatResponse | AsyncChatStream:
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
            model = await self.default_model(headers=settings.get("headers"))
        chat: AsyncChatStream = await self.chat(model, messages, stream=True, **settings)
        answer = AsyncChatStream(*given_continued(chat))
        if stream:
            return answer
        async with answer:
            return chat_response(await answer.wait(), now())

    @overload
    async def generate(
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
    async def generate(
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
    ) -> AsyncGenerateStream: ...
    @overload
    async def generate(
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
    ) -> GenerateResponse | AsyncGenerateStream: ...
    async def generate(
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
    ) -> GenerateResponse | AsyncGenerateStream:
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
        answer = AsyncGenerateStream(self._generate_run(request, headers))
        if stream:
            return answer
        async with answer:
            return generate_response(await answer.wait(), now())

    async def systemone(
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
        return await self._post("/v1/systemone", body, SystemOneResponse, headers=headers, by_model=True)

    async def embed(
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
        return await body

    async def embeddings(
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
        return await self._post("/api/embeddings", body, EmbeddingsResponse, headers=headers, by_model=True)

    @overload
    async def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[False] = False,
        headers: Headers = None,
    ) -> ProgressResponse: ...
    @overload
    async def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[True],
        headers: Headers = None,
    ) -> AsyncProgressStream: ...
    @overload
    async def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | AsyncProgressStream: ...
    async def pull(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | AsyncProgressStream:
        """Fetches a model to the server. Ollama resumes what an earlier pull began.

        Args:
            model: the model's name.
            insecure: allow a registry without TLS.
            stream: True returns a stream of progress; dropping it stops the work.
            headers: sent with this request, beside the client's own.
        """
        return await self._progress("pull", {"model": model, "insecure": insecure, "stream": stream}, stream, headers)

    @overload
    async def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[False] = False,
        headers: Headers = None,
    ) -> ProgressResponse: ...
    @overload
    async def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: Literal[True],
        headers: Headers = None,
    ) -> AsyncProgressStream: ...
    @overload
    async def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | AsyncProgressStream: ...
    async def push(
        self,
        model: str,
        *,
        insecure: bool = False,
        stream: bool = False,
        headers: Headers = None,
    ) -> ProgressResponse | AsyncProgressStream:
        """Sends a model to its registry.

        Args:
            model: the model's name.
            insecure: allow a registry without TLS.
            stream: True returns a stream of progress; dropping it stops the work.
            headers: sent with this request, beside the client's own.
        """
        return await self._progress("push", {"model": model, "insecure": insecure, "stream": stream}, stream, headers)

    @overload
    async def create(
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
    async def create(
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
    ) -> AsyncProgressStream: ...
    @overload
    async def create(
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
    ) -> ProgressResponse | AsyncProgressStream: ...
    async def create(
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
    ) -> ProgressResponse | AsyncProgressStream:
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
        return await self._progress("create", body, stream, headers)

    async def _progress(
        self, operation: str, body: dict[str, Any], stream: bool, headers: Headers
    ) -> ProgressResponse | AsyncProgressStream:
        lines = AsyncProgressStream(self.progress_run(operation, body, headers=headers))
        if stream:
            return lines
        last = ProgressResponse()
        async with lines:
            async for line in lines:
                last = line
        return last

    async def create_blob(self, path: str | os.PathLike[str], *, headers: Headers = None) -> str:
        """Sends a file to the server for `create`, and returns its digest."""
        return await self._create_blob(path, headers)

    async def list(self, *, headers: Headers = None) -> ListResponse:
        """Returns the models that the server has."""
        return await self._list(headers)

    async def delete(self, model: str, *, headers: Headers = None) -> StatusResponse:
        """Deletes a model from the server."""
        await self._post("/api/delete", {"model": model}, StatusResponse, "DELETE", headers=headers)
        return StatusResponse("success")

    async def copy(self, source: str, destination: str, *, headers: Headers = None) -> StatusResponse:
        """Gives a model a second name."""
        body = {"source": source, "destination": destination}
        await self._post("/api/copy", body, StatusResponse, headers=headers)
        return StatusResponse("success")

    async def show(self, model: str, *, headers: Headers = None) -> ShowResponse:
        """Returns what the server knows of a model."""
        return await self._show(model, headers)

    async def ps(self, *, headers: Headers = None) -> ProcessResponse:
        """Returns the models that are loaded."""
        return await self._ps(headers)

    async def default_model(self, *, headers: Headers = None) -> str:
        """Returns the model that is meant where none is named: TAILRACE_MODEL, one that is loaded, or the first listed.

        Raises:
            RequestError: the upstream has no model.
        """
        return await self._default_model(headers)

    async def version(self, *, headers: Headers = None) -> str:
        """Returns the server's version."""
        return await self._version(headers)

    async def web_search(self, query: str, max_results: int = 3, *, headers: Headers = None) -> WebSearchResponse:
        """Searches the web by ollama.com, which wants an API key.

        Raises:
            ValueError: no key was given.
        """
        self._bearer("web search", headers)
        body = {"query": query, "max_results": max_results}
        return await self._web("web_search", body, WebSearchResponse, headers)

    async def web_fetch(self, url: str, *, headers: Headers = None) -> WebFetchResponse:
        """Fetches a page by ollama.com, which wants an API key.

        Raises:
            ValueError: no key was given.
        """
        self._bearer("web fetch", headers)
        return await self._web("web_fetch", {"url": url}, WebFetchResponse, headers)
