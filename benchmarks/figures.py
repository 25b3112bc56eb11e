"""What is shown of each benchmark: the list of all pictures and tables."""

from __future__ import annotations

from benchmarks.results import Record
from benchmarks.views import Column, Row, View

__all__ = ["VIEWS"]


def _server(row: Row) -> str:
    name = str(row["server"])
    if name == "nginx":
        return "limit"
    return "ours" if name == "tailrace" or name.startswith("serve") else "other"


def _ours(row: Row) -> str:
    return "ours"


def _label(row: Row) -> str:
    return str(row["label"])


def _web(streams: int) -> tuple[View, ...]:
    crowd = f"{streams:,} streams at 20 tokens a second each through one web server."
    return (
        View(
            "web",
            f"web-cost-{streams}",
            f"What a token costs a web server, {streams:,} streams",
            f"Microseconds of processor time for each token that arrived; less is better. {crowd}",
            (
                Column("CPU µs a token", "cpu_us_per_token", ",.1f"),
                Column("times nginx", "times_nginx", ".2f"),
                Column("of ollama's AsyncClient", "times_ollama", ".3f"),
                Column("of LiteLLM", "times_litellm", ".3f"),
                Column("KiB a stream", "kib_per_stream", ",.0f"),
            ),
            _label,
            _server,
            lambda row: row["streams"] == streams,
        ),
        View(
            "web",
            f"web-lag-{streams}",
            f"How late a token comes through a web server, {streams:,} streams",
            f"Milliseconds that 99 of 100 tokens do not exceed; less is better. {crowd}",
            (
                Column("lag p99 ms", "lag_p99_ms", ",.1f"),
                Column("p50 ms", "lag_p50_ms", ",.2f"),
                Column("most ms", "lag_max_ms", ",.0f"),
                Column("p50 above nginx's", "lag_p50_ms_above_nginx", ",.2f"),
                Column("p99 above nginx's", "lag_p99_ms_above_nginx", ",.2f"),
            ),
            _label,
            _server,
            lambda row: row["streams"] == streams,
        ),
        View(
            "web",
            f"web-told-{streams}",
            f"What of the answers arrived, {streams:,} streams",
            f"Percent of the tokens that arrived within three times the time that they take; 100 is right. {crowd}",
            (
                Column("delivered %", "delivered_percent", ",.4g"),
                Column("expected", "expected"),
                Column("missing", "missing"),
                Column("doubled", "doubled"),
                Column("streams complete", "complete"),
                Column("refused", "refused"),
            ),
            _label,
            _server,
            lambda row: row["streams"] == streams,
        ),
    )


def _library(row: Row) -> str:
    return {"tailrace": "ours", "bare": "limit"}.get(str(row["library"]), "other")


def _client(feed: str, how: str) -> View:
    return View(
        "client",
        f"client-{feed}",
        f"Chunks that a client reads in a second of processor time, {how}",
        "The chunks of an answer are sent as fast as they are taken; more is better.",
        (
            Column("chunks a CPU second", "per_cpu_second"),
            Column("chunks a second", "per_wall_second"),
            Column("times ollama-python, wall", "times_ollama-python_wall", ".1f"),
            Column("times openai-python, wall", "times_openai-python_wall", ".1f"),
            Column("of a bare loop, wall", "times_bare_wall", ".2f"),
        ),
        lambda row: f"{row['library']}, {row['mode']}, {row['wire']}'s wire",
        _library,
        lambda row: row["feed"] == feed,
    )


def _engines(record: Record) -> list[Row]:
    """A row for each engine and number of runs, from one for each number."""
    rows = []
    for result in record["results"]:
        at_once = f"{result['at_once']} at once" if result["at_once"] > 1 else "alone"
        for name in [
            name for name, value in result.items() if isinstance(value, dict) and "tokens_per_second" in value
        ]:
            beside = {key: result[key] for key in ("ratio", "first_token_later_ms")} if name == "tailrace" else {}
            rows.append({"library": name, "label": f"{name}, {at_once}"} | result[name] | beside)
    return rows


def _programs(record: Record) -> list[Row]:
    """A row for each program; what an empty one takes comes first."""
    return [{"label": name} | figures for name, figures in record["results"].items()]


VIEWS: tuple[View, ...] = (
    _client("burst", "all sent at once"),
    _client("sends", "each sent alone"),
    View(
        "embedded",
        "embedded",
        "Tokens a second of the embedded engine",
        "Beside a bare loop around the same engine in one process; more is better.",
        (
            Column("tokens/s", "tokens_per_second", ",.1f"),
            Column("of the bare engine's", "ratio", ".3f"),
            Column("first token ms", "first_token_ms", ",.1f"),
            Column("later by ms", "first_token_later_ms", ",.1f"),
        ),
        _label,
        _library,
        rows_of=_engines,
    ),
    View(
        "cancel",
        "cancel",
        "From cancel until the model server is free",
        "Milliseconds that 99 of 100 cancels do not exceed; less is better.",
        (
            Column("p99 ms", "p99_ms", ",.1f"),
            Column("p50 ms", "p50_ms", ",.1f"),
            Column("most ms", "max_ms", ",.1f"),
            Column("cancels", "cancels"),
        ),
        lambda row: f"{row['mode']}, {row['phase']}",
        _ours,
    ),
    View(
        "steps",
        "steps",
        "What a token costs between the two sockets",
        "Microseconds of processor time until then, without system calls; less is better.",
        (
            Column("CPU µs a token", "us_per_token", ",.1f"),
            Column("runs", "runs"),
        ),
        lambda row: f"{row['step']}, {'one run' if row['runs'] == 1 else 'a thousand in turn'}",
        _ours,
    ),
    View(
        "start",
        "start",
        "From the start of a program to its first line",
        "Milliseconds of processor time in a fresh interpreter; less is better.",
        (Column("CPU ms", "cpu_ms"), Column("wall ms", "wall_ms")),
        _label,
        lambda row: "ours" if "tailrace" in row["label"] else "limit" if row["label"] == "nothing" else "other",
        rows_of=_programs,
    ),
    *_web(200),
    *_web(1000),
    View(
        "gateway",
        "gateway",
        "What a token costs `tailrace serve`, by the way it is read",
        "Microseconds of processor time, 200 streams at 20 tokens a second each; less is better.",
        (Column("CPU µs a token", "cpu_us_per_token", ",.1f"), Column("of the peer's", "of_peer", ".2f")),
        _label,
        lambda row: "other" if row["label"].startswith("ollama") else "ours",
    ),
    View(
        "held",
        "held",
        "4,000 streams held in one process",
        "Milliseconds that 99 of 100 tokens do not exceed, at two tokens a second each; less is better.",
        (
            Column("lag p99 ms", "lag_p99_ms", ",.1f"),
            Column("p50 ms", "lag_p50_ms", ",.2f"),
            Column("most ms", "lag_max_ms", ",.0f"),
            Column("tokens", "expected"),
            Column("missing", "missing"),
            Column("doubled", "doubled"),
            Column("CPU µs a token", "cpu_us_per_token", ",.1f"),
            Column("KiB a stream", "kib_per_stream", ",.1f"),
        ),
        _label,
        lambda row: "limit" if row["label"].startswith("nginx") else "ours",
        lambda row: row["what"] == "held",
    ),
    View(
        "held",
        "unread",
        "What a reader costs that never reads",
        "KiB of memory for each of 1,000 readers that ask for a busy run's events and take none; less is better.",
        (
            Column("KiB each", "kib_per_reader", ",.1f"),
            Column("missing for who reads", "missing"),
            Column("lag p99 ms for who reads", "lag_p99_ms", ",.1f"),
        ),
        _label,
        _ours,
        lambda row: row["what"] == "unread",
    ),
    View(
        "fanout",
        "fanout",
        "One answer, many readers",
        "Microseconds of processor time for each token and reader, at 50 tokens a second; less is better.",
        (
            Column("CPU µs a delivered token", "cpu_us_per_token", ",.2f"),
            Column("times the writes", "times_bare", ".2f"),
            Column("lag p50 ms", "lag_p50_ms", ",.2f"),
            Column("p99 ms", "lag_p99_ms", ",.1f"),
            Column("missing", "missing"),
            Column("doubled", "doubled"),
            Column("CPU ms to let one in", "cpu_ms_to_come", ",.2f"),
            Column("KiB a reader", "kib_per_reader", ",.1f"),
        ),
        _label,
        lambda row: "ours" if row["who"] == "serve" else "limit",
    ),
    View(
        "growth",
        "growth-streams",
        "What a token costs among more streams",
        "Microseconds of processor time, 20 tokens a second each; the same on every line is right.",
        (
            Column("CPU µs a token", "cpu_us_per_token", ",.1f"),
            Column("times its first", "times_first", ".2f"),
            Column("times nginx", "times_nginx", ".2f"),
        ),
        _label,
        _server,
        lambda row: row["what"] == "streams",
    ),
    View(
        "growth",
        "growth-tokens",
        "What a token costs late in a long answer",
        "Microseconds of processor time, 50,000 tokens at 1,000 a second; the same on every line is right.",
        (Column("CPU µs a token", "cpu_us_per_token", ",.1f"), Column("times the first", "times_first", ".2f")),
        _label,
        _ours,
        lambda row: row["what"] == "tokens",
    ),
    View(
        "ready",
        "ready",
        "From the start of a server to its first token",
        "Milliseconds until a question that is asked at once is answered; less is better.",
        (
            Column("wall ms", "wall_ms"),
            Column("CPU ms", "cpu_ms"),
            Column("times tailrace serve", "of_serve", ".2f"),
        ),
        _label,
        _server,
    ),
)
