"""The parts of workers that have no input or output: ids, routing, shares, sums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from tailrace.errors import RequestError
from tailrace.gateway.app import TABLES
from tailrace.gateway.cluster.merging import merged
from tailrace.gateway.cluster.routing import home_of_chat, home_of_request, is_for_all
from tailrace.gateway.cluster.split_limits import check, split
from tailrace.gateway.cluster.worker_ids import WorkerId, home_of
from tailrace.gateway.endpoint import Endpoint, Endpoints
from tailrace.gateway.settings import Settings
from tailrace.run.run import Run
from tailrace.web.registry import Bounds

HERE = WorkerId("abc123", 1, 7)
ENDPOINTS = Endpoints(TABLES)


def _find(method: str, path: str) -> tuple[Endpoint, str]:
    """Returns the endpoint that a request is for, and what its path names."""
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": []}
    endpoint = ENDPOINTS.find(scope)
    return endpoint, str(scope.get("path_params", {}).get("id", ""))


def home(method: str, path: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> int | None:
    return home_of_request(*_find(method, path), headers, HERE, 8)


async def _never(_: object) -> None:
    raise AssertionError


def _id() -> str:
    return Run(_never).id  # type: ignore[arg-type]


def test_id_tells_its_worker_and_stays_random_in_front() -> None:
    """The mark is read back; the digits that events' ids carry are not touched; plain ids have no badge of ours."""
    plain = [_id() for _ in range(100)]
    marked = [HERE.mark(id) for id in plain]

    assert {WorkerId.of(id) for id in marked} == {HERE}
    assert [id[:24] for id in plain] == [id[:24] for id in marked]
    assert [len(id) for id in plain] == [len(id) for id in marked]
    assert not any(WorkerId.of(id) == HERE for id in plain)
    assert [WorkerId.of(text) for text in ("", "run_", "run_x", marked[0] + "0", marked[0].upper())] == [None] * 5


def test_generation_tells_what_is_lost() -> None:
    """What an earlier process in this place began is lost, what one of another gateway began is nothing of ours."""
    id = _id()
    before, elsewhere = WorkerId("abc123", 1, 6).mark(id), WorkerId("abc123", 2, 1).mark(id)
    other_life, later = WorkerId("abc124", 1, 6).mark(id), WorkerId("abc123", 1, 8).mark(id)

    assert [HERE.outlived(each) for each in (before, elsewhere, other_life, later, HERE.mark(id), id)] == [
        *(True, False, False, False, False, False)
    ]


def test_home_is_the_same_everywhere_and_spread() -> None:
    """A name's home does not depend on the process, and a thousand names are at all of eight workers."""
    assert [home_of(text, 8) for text in ("", "a", "conv_1", "键")] == [
        home_of(text, 8) for text in ("", "a", "conv_1", "键")
    ]
    assert home_of("a", 1_000_003) == 172_703
    counts = [sum(home_of(f"conv_{number}", 8) == home for number in range(1000)) for home in range(8)]
    assert min(counts) > 80


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("GET", "/runs/{run}", True),
        ("DELETE", "/runs/{run}", True),
        ("GET", "/runs/{run}/events", True),
        ("OPTIONS", "/runs/{run}", True),
        ("GET", "/v1/chat/completions/chatcmpl-{digits}", True),
        ("GET", "/v1/chat/completions/{run}", True),
        ("GET", "/v1/chat/completions/{digits}", True),
        ("GET", "/ai/chat/{run}/stream", True),
        ("POST", "/ai/chat/{run}/stop", True),
        ("GET", "/runs/{run}/", False),
        ("GET", "/runs/{digits}", True),
        ("POST", "/runs", False),
        ("POST", "/v1/chat/completions", False),
        ("POST", "/api/chat", False),
        ("GET", "/", False),
        ("GET", "/healthz", False),
    ],
)
def test_what_names_a_run_is_its_workers(method: str, path: str, named: bool) -> None:
    """Whichever route names it, and in whichever form."""
    run = WorkerId("abc123", 5, 1).mark(_id())
    where = path.format(run=run, digits=run.removeprefix("run_"))

    assert home(method, where) == (5 if named else None)


def test_what_names_no_run_of_ours() -> None:
    """Ids of other gateways, and of workers that there are not, are answered by whoever is asked."""
    for worker_id in (WorkerId("fff123", 5, 1), WorkerId("abc123", 8, 1)):
        assert home("GET", f"/runs/{worker_id.mark(_id())}") is None


def test_conversations_chats_and_keys_have_a_home() -> None:
    """All paths of one lead to one worker; a chat that is named as a run is that run's."""
    paths = ("/conversations/c1", "/conversations/c1/turns", "/conversations/c1/export")
    assert {home("GET", path) for path in paths} == {home_of("c1", 8)}
    assert home("POST", "/conversations") is None
    assert home("GET", "/ai/chat/x/stream") == home_of_chat("x", HERE, 8) == home_of("x", 8)
    run = WorkerId("abc123", 5, 1).mark(_id())
    assert home_of_chat(run, HERE, 8) == 5
    key = [(b"host", b"x"), (b"idempotency-key", b" k ")]
    assert home("POST", "/runs", key) == home_of("k", 8)
    assert home("POST", "/conversations/c1/turns", key) == home_of("c1", 8)
    assert home("POST", "/chat/stream", key) is None


def test_what_is_for_all() -> None:
    """Figures and lists; to start a run is for one."""
    for method, path, for_all in (
        *(("GET", path, True) for path in ("/metrics", "/queue", "/runs", "/readyz")),
        *(("HEAD", "/metrics", True), ("POST", "/metrics", False)),
        *(("POST", "/runs", False), ("DELETE", "/runs", False), ("GET", "/healthz", False)),
    ):
        assert is_for_all(_find(method, path)[0], method) is for_all, (method, path)


def test_shares_add_up_to_the_limits() -> None:
    """Whatever they are divided by; what is no limit stays none."""
    settings = Settings(max_running=7, max_queued=11, max_per_key=5, bounds=Bounds(runs=1000, log_bytes=10**9))
    for count in (2, 3, 4, 5):
        shares = [split(settings, index, count) for index in range(count)]
        assert sum(each.max_running or 0 for each in shares) == 7
        assert sum(each.max_queued for each in shares) == 11
        assert sum(each.max_per_key or 0 for each in shares) == 5
        assert sum(each.bounds.runs for each in shares) == 1000
        assert sum(each.bounds.log_bytes for each in shares) == 10**9
        assert min(each.max_running or 0 for each in shares) >= 1
        assert {each.bounds.run_bytes for each in shares} == {settings.bounds.run_bytes}
    free = split(Settings(max_queued=0), 0, 3)
    assert (free.max_running, free.max_per_key, free.max_queued) == (None, None, 0)


def test_limit_that_cannot_be_shared_out() -> None:
    """Each worker is to have something of it; none at all is shared out easily."""
    check(Settings(max_running=3, max_per_key=3, max_queued=0), 3)
    for settings in (Settings(max_running=2), Settings(max_per_key=2), Settings(max_queued=2)):
        with pytest.raises(RequestError, match="among 3 workers"):
            check(settings, 3)


def test_figures_are_added_up() -> None:
    """Counters, gauges and buckets are sums; the start is the earliest, and out is out."""
    one = (
        b"# HELP a A.\n# TYPE a counter\na 1\n"
        b'# TYPE h histogram\nh_bucket{le="0.1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 0.300000\nh_count 2\n'
        b'tailrace_upstream_out{upstream="u v"} 1\nprocess_start_time_seconds 20.5\ng 1e-05\n'
    )
    two = (
        b"# HELP a A.\n# TYPE a counter\na 41\n"
        b'# TYPE h histogram\nh_bucket{le="0.1"} 0\nh_bucket{le="+Inf"} 3\nh_sum 0.900000\nh_count 3\n'
        b'tailrace_upstream_out{upstream="u v"} 0\nprocess_start_time_seconds 10.5\ng 2\n'
    )
    lines = merged("/metrics", b"", [one, two]).decode().splitlines()

    assert lines[:9] == [
        *("# HELP a A.", "# TYPE a counter", "a 42"),
        *("# TYPE h histogram", 'h_bucket{le="0.1"} 1', 'h_bucket{le="+Inf"} 5', "h_sum 1.200000", "h_count 5"),
        'tailrace_upstream_out{upstream="u v"} 1',
    ]
    assert lines[9:11] == ["process_start_time_seconds 10.5", "g 2.00001"]
    assert lines[-1] == "tailrace_workers 2"


def test_queues_and_lists_are_joined() -> None:
    """An upstream's figures are sums; runs are sorted by their start, and no more than asked for."""

    def queue(running: int, out: bool) -> bytes:
        return msgspec.json.encode({"upstreams": [{"url": "u", "running": running, "waiting": 1, "out": out}]})

    def runs(*created: str) -> bytes:
        return msgspec.json.encode({"runs": [{"id": each, "created": each} for each in created]})

    assert msgspec.json.decode(merged("/queue", b"", [queue(1, False), queue(2, True)])) == {
        "upstreams": [{"url": "u", "running": 3, "waiting": 2, "out": True}]
    }
    listed = msgspec.json.decode(merged("/runs", b"limit=3&state=ended", [runs("9", "5"), runs("7", "6")]))
    assert [run["id"] for run in listed["runs"]] == ["9", "7", "6"]
    assert merged("/readyz", b"", [b"1", b"2"]) == b"1"
