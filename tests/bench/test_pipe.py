from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cells import Cell
from bench.contenders import Contender
from bench.pipe import Worker, WorkerError, environment
from bench.rounds import measure

CELL = Cell("decoding", "tiny", "fp32", 1, 10, prompt=4)


@pytest.fixture(autouse=True)
def fake_on_the_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


def fake(variant: str) -> Contender:
    return Contender(variant, "fake", ("decoding",), variant=variant)


def test_threads_are_fixed_before_any_import():
    assert {environment(3)[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {"3"}


def test_worker_answers_errors_and_lives_on_until_it_is_stopped():
    worker = Worker(fake("fast"), threads=1)
    try:
        with pytest.raises(WorkerError, match="unknown request 'dance'"):
            worker.ask("dance")
        built = worker.build(CELL, "")
        assert built["parameters"] == 7 and "torch" in built["versions"]
        assert worker.run(3)["seconds"] >= 0.015
        assert worker.ask("output") == {"output": [[1, 2, 3]]}
    finally:
        worker.stop()
    assert worker.process.returncode == 0


def test_a_cell_is_measured_in_turn_and_whoever_fails_is_reported():
    said: list[str] = []
    contenders = [fake(variant) for variant in ("slow", "absent", "dies", "fast")]
    entry = measure(CELL, contenders, threads=1, rounds=2, seconds=0.03, folder="", say=said.append)
    slow, fast = entry["contenders"]
    assert (slow["name"], fast["name"]) == ("slow", "fast")
    assert len(slow["rates"]) == len(fast["rates"]) == 2
    assert min(fast["rates"]) > max(slow["rates"])
    assert max(slow["rates"]) <= 10 / 0.02  # 10 tokens a step of 20 ms
    assert fast["repeats"] > slow["repeats"] >= 1
    reasons = {missing["name"]: missing["reason"] for missing in entry["absent"]}
    assert reasons["absent"] == "ImportError: No module named 'fake'"
    assert "ended with code 3" in reasons["dies"]
    turns = [line.split(" · ")[1] for line in said if "round" in line]
    assert turns == ["slow", "fast", "slow", "fast"]
