"""The run folder's life, and signals to a real process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from qkv.errors import UserError
from qkv.training import run
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy
from qkv.training.run import Status, start_or_resume

from . import kit

RECIPE = {"task": "g2p", "training": {"max_steps": 5, "learning_rate": 0.001}}


def test_new_resumed_finished(tmp_path):
    out = tmp_path / "deep/run"
    assert start_or_resume(out, RECIPE) is Status.NEW
    assert yaml.safe_load((out / "config.yaml").read_text()) == {"format_version": 1, **RECIPE}
    assert start_or_resume(out, RECIPE) is Status.RESUMED
    run.finish(out, {"step": 5})
    assert start_or_resume(out, RECIPE) is Status.FINISHED
    assert run.result(out) == {"step": 5}


def test_a_changed_config_is_refused_by_name_unless_fresh(tmp_path):
    start_or_resume(tmp_path, RECIPE)
    (tmp_path / "checkpoints/step-1").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("mine")
    changed = {"task": "g2p", "training": {"max_steps": 6, "learning_rate": 0.001}}
    with pytest.raises(UserError, match=r"another training\.max_steps; .*--fresh"):
        start_or_resume(tmp_path, changed)
    assert start_or_resume(tmp_path, changed, fresh=True) is Status.NEW
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "notes.txt"]


def test_a_run_that_never_learned_makes_room(tmp_path):
    start_or_resume(tmp_path, RECIPE)
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    changed = {**RECIPE, "task": "classify"}
    assert start_or_resume(tmp_path, changed) is Status.NEW
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"format_version": 1, **changed}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "notes.txt"]


@pytest.mark.parametrize("text", ["", "a: [", "format_version: 99\n"])
def test_a_config_that_cannot_be_read_is_a_sentence(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=r"config\.yaml.*--fresh"):
        start_or_resume(tmp_path, RECIPE)


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="is a file"):
        start_or_resume(tmp_path / "run", RECIPE)


def test_second_ctrl_c_quits_at_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), run.interrupts() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.number == signal.SIGINT
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_training_works_outside_the_main_thread(tmp_path):
    results = []
    arguments = (kit.model(), TokenCrossEntropy(), kit.Ragged(), kit.config(max_steps=1), tmp_path)
    thread = threading.Thread(target=lambda: results.append(fit(*arguments)))
    thread.start()
    thread.join()
    assert results[0].step == 1


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_and_exit(tmp_path, number, code):
    command = [sys.executable, "-m", "training.worker", "signalled", str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            assert process.stdout.readline() == "training\n"
        process.send_signal(number)
        printed = process.stdout.read()
    assert process.returncode == code
    assert signal.Signals(number).name in printed and "resumes" in printed
    [saved] = (tmp_path / "checkpoints").iterdir()
    assert saved.name.startswith("step-") and int(saved.name[5:]) >= 2
    assert not (tmp_path / "run.json").exists()
