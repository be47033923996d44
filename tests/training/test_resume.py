"""A run killed at any moment ends as if it had not been: weights, optimizer, average, generators, log; bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qkv.training import checkpoint, journal, rng, run, session
from qkv.training import fit as fit_module
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy
from qkv.training.optim import Muon
from qkv.training.schedules import Cosine

from . import kit

SETTINGS = kit.config(
    max_steps=9, accumulate=2, ema_decay=0.9, schedule=Cosine(3), log_every=2, eval_every=3, checkpoint_every=2
)


def train(out, settings=SETTINGS, loss=None):
    return fit(
        kit.model(0.2), loss or TokenCrossEntropy(0.1), kit.Ragged(), settings, out, evaluate=kit.validation_loss
    )


def die_at_call(number, owner, name):
    """Have the process kill itself, as kill -9 does, when owner.name is called for the n-th time."""
    original, calls = getattr(owner, name), [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def in_child(function, *args):
    process = multiprocessing.get_context("fork").Process(target=function, args=args)
    process.start()
    process.join(60)
    return process.exitcode


def killed(out, number, owner, name):
    def run():
        die_at_call(number, owner, name)
        train(out)

    assert in_child(run) == -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    train(out)
    return out


def assert_same(out, whole):
    files = ["model.safetensors"]
    files += [f"checkpoints/step-9/{name}.safetensors" for name in ("model", "optimizer", "ema", "rng")]
    for name in files:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
    assert kit.metrics(out) == kit.metrics(whole)
    one, other = (json.loads((folder / "checkpoints/step-9/state.json").read_text()) for folder in (out, whole))
    clock = {"elapsed", "logged"}
    assert {k: v for k, v in one.items() if k not in clock} == {k: v for k, v in other.items() if k not in clock}
    left = {p.name for p in (out / "checkpoints").iterdir()}
    assert left == {p.name for p in (whole / "checkpoints").iterdir()}


MOMENTS = {
    "before the first checkpoint": (1, checkpoint, "write"),
    "between two micro-batches": (10, TokenCrossEntropy, "__call__"),
    "with half of a checkpoint's files": (6, checkpoint, "save_weights"),
    "before the checkpoint's flush": (9, checkpoint, "_flush"),
    "before the rename": (3, os, "rename"),
    "after the rename, before pruning": (3, checkpoint, "prune"),
    "while writing the best weights": (3, checkpoint, "replace_file"),
    "while cutting the log": (1, journal, "cut"),
    "in an evaluation": (2, kit, "validation_loss"),
    "while choosing the final weights": (1, session.Session, "_choose"),
    "just before the run is marked finished": (1, run, "finish"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed(tmp_path, uninterrupted, moment):
    killed(tmp_path, *MOMENTS[moment])
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


def test_the_state_of_muon_is_resumed(tmp_path):
    settings = replace(SETTINGS, optimizer=Muon(), ema_decay=None)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    train(whole, settings)

    def run():
        die_at_call(6, fit_module, "update")
        train(out, settings)

    assert in_child(run) == -signal.SIGKILL
    train(out, settings)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_killed_again_and_again(tmp_path, uninterrupted):
    for _ in range(4):
        killed(tmp_path, 3, fit_module, "update")
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


def test_killed_from_outside_at_odd_times(tmp_path, uninterrupted):
    context = multiprocessing.get_context("fork")
    for delay in (0.05, 0.11, 0.17, 0.23):
        process = context.Process(target=train, args=(tmp_path,))
        process.start()
        time.sleep(delay)
        process.kill()
        process.join(60)
    train(tmp_path)
    assert_same(tmp_path, uninterrupted)


def test_another_seed_ends_elsewhere(tmp_path, uninterrupted):
    """The control of all of the above: dropout does matter to the result."""
    train(tmp_path, replace(SETTINGS, seed=1))
    ours, theirs = tmp_path / "model.safetensors", uninterrupted / "model.safetensors"
    assert ours.read_bytes() != theirs.read_bytes()


def test_a_damaged_newest_checkpoint_falls_back(tmp_path, uninterrupted):
    killed(tmp_path, 7, fit_module, "update")  # checkpoints 4 and 6
    weights = tmp_path / "checkpoints/step-6/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.warns(UserWarning, match="step-6.*model.safetensors is damaged"):
        train(tmp_path)
    assert_same(tmp_path, uninterrupted)


def test_the_clock_goes_on(tmp_path, monkeypatch):
    """max_minutes counts the seconds of all sessions, but none between them, and the schedule follows."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(session, "time", clock)

    class Second(TokenCrossEntropy):
        """A loss that takes a second by that clock."""

        def __call__(self, model, batch):
            clock.now += 1.0
            return super().__call__(model, batch)

    settings = kit.config(max_steps=None, max_minutes=20 / 60, schedule=Cosine(), checkpoint_every=1, log_every=1)

    def first_session():
        die_at_call(8, fit_module, "update")
        train(tmp_path / "a", settings, Second())

    assert in_child(first_session) == -signal.SIGKILL
    assert checkpoint.read(checkpoint.latest_valid(tmp_path / "a/checkpoints"))[1]["elapsed"] == 7
    clock.now = 1000.0
    result = train(tmp_path / "a", settings, Second())
    assert (result.step, result.elapsed, result.reason) == (20, 20.0, "max_minutes")
    rates = [line["learning_rate"] for line in kit.metrics(tmp_path / "a") if line["kind"] == "train"]
    expected = [settings.learning_rate * settings.schedule(n + 1, n / 20) for n in range(20)]
    assert rates == pytest.approx(expected, rel=1e-9)
    assert train(tmp_path / "b", settings, Second()) == result
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_generators_come_back():
    random.gauss(0, 1)  # leaves a second number behind
    states = rng.capture(torch.device("cpu"))

    def draw():
        return torch.rand(3).tolist(), random.gauss(0, 1), random.random(), np.random.standard_normal(3).tolist()

    first = draw()
    assert draw() != first
    rng.restore(states, torch.device("cpu"))
    assert draw() == first
