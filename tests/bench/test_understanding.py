"""The bench of understanding: cells are measured once, tables stand between their own marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.understanding.records import Results, publish, spread, table


def test_a_cell_is_measured_once_and_survives(tmp_path: Path) -> None:
    asked: list[int] = []

    def make(seed: int) -> dict[str, Any]:
        asked.append(seed)
        return {"accuracy": 0.5 + seed / 10}

    first = Results("toy", tmp_path / "runs", folder=tmp_path)
    assert [cell["accuracy"] for cell in first.seeds("x", make)] == [0.5, 0.6, 0.7]
    again = Results("toy", tmp_path / "runs", folder=tmp_path)
    assert spread(again.seeds("x", make), "accuracy") == "60.0 (50.0 … 70.0)"
    assert asked == [0, 1, 2]
    assert "cores" in again.machine()


def test_without_measuring_a_missing_cell_is_empty(tmp_path: Path) -> None:
    results = Results("toy", tmp_path, measure=False, folder=tmp_path)
    assert results.seeds("x", lambda seed: {"a": 1}) == [] and spread([], "a") == "–"
    assert not results.path.exists()


def test_parts_leave_each_other_alone(tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    publish("one", table(["a"], [["1"]]), report)
    publish("two", "second", report)
    publish("one", "first", report)
    text = report.read_text(encoding="utf-8")
    assert text.startswith("# Results") and text.index("first") < text.index("second") and "| 1 |" not in text
