"""Several upstreams: where a run goes, and what happens when one fails before or after its first word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tailrace.client.aio import AsyncClient
from tailrace.errors import BusyError, ConnectionError, TimedOutError
from tailrace.events import Outcome, Queued, TextDelta
from tailrace.gateway.scheduling.fair_queue import FairQueue
from tailrace.gateway.scheduling.upstreams import Upstream, Upstreams
from tailrace.run.reader import Reader
from tailrace.run.run import Run
from tailrace.testing import FakeOllama, FakeOpenAI, Silent, closed_port, done, error, hold, rst, say, status
from tailrace.types import ChatRequest
from tailrace.web.stopping import until_released


@pytest.fixture
def servers() -> Iterator[list[FakeOllama]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeOllama(models=["m"])) for _ in range(2)]


def pool(*urls: str, running: int | None = None) -> Upstreams:
    return Upstreams([Upstream(AsyncClient(url), FairQueue(running)) for url in urls])


async def begin(upstreams: Upstreams, model: str = "m", key: str = "") -> Run:
    request = ChatRequest(model=model, messages=[{"role": "user", "content": "hi"}])
    admitted = await upstreams.admit(request, key, "interactive")
    run = Run(admitted.open, model=model)
    admitted.belongs_to(run)
    run.start(asyncio.get_running_loop())
    return run


async def ended(run: Run) -> tuple[str, Outcome]:
    reader = Reader(run)
    while await reader.read_async():
        pass
    await until_released(run)  # then its place is another's
    reply = run.reply()
    assert reply.outcome is not None
    return reply.text, reply.outcome


async def stopped(run: Run) -> None:
    run.cancel()
    await run.released.wait_async(lambda: run.is_released)


def chats(server: FakeOllama) -> int:
    return sum(record.path == "/api/chat" for record in server.requests)


async def test_a_model_goes_where_it_is_loaded(servers: list[FakeOllama]) -> None:
    """Of two that have the model, the one that has it in memory."""
    await AsyncClient(servers[1].url).generate("m", "")  # loads it
    upstreams = pool(servers[0].url, servers[1].url)
    servers[1].script(say("here"))

    assert await ended(await begin(upstreams)) == ("here", Outcome.COMPLETE)
    assert chats(servers[0]) == 0


async def test_else_where_it_is() -> None:
    """Of two, the one that has the model at all."""
    with FakeOllama(models=["other"]) as first, FakeOllama(models=["m"]) as second:
        second.script(say("here"))
        assert await ended(await begin(pool(first.url, second.url))) == ("here", Outcome.COMPLETE)
        assert chats(first) == 0


async def test_else_to_the_least_busy(servers: list[FakeOllama]) -> None:
    """Two runs at once go to two upstreams."""
    for server in servers:
        server.script(say("x"), hold())
    upstreams = pool(servers[0].url, servers[1].url)
    runs = []
    for number in range(len(servers)):
        runs.append(await begin(upstreams))
        await servers[number].await_for_request(path="/api/chat")
    for server in servers:
        server.release()

    assert [await ended(run) for run in runs] == [("x", Outcome.COMPLETE)] * 2


@pytest.mark.parametrize("trouble", ["refused", "500", "reset", "error line"])
async def test_one_that_fails_before_the_first_token_is_left_out(trouble: str) -> None:
    """The run is tried elsewhere, and the reader sees one whole answer; the next run does not go there first."""
    with FakeOllama(models=["m"]) as bad, FakeOllama(models=["m"]) as good:
        script = {"500": status(500, {"error": "broken"}), "reset": rst(), "error line": error("crashed")}
        url = f"http://127.0.0.1:{closed_port()}" if trouble == "refused" else bad.url
        if trouble != "refused":
            bad.always(script[trouble], path="/api/chat")
        good.always(say("whole"), done())
        upstreams = pool(url, good.url)
        results = [await ended(await begin(upstreams)) for _ in range(2)]

        assert results == [("whole", Outcome.COMPLETE)] * 2
        assert upstreams.all[0].out
        assert chats(bad) <= 1


async def test_after_the_first_token_nothing_is_tried_again(servers: list[FakeOllama]) -> None:
    """The answer breaks off, and says so."""
    for server in servers:
        server.always(say("half"), rst(), path="/api/chat")

    text, outcome = await ended(await begin(pool(servers[0].url, servers[1].url)))
    assert (text, outcome) == ("half", Outcome.TRUNCATED)
    assert chats(servers[0]) + chats(servers[1]) == 1


async def test_a_wrong_request_is_not_tried_elsewhere(servers: list[FakeOllama]) -> None:
    """What one refuses as wrong every one would; none is left out for it."""
    for server in servers:
        server.always(status(400, {"error": "does not support thinking"}), path="/api/chat")
    upstreams = pool(servers[0].url, servers[1].url)

    assert (await ended(await begin(upstreams)))[1] is Outcome.FAILED
    assert chats(servers[0]) + chats(servers[1]) == 1
    assert not any(each.out for each in upstreams.all)


async def test_a_model_that_only_the_second_has_after_all() -> None:
    """A 404 of the first, whose list was old, leads to the second."""
    with FakeOllama(models=["m"]) as first, FakeOllama(models=["m"]) as second:
        first.always(status(404, {"error": "model 'm' not found"}), path="/api/chat")
        second.always(say("here"), done())
        upstreams = pool(first.url, second.url)

        assert await ended(await begin(upstreams)) == ("here", Outcome.COMPLETE)
        assert not upstreams.all[0].out


async def test_all_fail() -> None:
    """The last one's word is the ending's."""
    upstreams = pool(f"http://127.0.0.1:{closed_port()}", f"http://127.0.0.1:{closed_port()}")
    run = await begin(upstreams)

    assert await ended(run) == ("", Outcome.FAILED)
    assert run.ended is not None
    assert run.ended.fault is not None
    assert run.ended.fault.kind == "ConnectionError"


async def test_the_queue_is_told_and_given_free(servers: list[FakeOllama]) -> None:
    """Who waits hears its place; the end of one run, however it ends, lets the next in."""
    server = servers[0]
    server.script(say("one"), hold()).script(say("two")).script(say("three"))
    upstreams = pool(server.url, running=1)
    first = await begin(upstreams)
    record = await server.await_for_request(path="/api/chat")
    second, third = await begin(upstreams), await begin(upstreams)
    await Reader(third).read_async()

    assert list(third.log.read(0)) == [Queued(position=2)]
    first.cancel()
    assert (await ended(second))[0] == "two"
    assert (await ended(third))[0] == "three"
    assert await record.await_until_left()
    assert upstreams.all[0].queue.busy == 0
    kinds = [event for event in third.log.read(0) if isinstance(event, (Queued, TextDelta))]
    assert kinds == [Queued(position=2), Queued(position=1), TextDelta("three")]


async def test_cancelled_in_the_queue(servers: list[FakeOllama]) -> None:
    """It never reaches the model server, and its place is another's."""
    server = servers[0]
    server.script(say("one"), hold()).script(say("three"))
    upstreams = pool(server.url, running=1)
    first = await begin(upstreams)
    await server.await_for_request(path="/api/chat")
    second, third = await begin(upstreams), await begin(upstreams)
    await Reader(third).read_async()
    second.cancel()

    assert (await ended(second))[1] is Outcome.CANCELLED
    server.release()
    assert (await ended(first))[0] == "one"
    assert (await ended(third))[0] == "three"
    assert chats(server) == 2
    assert upstreams.all[0].queue.busy == 0


async def test_one_client_has_a_limit_of_its_own(servers: list[FakeOllama]) -> None:
    """Counted over all upstreams: 429 for the one, while others are let in; what has ended counts no more."""
    for server in servers:
        server.always(say("x"), hold(), path="/api/chat")
    upstreams = Upstreams([Upstream(AsyncClient(server.url), FairQueue()) for server in servers], per_key=2)
    runs = [await begin(upstreams, key="a") for _ in range(2)]

    with pytest.raises(BusyError) as caught:
        await begin(upstreams, key="a")
    assert caught.value.status_code == 429
    assert caught.value.retry_after is not None
    other = await begin(upstreams, key="b")
    await stopped(runs[0])
    runs.append(await begin(upstreams, key="a"))
    for run in [*runs, other]:
        await stopped(run)
    assert not upstreams._places


async def test_the_next_run_may_begin_once_the_ending_was_read(servers: list[FakeOllama]) -> None:
    """A client that is allowed one run begins another while the first one's connection is still being closed."""
    for server in servers:
        server.always(say("x"), path="/api/chat")
    upstreams = Upstreams([Upstream(AsyncClient(server.url), FairQueue()) for server in servers], per_key=1)
    begun = []
    for _ in range(3):
        run = await begin(upstreams, key="a")
        while run.ended is None:
            await asyncio.sleep(0)
        begun.append(run)

    for run in begun:
        await stopped(run)
    assert not upstreams._places


async def test_a_full_queue_leads_elsewhere(servers: list[FakeOllama]) -> None:
    """Where the model is too; when all are full it is refused, and nothing of the refused one stays."""
    upstreams = Upstreams([Upstream(AsyncClient(server.url), FairQueue(1, 0)) for server in servers])
    for server in servers:
        server.always(say("x"), hold(), path="/api/chat")
    runs = [await begin(upstreams) for _ in range(2)]

    assert [each.queue.busy for each in upstreams.all] == [1, 1]
    with pytest.raises(BusyError) as caught:
        await begin(upstreams)
    assert caught.value.status_code == 503
    for run in runs:
        await stopped(run)
    assert [each.queue.busy for each in upstreams.all] == [0, 0]


async def test_a_place_that_is_not_used_is_given_free(servers: list[FakeOllama]) -> None:
    """A run that is not to start after all has left, and so has one that is stopped before its first step."""
    upstreams = Upstreams([Upstream(AsyncClient(servers[0].url), FairQueue(1, 0))])
    request = ChatRequest(model="m", messages=[])
    (await upstreams.admit(request, "", "interactive")).leave()
    run = await begin(upstreams)
    await stopped(run)

    assert upstreams.all[0].queue.busy == 0
    assert chats(servers[0]) == 0


# -- what all are asked ------------------------------------------------------------------------------------------------


def out(upstreams: Upstreams) -> list[bool]:
    return [each.out for each in upstreams.all]


async def names(upstreams: Upstreams) -> list[str | None]:
    return [model.model for listed in await upstreams.gather(AsyncClient.list) for model in listed.models]


async def test_u42_one_that_says_nothing_is_left_out(servers: list[FakeOllama]) -> None:
    """Of a silent one nobody waits for long: the others tell, runs go to them, and it is not waited for again."""
    good = servers[0]
    good.always(say("here"), done(), path="/api/chat")
    with Silent() as silent:
        upstreams = pool(silent.url, good.url)
        assert await names(upstreams) == ["m:latest"]
        assert (upstreams.all[0].out, upstreams.all[0].unheard) == (True, True)
        assert upstreams.first is upstreams.all[1]
        assert await ended(await begin(upstreams)) == ("here", Outcome.COMPLETE)
        assert await upstreams.default_model() == "m:latest"
        assert (await upstreams.first_answer(AsyncClient.version))[0] is upstreams.all[1]
    assert not upstreams.all[1].out


async def test_u42_a_run_does_not_wait_for_one_that_says_nothing(servers: list[FakeOllama]) -> None:
    """Not even the first one for long; and what it was asked while it is left out is no further failure."""
    good = servers[0]
    good.always(say("here"), done(), path="/api/chat")
    with Silent() as silent:
        upstreams = pool(silent.url, good.url)
        for _ in range(3):
            assert await ended(await begin(upstreams)) == ("here", Outcome.COMPLETE)
            assert await names(upstreams) == ["m:latest"]
        assert upstreams.all[0].failures == 1


async def test_u42_one_that_speaks_again_is_heard(servers: list[FakeOllama]) -> None:
    """Whatever it is asked: it is not left out any more, and its models are listed."""
    port = closed_port()
    upstreams = pool(f"http://127.0.0.1:{port}", servers[0].url)
    assert await names(upstreams) == ["m:latest"]
    assert out(upstreams) == [True, False]
    with FakeOllama(models=["back"], port=port):
        while any(out(upstreams)):
            await upstreams.gather(AsyncClient.list)
        assert await names(upstreams) == ["back:latest", "m:latest"]
        assert upstreams.all[0].failures == 0


async def test_u42_none_tells() -> None:
    """Then it is said why, by the first one."""
    with Silent() as silent:
        with pytest.raises(TimedOutError, match="does not answer"):
            await pool(silent.url, silent.url).gather(AsyncClient.list)
        with pytest.raises(ConnectionError, match="nothing answers"):
            await pool(f"http://127.0.0.1:{closed_port()}", silent.url).first_answer(AsyncClient.list)


async def test_one_of_another_protocol_is_not_left_out(servers: list[FakeOllama]) -> None:
    """OpenAI's protocol does not tell what is loaded, which is no failure: its models go there."""
    with FakeOpenAI(models=["o"]) as other:
        other.always(say("there"), done(), path="/v1/chat/completions")
        upstreams = pool(servers[0].url, f"openai:{other.url}/v1")
        for _ in range(2):
            assert await ended(await begin(upstreams, "o")) == ("there", Outcome.COMPLETE)
            assert [each.out for each in upstreams.all] == [False, False]
    assert chats(servers[0]) == 0
