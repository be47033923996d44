"""Dropout's statistics and the initial weights' distributions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from qkv.nn import (
    AttentionConfig,
    Block,
    BlockConfig,
    FeedForward,
    GroupedQuery,
    NoPosition,
    Normal,
    Xavier,
)
from qkv.nn.dropout import dropout, dropout_add, keep_mask
from qkv.nn.init import shrink_branches
from qkv.nn.positions import PositionShape

SIZE = 400_000


@pytest.mark.parametrize("rate", [0.001, 0.1, 1 / 3, 0.5, 0.9, 0.999])
def test_keep_mask_drops_at_its_rate_with_mean_one(rate):
    factors = keep_mask(torch.empty(SIZE, dtype=torch.float64), rate)
    dropped = factors.eq(0).double().mean().item()
    exact = round(rate * 65536) / 65536
    assert abs(exact - rate) <= 2**-17
    assert abs(dropped - exact) < 4 * math.sqrt(rate * (1 - rate) / SIZE)
    assert factors[factors != 0].unique().item() == pytest.approx(1 / (1 - exact))
    assert factors.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(rate / (1 - rate) / SIZE))


def test_the_expectation_is_exact_over_all_levels(monkeypatch):
    """Every 16-bit number once: the count of dropped ones is exactly the rounded rate, the mean exactly 1."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda self, *bounds: self.copy_(every))
    for rate in (0.1, 0.3, 2**-16, 1 - 2**-16):
        factors = keep_mask(torch.empty(65536, dtype=torch.float64), rate)
        assert factors.eq(0).sum().item() == round(rate * 65536)
        assert factors.mean().item() == pytest.approx(1.0, abs=1e-12)


def test_neighbours_are_independent():
    """Four elements share one draw; their bits must not."""
    kept = keep_mask(torch.empty(SIZE, dtype=torch.float64), 0.5).ne(0).double().view(-1, 4) - 0.5
    correlation = kept.T @ kept / (len(kept) / 4)
    assert (correlation - torch.eye(4)).abs().max() < 5 / math.sqrt(len(kept))


@pytest.mark.parametrize("shape", [(0,), (1,), (3,), (2, 3, 5), (4, 4)])
def test_any_shape_and_dtype(shape):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        mask = keep_mask(torch.empty(shape, dtype=dtype), 0.3)
        assert mask.shape == shape and mask.dtype == dtype


def test_the_seed_decides_and_nothing_else():
    x, branch = torch.randn(50, 7), torch.randn(50, 7)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append((dropout(x, 0.4, True), dropout_add(x, branch, 0.4, True)))
    assert results[0][0].equal(results[1][0]) and results[0][1].equal(results[1][1])
    assert not dropout(x, 0.4, True).equal(results[0][0])


def test_off_in_evaluation_and_at_rate_zero():
    x, branch = torch.randn(5), torch.randn(5)
    state = torch.get_rng_state()
    assert dropout(x, 0.4, False) is x and dropout(x, 0.0, True) is x
    assert dropout_add(x, branch, 0.4, False).equal(x + branch)
    assert torch.get_rng_state().equal(state), "nothing is drawn"


def test_dropout_add_is_the_sum_and_its_gradients():
    x, branch = torch.randn(9, 9, requires_grad=True), torch.randn(9, 9, requires_grad=True)
    torch.manual_seed(1)
    got = dropout_add(x, branch, 0.4, True)
    torch.manual_seed(1)
    factors = keep_mask(branch, 0.4)
    assert torch.allclose(got, x + branch * factors)
    gx, gb = torch.autograd.grad(got.sum(), (x, branch))
    assert gx.eq(1).all() and gb.equal(factors)


@pytest.mark.parametrize("branch_dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_the_residual_stream_keeps_its_precision(branch_dtype):
    x, branch = torch.full((64,), 1.0 + 2**-20), torch.ones(64, dtype=branch_dtype)
    got = dropout_add(x, branch, 0.5, True)
    assert got.dtype == torch.float32 and set(got.unique().tolist()) == {1 + 2**-20, 3 + 2**-20}


E, H, G, D, F = 64, 4, 2, 24, 200


def block(gated: bool = False, cross: bool = True) -> Block:
    config = BlockConfig(AttentionConfig(GroupedQuery(H, G), d_head=D), FeedForward(F, gated=gated))
    return Block(config, E, NoPosition().build(PositionShape(E, H, D)), cross)


def spread(weight: torch.Tensor) -> float:
    return weight.std().item()


@pytest.mark.parametrize("gated", [False, True])
def test_xavier_has_the_variance_of_each_matrix_and_not_of_the_fused_product(gated):
    layer = block(gated)
    Xavier(gain=0.5).apply(layer)
    sizes = {
        "query": (E, H * D),
        "key": (E, G * D),
        "value": (E, G * D),
        "out": (H * D, E),
        "up": (E, F),
        "down": (F, E),
    }
    q, k, v = layer.attention.query_key_value.weight.split([H * D, G * D, G * D])
    cross_k, cross_v = layer.cross.key_value.weight.chunk(2)
    found = [("query", q), ("key", k), ("value", v), ("query", layer.cross.query.weight), ("key", cross_k)]
    found += [("value", cross_v), ("out", layer.attention.out.weight), ("out", layer.cross.out.weight)]
    found += [("up", part) for part in layer.feedforward.up.weight.split(F)] + [("down", layer.feedforward.down.weight)]
    for name, weight in found:
        bound = 0.5 * math.sqrt(6 / sum(sizes[name]))
        assert spread(weight) == pytest.approx(bound / math.sqrt(3), rel=0.05), name
        assert 0.98 * bound < weight.abs().max().item() <= bound, name


def test_normal_has_its_deviation_and_scales_residual_outputs_by_depth():
    layers = nn.ModuleList(block(cross=False) for _ in range(4))
    Normal(0.1, depth_scaled=True).apply(layers)
    for layer in layers:
        assert spread(layer.attention.query_key_value.weight) == pytest.approx(0.1, rel=0.05)
        for weight in (layer.attention.out.weight, layer.feedforward.down.weight):
            assert spread(weight) == pytest.approx(0.1 / math.sqrt(2 * 4), rel=0.05)


@pytest.mark.parametrize("init", [Xavier(), Normal()])
def test_biases_start_at_zero_and_norms_at_one(init):
    layer = block()
    init.apply(layer)
    for name, parameter in layer.named_parameters():
        if name.endswith("bias"):
            assert parameter.eq(0).all(), name
        elif "residual" in name:
            assert parameter.eq(1).all(), name


def test_shrinking_touches_values_outputs_and_feed_forward_only():
    layer = block()
    before = {name: p.clone() for name, p in layer.named_parameters()}
    shrink_branches(layer, 0.25)
    after = dict(layer.named_parameters())
    queries_and_keys = (H + G) * D
    for name in ("attention.out", "cross.out", "feedforward.up", "feedforward.down"):
        assert after[f"{name}.weight"].equal(0.25 * before[f"{name}.weight"])
    for name, first_value in (("attention.query_key_value", queries_and_keys), ("cross.key_value", G * D)):
        old, new = before[f"{name}.weight"], after[f"{name}.weight"]
        assert new[:first_value].equal(old[:first_value]) and new[first_value:].equal(0.25 * old[first_value:])
    assert after["cross.query.weight"].equal(before["cross.query.weight"])
