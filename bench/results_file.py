"""Results on disk: one JSON file a run and kind, rewritten after every cell: an interruption loses nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

NUMBERS = re.compile(r"\[[\d\s,.+eE-]+\]")


def write(record: dict[str, Any], path: Path) -> None:
    """Replaces the file in one go. A list of numbers, such as a sentence of ids, stands on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    text = NUMBERS.sub(_on_one_line, json.dumps(record, indent=1, ensure_ascii=False))
    fresh.write_text(text + "\n")
    fresh.replace(path)


def read(path: Path) -> dict[str, Any]:
    """A results file.

    Raises:
        ValueError: its format is not the one that this code knows.
    """
    record = json.loads(path.read_text())
    if record.get("format_version") != 1:
        raise ValueError(f"{path} has format_version {record.get('format_version')}, but this code reads 1")
    return record


def newest(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The latest measurement of every cell, as pairs (head of its file, cell), in the order first measured."""
    records = sorted((read(path) for path in folder.glob("*.json")), key=lambda record: record["date"])
    latest = {cell["name"]: (record, cell) for record in records for cell in record["cells"]}
    return list(latest.values())


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[0][1:-1].split())}]"
