"""`training.processes`: one command, several processes, the update of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qkv.tasks import recipe as recipes
from qkv.tasks.train import train
from qkv.training.weights import load_weights

SHORT = ["training.processes=2", "training.threads=1", "training.max_steps=40", "training.log_every=5"]


def command(toy: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """The program, as a user starts it."""
    line = [sys.executable, "-m", "qkv", "train", str(toy / "toy.yaml"), *SHORT, *more, "--out", str(out)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_make_the_updates_of_one(toy: Path, tmp_path: Path) -> None:
    process = command(toy, tmp_path / "two")
    _, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    assert "finished (40 updates" in told
    train(recipes.load(str(toy / "toy.yaml"), SHORT), tmp_path / "one", say=lambda _: None)
    two, one = (load_weights(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    assert max(float((two[name] - one[name]).abs().max()) for name in one) < 1e-4


def test_a_signal_to_the_command_stops_all_and_the_command_resumes(toy: Path, tmp_path: Path) -> None:
    process = command(toy, tmp_path / "run", "training.max_steps=100000")
    _until(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and _lines(tmp_path / "run") > 2)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert told.count("the same command resumes") == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the companion in /proc")
def test_a_companion_that_dies_is_told_in_a_sentence(toy: Path, tmp_path: Path) -> None:
    process = command(toy, tmp_path / "run", "training.max_steps=100000")
    _until(lambda: (tmp_path / "run" / "metrics.jsonl").exists() and _lines(tmp_path / "run") > 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2, told
    assert "a process of this run ended" in told and "Traceback" not in told


def _lines(run: Path) -> int:
    return (run / "metrics.jsonl").read_text().count("\n")


def _until(holds) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.1)
