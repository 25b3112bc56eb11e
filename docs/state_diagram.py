"""Draws the state table into docs/architecture.md: ``python docs/state_diagram.py`` (``--check`` only compares)."""

from __future__ import annotations

import sys
from pathlib import Path

from tailrace.run.state import TABLE

PAGE = Path(__file__).with_name("architecture.md")
START, END = "<!-- state table: drawn by docs/state_diagram.py -->\n", "<!-- end of the state table -->\n"


def draw() -> str:
    """Returns the table as a Mermaid diagram; rows that lead nowhere new are left out."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> NEW"]
    for state, row in TABLE.items():
        for target in dict.fromkeys(row.values()):
            signals = [signal.value for signal, to in row.items() if to is target]
            if target is not state:
                lines.append(f"    {state.name} --> {target.name}: {' / '.join(signals)}")
    return "\n".join([*lines, "    ENDED --> [*]", "```", ""])


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
