"""What live Markdown on a terminal costs: an answer in Chinese and English, a frame for every 8 tokens.

tailrace prints finished blocks once and draws only the open one again; the usual way, `rich.Live(Markdown(…))`, renders
the whole answer for each frame. Both write to a counter in place of a terminal of 100 by 40. The share of the growth
from 16,000 to 48,000 characters says whether a frame costs the same however long the answer is; 3 is linear.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.common import Contestant, Skipped, contestants, in_turns, ratio, report, shown, spread, table

WIDTH, HEIGHT = 100, 40
TOKENS = 8  # a frame
PART = 100  # frames a request
SIZES = (16_000, 48_000)
CONTESTANTS = ("tailrace", "rich.Live")

_PARTS = (
    """## {n}. 流式输出 Streaming

**注意：**后面的文字说明了流式输出（streaming）的原理。模型每生成一个 token，就立即发送给客户端，\
用户不必等待完整的回答；这样做的好处是*首字延迟*很低，而总时间不变。\
See [the guide](https://example.org/guide/{n}) for details.

A stream is a sequence of **chunks**, and each chunk is `small`: a reader that stops reading costs bounded memory, and \
a reader that comes back gets what it missed. None of that depends on how long the answer is.

""",
    """1. **第一点：**连接必须及时关闭，否则模型会继续占用显卡；
2. The second point is about `cancel()`, which acts on the connection;
   - 子项：立即返回，不等待
   - nested: it is idempotent, and may be called from any thread
3. 第三点，读者之间互不影响。

""",
    """```python
class Reader{n}:
    \"\"\"Reads a run's log, and follows it.\"\"\"

    def __init__(self, log, start=0):
        self.log = log
        self.cursor = start  # 从这里开始

    async def read(self):
        while not self.log.ended:
            for event in self.log.since(self.cursor):
                self.cursor = event.id
                yield event
            await self.log.changed()
```

""",
    """| 参数 | Meaning | Default |
|:-----|---------|--------:|
| `temperature` | 温度，越高越随机 | 0.8 |
| `num_ctx` | how many tokens the model sees | 4096 |
| `keep_alive` | 模型在内存中保留的时间 how long it stays | 5m |
| `seed` | 随机种子 | {n} |

> 引用：读者永远不接触模型，他们只读日志。
> Readers never touch the model.

""",
)


def answer(size: int) -> str:
    """An answer of `size` characters."""
    text = "".join(part.replace("{n}", str(number)) for number in range(size // 1000 + 1) for part in _PARTS)
    return text[:size]


def frames(text: str) -> list[str]:
    """What comes between two frames: tokens are 4 characters of English or 1 to 2 of Chinese."""
    out, piece, weight = [], [], 0.0
    for char in text:
        piece.append(char)
        weight += 0.25 if char < "\u1100" else 0.6
        if weight >= TOKENS:
            out.append("".join(piece))
            piece, weight = [], 0.0
    return [*out, "".join(piece)]


class Counter(io.StringIO):
    """Counts what a terminal would be sent."""

    bytes = 0

    def write(self, text: str) -> int:
        self.bytes += len(text.encode())
        return len(text)

    def isatty(self) -> bool:
        return True


Show = tuple[Callable[[str], object], Callable[[], object]]  # takes what a frame brings; ends


def with_tailrace(out: Counter) -> Show:
    """Show an answer with tailrace."""
    from tailrace.render.live import LiveMarkdown

    live = LiveMarkdown(out.write, WIDTH, HEIGHT)
    return live.feed, live.finish


def with_rich(out: Counter) -> Show:
    """Show an answer with rich, all of it for each frame."""
    from rich.console import Console
    from rich.live import Live
    from rich.markdown import Markdown

    console = Console(file=out, width=WIDTH, height=HEIGHT, force_terminal=True, color_system="standard")
    live = Live(
        console=console,
        auto_refresh=False,
        vertical_overflow="visible",
        redirect_stdout=False,  # we answer on it
        redirect_stderr=False,
    )
    live.start()
    pieces: list[str] = []

    def feed(piece: str) -> None:
        pieces.append(piece)
        live.update(Markdown("".join(pieces)), refresh=True)

    return feed, live.stop


def main() -> None:
    """Be a contestant: for each request draw some frames of an answer, and tell what they cost."""
    begin = {"tailrace": with_tailrace, "rich.Live": with_rich}[sys.argv[1]]
    feed, end = begin(Counter())
    for piece in frames(answer(2000)):  # what is imported when it is needed
        feed(piece)
    end()
    for line in sys.stdin:
        request = json.loads(line)
        pieces = frames(answer(request["size"]))
        if request["first"] == 0:
            out = Counter()
            feed, end = begin(out)
        part = pieces[request["first"] : request["first"] + PART]
        before = out.bytes
        times = [time.process_time()]
        for piece in part:
            feed(piece)
            times.append(time.process_time())
        more = request["first"] + PART < len(pieces)
        if not more:
            end()
        worst = max(after - before for before, after in pairwise(times))
        used = time.process_time() - times[0]
        result = {"cpu": used, "worst": worst, "bytes": out.bytes - before, "frames": len(part), "more": more}
        print(json.dumps(result), flush=True)


def shown_by(show: Contestant, size: int) -> dict[str, Any]:
    """What an answer costs. It is asked for in parts: rich takes minutes for a long one, and each may take its time."""
    total = {"cpu": 0.0, "worst": 0.0, "bytes": 0, "frames": 0}
    while True:
        part = show.ask(size=size, first=total["frames"])
        total["worst"] = max(total["worst"], part["worst"])
        for key in ("cpu", "bytes", "frames"):
            total[key] += part[key]
        if not part["more"]:
            return total


def run(*, quick: bool) -> None:
    """Measure and print."""
    try:
        import rich.markdown  # noqa: F401
    except ImportError:
        raise Skipped("rich is not installed: pip install 'tailrace[cli]'") from None
    sizes = (1000, 3000) if quick else SIZES
    seen: dict[tuple[str, int], list[dict[str, Any]]] = {(name, size): [] for name in CONTESTANTS for size in sizes}
    with contestants("terminal", [[name] for name in CONTESTANTS]) as shows:
        for number in range(1 if quick else 5):
            for size in sizes:
                for show in in_turns(shows, number):
                    # Of what is quadratic one round of the shorter answer takes a minute and says enough.
                    if show.name == "tailrace" or quick or (number == 0 and size == sizes[0]):
                        seen[show.name, size].append(shown_by(show, size))
    results, rows = [], []
    for (name, size), runs in seen.items():
        if not runs:
            continue
        figures = {
            "cpu_ms": spread([one["cpu"] * 1000 for one in runs]),
            "worst_frame_ms": spread([one["worst"] * 1000 for one in runs]),
            "kilobytes": spread([one["bytes"] / 1000 for one in runs]),
        }
        result = {"library": name, "characters": size, "frames": runs[0]["frames"], **figures}
        own = name == "tailrace"
        if own and (others := seen["rich.Live", size]):
            result["cpu_ratio"] = ratio([other["cpu"] for other in others], [one["cpu"] for one in runs[: len(others)]])
        if own and size == sizes[1]:
            result["growth"] = ratio([one["cpu"] for one in runs], [one["cpu"] for one in seen[name, sizes[0]]])
        results.append(result)
        rows.append(
            [
                f"{size:6,} {name}",
                *(shown(figure, ",.1f") for figure in figures.values()),
                *(f"{result[key]['median']:.2f}" if key in result else "" for key in ("cpu_ratio", "growth")),
            ]
        )
    table(["characters", "CPU ms", "worst frame, ms", "KB written", "rich / ours", "growth"], rows)
    report("terminal", quick=quick, results=results)


if __name__ == "__main__":
    main()
