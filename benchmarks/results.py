"""Results that are kept: a JSON file that grows by one record a run, newest last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def append(path: Path, record: Record) -> None:
    """Adds a record to a file, which need not exist."""
    records = read(path) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(_text([*records, record]), encoding="utf-8")
    new.replace(path)


def read(path: Path) -> list[Record]:
    """Returns the records of a file, oldest first."""
    records: list[Record] = json.loads(path.read_text(encoding="utf-8"))
    return records


def newest(path: Path) -> dict[str, Record]:
    """Returns the last record of each benchmark, by its name."""
    return {record["benchmark"]: record for record in read(path)}


def _text(records: list[Record]) -> str:
    """JSON with a line for each key of a record and each of its results, so that a change can be read."""
    return "[\n" + ",\n".join(map(_record, records)) + "\n]\n"


def _record(record: Record) -> str:
    parts = []
    for key, value in record.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and value:
            lines = ",\n".join(f"   {json.dumps(item, ensure_ascii=False)}" for item in value)
            text = f"[\n{lines}\n  ]"
        parts.append(f"  {json.dumps(key)}: {text}")
    return " {\n" + ",\n".join(parts) + "\n }"
