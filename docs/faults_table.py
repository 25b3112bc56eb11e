"""Writes the table of docs/faults.md: ``python docs/faults_table.py`` (``--check`` only compares)."""

from __future__ import annotations

import sys
from pathlib import Path

from tailrace.testing import Misbehaviour, misbehaviours

PAGE = Path(__file__).with_name("faults.md")
START, END = "<!-- misbehaviours: written by docs/faults_table.py -->\n", "<!-- end of the misbehaviours -->\n"


def draw() -> str:
    """Returns the table, with one row for what servers of both kinds do."""
    rows: dict[tuple[str, str], list[Misbehaviour]] = {}
    for case in misbehaviours():
        rows.setdefault((case.id, case.does), []).append(case)
    lines = ["| id | a server that … | wire | outcome | text kept |", "|---|---|---|---|---|"]
    for (id, does), cases in rows.items():
        wire = "both" if len(cases) == 2 else {"ollama": "Ollama's", "openai": "OpenAI's"}[cases[0].wire]
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in cases[0].text)
        lines.append(f"| {id} | {does} | {wire} | `{cases[0].outcome}` | {text} |")
    return "\n".join([*lines, ""])


def main() -> int:
    """Rewrites the page, or says that it is stale."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    new = before + START + draw() + END + after
    if "--check" in sys.argv[1:]:
        return int(new != text)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
