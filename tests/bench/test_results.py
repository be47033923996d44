from __future__ import annotations

import json

import pytest
import torch

from bench import cells, report, results_file
from bench.machine import computes_bf16, describe


def contender(name: str, role: str, rates: list[float], output: list[list[int]] | None = None) -> dict:
    facts = {"parameters": 1000, "peak_bytes": 2_000_000, "versions": {"torch": "2"}, "note": ""}
    return facts | {"name": name, "role": role, "rates": rates, "output": output}


def entry(name: str, kind: str, *contenders: dict) -> dict:
    return {"name": name, "cell": {"kind": kind}, "contenders": list(contenders), "absent": []}


def record(date: str, *entries: dict) -> dict:
    return describe(threads=1, rounds=2) | {"date": date, "cells": list(entries)}


def test_results_survive_the_round_trip_and_the_newest_measurement_of_a_cell_wins(tmp_path):
    old = record("2026-01-01T00:00:00Z", entry("a", "training"), entry("b", "training"))
    new = record("2026-01-02T00:00:00Z", entry("a", "training", contender("qkv", "ours", [2.0, 3.0])))
    results_file.write(new, tmp_path / "new.json")
    results_file.write(old, tmp_path / "old.json")
    assert results_file.read(tmp_path / "new.json") == json.loads(json.dumps(new))
    newest = results_file.newest(tmp_path)
    latest = {cell["name"]: (head["date"][:10], len(cell["contenders"])) for head, cell in newest}
    assert latest == {"a": ("2026-01-02", 1), "b": ("2026-01-01", 0)}
    assert not list(tmp_path.glob("*.tmp"))


def test_unknown_format_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"format_version": 2}')
    with pytest.raises(ValueError, match="format_version 2"):
        results_file.read(tmp_path / "x.json")


def test_markdown_holds_ratios_agreement_and_verdicts(tmp_path):
    cell = entry(
        "d",
        "decoding",
        contender("qkv", "ours", [20.0, 40.0], [[1, 2]]),
        contender("Hugging Face", "peer", [10.0, 20.0], [[1, 2]]),
        contender("CTranslate2", "peer", [40.0, 80.0], [[1, 3]]),
        contender("CTranslate2 int8", "information", [400.0, 800.0], [[1, 3]]),
    )
    cell["absent"] = [{"name": "x-transformers", "reason": "not installed"}]
    results_file.write(record("2026-01-01T00:00:00Z", cell), tmp_path / "r.json")
    text = report.rewrite(tmp_path).read_text()
    assert "| Hugging Face | 15 | 2.00 (2.00-2.00) | 1,000 | 2 | 100.0% of tokens, 100.0% a step |" in text
    assert "| CTranslate2 | 60 | 0.50 (0.50-0.50) | 1,000 | 2 | 50.0% of tokens, 50.0% a step |" in text
    assert "d: qkv ÷ best peer (CTranslate2) = 0.50 (0.50-0.50)" in text  # int8 is no peer
    assert "qkv ÷ Hugging Face = 2.00 in the geometric mean (target 1.6), 2.00 in the worst cell" in text
    assert "Without x-transformers: not installed" in text


def test_cells_are_those_asked_for_and_have_2048_training_targets():
    training = cells.choose(["training"], ["tiny", "base", "gpt"], ["fp32", "bf16"])
    assert len(training) == 6 and {cell.tokens for cell in training} == {2048}
    decoding = cells.choose(["decoding"], ["gpt"], ["fp32"])
    assert [(cell.size, cell.batch) for cell in decoding] == [("gpt", 1), ("gpt", 16)]
    names = [cell.name for cell in cells.choose(["training", "decoding", "encoder"], ["tiny", "base", "gpt"], ["fp32"])]
    assert len(set(names)) == len(names)


def test_all_contenders_are_fed_the_same_ordinary_ids():
    cell = cells.decoding_cells()[1]
    first, second = (cells.random_ids(cell, 32, 100, 0) for _ in range(2))
    assert torch.equal(first, second) and not torch.equal(first, cells.random_ids(cell, 32, 100, 1))
    assert first.min() >= 4 and first.max() < cell.dimensions.pad


def test_bf16_is_measured_by_default_only_where_the_processor_has_it():
    assert computes_bf16(["avx512f", "avx512_bf16"]) and not computes_bf16(["avx2", "avx512_vnni"])
