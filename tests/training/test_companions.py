"""Processes that a command starts beside itself: their ranks, their end, and what is told when one fails."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qkv.errors import UserError
from qkv.training import companions as room
from qkv.training.companions import companions
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy
from qkv.training.optim import Sgd
from qkv.training.weights import weights

from . import kit


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Instead of `qkv`, companions run a program that writes down its rank and who it takes for its peers."""
    (tmp_path / "qkv.py").write_text(
        "import os, pathlib, sys, time\n"
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR')\n"
        "time.sleep(float(sys.argv[1]))\n"
        f"place = pathlib.Path({str(tmp_path)!r}) / ('rank-' + os.environ['RANK'])\n"
        "place.write_text(' '.join(os.environ[name] for name in names))\n"
        "sys.exit('error: the reason' if sys.argv[2:] else 0)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


def test_every_companion_has_its_rank_and_an_end(told: Path) -> None:
    before = dict(os.environ)
    with companions(3, ["0.2"]):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("0", "3")
    assert os.environ == before
    texts = {path.name: path.read_text() for path in told.glob("rank-*")}
    assert texts == {"rank-1": "1 1 3 127.0.0.1", "rank-2": "2 2 3 127.0.0.1"}


def test_nothing_is_started_where_one_is_asked_for_or_another_has_started_us(
    told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with companions(1, ["0"]):
        assert "RANK" not in os.environ
    monkeypatch.setenv("WORLD_SIZE", "2")
    with companions(2, ["0"]):
        assert "MASTER_PORT" not in os.environ
    assert not list(told.glob("rank-*"))


def test_a_companion_that_failed_is_quoted(told: Path) -> None:
    sentence = "a process of this run ended: the reason; the same command resumes"
    with pytest.raises(UserError, match=sentence), companions(2, ["0", "fail"]):
        raise RuntimeError("the connection was closed")


def test_an_error_of_our_own_stays_ours(told: Path) -> None:
    with pytest.raises(RuntimeError, match="our own"), companions(2, ["0"]):
        raise RuntimeError("our own")


def test_one_that_hangs_is_told_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.2)
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    room._end(process)
    assert process.returncode is not None and time.monotonic() - start < 10


def test_one_process_alone_does_the_work_of_all(tmp_path: Path) -> None:
    """`processes: 2` without a companion is two micro-batches an update."""
    found = []
    for settings in ({"processes": 2}, {"accumulate": 2}):
        model = kit.model()
        config = kit.config(max_steps=2, optimizer=Sgd(), **settings)
        fit(model, TokenCrossEntropy(), kit.Ragged(), config, tmp_path / next(iter(settings)))
        found.append(weights(model))
    assert all(found[0][name].equal(found[1][name]) for name in found[1])
