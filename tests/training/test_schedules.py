"""Multipliers against their closed forms."""

from __future__ import annotations

import math

import pytest

from qkv.config import parse
from qkv.training.schedules import Constant, Cosine, InverseSqrt, Linear, Noam, Schedule


def test_noam_is_the_papers_formula():
    d_model, warmup = 512, 4000
    peak = (d_model * warmup) ** -0.5
    for step in (1, 10, 3999, 4000, 4001, 100000):
        paper = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert peak * Noam(warmup)(step, 0.3) == pytest.approx(paper, rel=1e-12)


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("final", [0.0, 0.1])
def test_decays_counted_in_steps(warmup, final):
    last = 50
    for step in range(1, last + 1):
        done = max(0.0, (step - warmup) / (last - warmup))
        ramp = min(1.0, step / warmup) if warmup else 1.0
        cosine = final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
        linear = 1 - (1 - final) * done
        assert Cosine(warmup, final)(step, step / last) == pytest.approx(ramp * cosine, abs=1e-12)
        assert Linear(warmup, final)(step, step / last) == pytest.approx(ramp * linear, abs=1e-12)


@pytest.mark.parametrize("schedule", [Linear(10, 0.2), Cosine(10, 0.2)])
def test_decays_follow_progress_and_end_with_the_run(schedule):
    assert schedule(10, 0.4) == 1.0
    assert 0.2 < schedule(500, 0.5) < schedule(500, 0.4)
    assert schedule(12345, 1.0) == pytest.approx(0.2)


def test_constant_and_inverse_sqrt():
    assert [Constant(4)(s, 0) for s in (1, 2, 4, 9)] == [0.25, 0.5, 1, 1]
    assert Constant()(1, 0) == 1
    assert [InverseSqrt(100)(s, 0) for s in (1, 100, 400)] == [1, 1, 0.5]
    assert InverseSqrt(0)(4, 0) == 0.5


def test_names():
    assert parse(Schedule, {"cosine": {"warmup": 3}}) == Cosine(3)
    assert parse(Schedule, "noam") == Noam()
    assert parse(Schedule, "inverse_sqrt") == InverseSqrt()
