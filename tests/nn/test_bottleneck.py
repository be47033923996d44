"""Bottlenecks: nothing at first, whatever the initialisation; then the formula, before the norm and the residual."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qkv.models.config import EmbeddingConfig, StackConfig
from qkv.models.stack import Stack
from qkv.nn import BlockConfig, Bottleneck, FeedForward, Normal, Plain, Post, Pre, Sandwich, Tokens, Xavier
from qkv.nn.block import Residual

IDS = torch.randint(11, (2, 5), generator=torch.Generator().manual_seed(1))
TOKENS = Tokens.from_lengths([5, 3])


def stack(**changes) -> StackConfig:
    block = BlockConfig(feedforward=FeedForward(12), dropout=0.0, **changes)
    return StackConfig(d_model=8, n_layers=2, embedding=EmbeddingConfig(11, dropout=0.0), block=block)


@pytest.mark.parametrize("init", [Xavier(), Normal(depth_scaled=True)])
@pytest.mark.parametrize("placement", [Pre(), Post(), Sandwich()])
def test_a_fresh_bottleneck_changes_nothing(placement, init) -> None:
    plain = replace(stack(placement=placement), init=init)
    torch.manual_seed(0)
    narrow = Stack(replace(plain, block=replace(plain.block, bottleneck=Bottleneck(3))))
    other = Stack(plain)
    left = other.load_state_dict({n: t for n, t in narrow.state_dict().items() if ".bottleneck." not in n}, strict=True)
    assert not left.missing_keys
    assert torch.equal(narrow(IDS, TOKENS), other(IDS, TOKENS))
    own = sum(p.numel() for p in narrow.parameters()) - sum(p.numel() for p in other.parameters())
    assert own == 2 * 2 * (2 * 8 * 3 + 8 + 3)  # layers, sub-layers


def test_it_is_the_formula_and_stands_before_branch_norm_and_residual() -> None:
    torch.manual_seed(0)
    config = BlockConfig(placement=Sandwich(), dropout=0.0, bottleneck=Bottleneck(3))
    residual = Residual(config, 8).double()
    part = residual.bottleneck
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter)
    x, tokens = torch.randn(2, 5, 8, dtype=torch.float64), Tokens.arange(2, 5)
    slow = torch.empty_like(x)
    for b in range(2):
        for t in range(5):
            h = residual.inner(x, tokens)[b, t] * 2
            hidden = [torch.nn.functional.gelu(part.down[i] @ h + part.down_bias[i]) for i in range(3)]
            h = h + torch.stack([part.up[e] @ torch.stack(hidden) + part.up_bias[e] for e in range(8)])
            slow[b, t] = x[b, t] + residual.branch(h[None, None], tokens)[0, 0]
    torch.testing.assert_close(residual(x, lambda h: 2 * h, tokens), slow, rtol=0, atol=1e-12)


def test_the_first_gradient_is_that_of_the_way_up() -> None:
    torch.manual_seed(0)
    residual = Residual(BlockConfig(placement=Plain(), dropout=0.0, bottleneck=Bottleneck(3)), 8)
    residual(torch.randn(2, 5, 8), lambda h: h, Tokens.arange(2, 5)).square().sum().backward()
    part = residual.bottleneck
    assert part.up.grad.abs().min() > 0 and part.up_bias.grad.abs().min() > 0
    assert not part.down.grad.any() and not part.down_bias.grad.any()


def test_a_width_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        Bottleneck(0)
