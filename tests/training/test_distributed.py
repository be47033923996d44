"""Two processes are one process with twice the micro-batches; a run may change between them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from qkv.training import distributed
from qkv.training.distributed import World
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy
from qkv.training.weights import load_weights

from . import kit
from .worker import DISTRIBUTED


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def launch(*arguments, size=2):
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "training.worker", *map(str, arguments)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]


def alone(out):
    """The same run in this process. The config differs by `accumulate`, so the folder is told it does not."""
    model = kit.model(dtype=torch.float64)
    source = kit.Ragged(examples=30, rows=3)
    recipe = {"training": "distributed"}
    settings = replace(DISTRIBUTED, accumulate=2)
    return fit(model, TokenCrossEntropy(0.1), source, settings, out, evaluate=kit.validation_loss, run_config=recipe)


def test_two_ranks_are_one_process(tmp_path):
    processes = launch("ranks", tmp_path / "two")
    assert [p.wait(120) for p in processes] == [0, 0]
    alone(tmp_path / "one")
    ours, theirs = (load_weights(tmp_path / name / "model.safetensors") for name in ("two", "one"))
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in ours) < 1e-12
    for a, b in zip(kit.metrics(tmp_path / "two"), kit.metrics(tmp_path / "one"), strict=True):
        assert a.pop("kind") == b.pop("kind")
        assert a == pytest.approx(b, rel=1e-9)
    rng = load_weights(tmp_path / "two/checkpoints/step-7/rng.safetensors")
    assert not torch.equal(rng["torch/0"], rng["torch/1"])


@pytest.mark.parametrize("where", ["evaluation", "checkpoint"])
def test_a_failure_of_rank_0_alone_stops_all(tmp_path, where):
    processes = launch("failing", tmp_path, where)
    try:
        assert [p.wait(60) for p in processes] == [0, 0]
    finally:
        for p in processes:
            p.kill()
    assert (tmp_path / "rank-0").read_text() == "of rank 0 alone"
    assert "another process of this run failed" in (tmp_path / "rank-1").read_text()


def test_buckets_hold_every_gradient_once():
    gradients = [torch.zeros(n) for n in (1, 9, 3)] + [torch.zeros(2, dtype=torch.float64)]
    limit, distributed.BUCKET_BYTES = distributed.BUCKET_BYTES, 40
    try:
        buckets = distributed._buckets(gradients)
    finally:
        distributed.BUCKET_BYTES = limit
    assert [[g.numel() for g in bucket] for bucket in buckets] == [[1, 9], [3], [2]]


def test_a_weight_that_one_process_did_not_use_is_sent_as_zero(monkeypatch):
    sent = []
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda flat: sent.append(flat.tolist()))
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    used.grad = torch.full((2,), 5.0)
    World(0, 2).sum_gradients([used, unused])
    assert sent == [[5.0, 5.0, 0.0, 0.0, 0.0]]


def test_alone_everything_is_a_no_op():
    p, world = nn.Parameter(torch.ones(2)), World()
    world.sum_gradients([p])
    with pytest.raises(KeyError), world.together():
        raise KeyError
    assert p.grad is None and world.main
    assert world.sum({"a": 2.0}) == {"a": 2.0}
    assert distributed.start(torch.device("cpu")) == world
