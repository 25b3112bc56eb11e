"""Figures: sizes, durations and rates as Ollama's command prints them."""

from __future__ import annotations

from tailrace.i18n import say
from tailrace.run.reply import Reply

__all__ = ["closing", "duration", "progress", "rate", "short_duration", "size", "summary"]


def duration(nanoseconds: int) -> str:
    """Returns a duration as Go prints one: ``18.293521648s``, ``97.885315ms``, ``1m25.05s``.

    >>> duration(97885315), duration(85_050_000_000), duration(0)
    ('97.885315ms', '1m25.05s', '0s')
    """
    for unit, name in ((1, "ns"), (1000, "µs"), (1_000_000, "ms")):
        if 0 < nanoseconds < unit * 1000:
            return f"{_decimal(nanoseconds, unit)}{name}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    ahead = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{ahead}{_decimal(rest, 1_000_000_000)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def short_duration(seconds: float) -> str:
    """Returns a duration as Ollama's progress bars print one: ``1m2s``.

    >>> short_duration(62.4), short_duration(3661), short_duration(0.2)
    ('1m2s', '1h1m', '0s')
    """
    whole = int(seconds)
    if whole >= 100 * 3600:
        return "99h+"
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60}m"
    return f"{whole // 60}m{whole % 60}s" if whole >= 60 else f"{whole}s"


def size(count: float) -> str:
    """Returns a number of bytes as Ollama prints one.

    >>> size(2_019_393_189), size(123_456_789), size(2_000), size(12)
    ('2.0 GB', '123 MB', '2 KB', '12 B')
    """
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if count >= unit:
            value = count / unit
            return f"{value:.1f} {name}" if value < 10 and value != int(value) else f"{int(value)} {name}"
    return f"{int(count)} B"


def rate(tokens_per_second: float) -> str:
    """Returns a rate with as many digits as tell something.

    >>> rate(41.23), rate(3.456)
    ('41', '3.5')
    """
    return f"{tokens_per_second:.0f}" if tokens_per_second >= 10 else f"{tokens_per_second:.1f}"


def closing(reply: Reply) -> str:
    """Returns the line below an answer, ``132 tok · 41 tok/s · first token 0.21 s``; one that was stopped says so."""
    metrics = reply.metrics
    parts = []
    if metrics.output_tokens:
        parts.append(say("figures.tokens", count=f"{'~' if metrics.estimated else ''}{metrics.output_tokens:,}"))
    if metrics.tokens_per_second:
        parts.append(say("figures.rate", rate=rate(metrics.tokens_per_second)))
    if not reply.interrupted:
        if metrics.time_to_first_token is not None:
            parts.append(say("figures.first", seconds=f"{metrics.time_to_first_token:.2f}"))
        return " · ".join(parts)
    return say("mark.stopped_after", figures=" · ".join(parts)) if parts else say("mark.stopped")


def progress(reply: Reply) -> str:
    """Returns the tutorial's line below an answer: its characters, and how long it took."""
    return " · ".join(
        (
            say("helper.characters", count=len(reply.text)),
            say("figures.elapsed", seconds=f"{reply.metrics.elapsed:.1f}"),
        )
    )


def summary(reply: Reply) -> list[str]:
    """Returns the lines of ``--verbose``: Ollama's own, and the time to the first token.

    The labels are Ollama's in every language, because programs look for them. What the server did not tell (an answer
    that was stopped has no final record) is ours and has a ``~``.
    """
    usage, metrics = reply.usage, reply.metrics
    lines: list[tuple[str, str]] = []
    if usage is not None and usage.total_duration:
        lines.append(("total duration", duration(usage.total_duration)))
    else:
        lines.append(("total duration", f"~{duration(round(metrics.elapsed * 1e6) * 1000)}"))
    if usage is not None and usage.load_duration:
        lines.append(("load duration", duration(usage.load_duration)))
    if metrics.time_to_first_token is not None:
        lines.append(("time to first token", duration(round(metrics.time_to_first_token * 1e6) * 1000)))
    if usage is not None and usage.prompt_tokens:
        lines.append(("prompt eval count", f"{usage.prompt_tokens} token(s)"))
    if usage is not None and usage.prompt_duration:
        lines.append(("prompt eval duration", duration(usage.prompt_duration)))
        lines.append(("prompt eval rate", _rate(usage.prompt_tokens / usage.prompt_duration * 1e9)))
    if metrics.output_tokens:
        lines.append(("eval count", f"{'~' if metrics.estimated else ''}{metrics.output_tokens} token(s)"))
    if usage is not None and usage.output_duration:
        lines.append(("eval duration", duration(usage.output_duration)))
        lines.append(("eval rate", _rate(usage.output_tokens / usage.output_duration * 1e9)))
    elif metrics.tokens_per_second is not None:
        lines.append(("eval rate", f"~{_rate(metrics.tokens_per_second)}"))
    return [f"{label + ':':<22}{value}" for label, value in lines]


def _rate(tokens: float) -> str:
    return f"{tokens:.2f} tokens/s"
