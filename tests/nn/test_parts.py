"""Norms, feed-forward networks, and where a block puts its norms: against their equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qkv.nn import (
    AttentionConfig,
    BatchNorm,
    BlockConfig,
    DeepNorm,
    FeedForward,
    LayerNorm,
    MultiHead,
    NoFeedForward,
    NoNorm,
    Plain,
    Post,
    Pre,
    RMSNorm,
    Sandwich,
    Tokens,
)
from qkv.nn.block import Residual
from tests.nn.grid import close

E = 6


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    return module.double()


def test_layer_norm_is_its_equation():
    norm, x = randomised(LayerNorm(eps=0.1).build(E)), torch.randn(2, 3, E, dtype=torch.float64)
    centred = x - x.mean(-1, keepdim=True)
    close(norm(x), centred / (centred.square().mean(-1, keepdim=True) + 0.1).sqrt() * norm.weight + norm.bias)
    assert LayerNorm(bias=False).build(E).bias is None


def test_rms_norm_is_its_equation():
    norm, x = randomised(RMSNorm(eps=0.1).build(E)), torch.randn(2, 3, E, dtype=torch.float64)
    close(norm(x), x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * norm.weight)
    assert [name for name, _ in norm.named_parameters()] == ["weight"]


def test_no_norm_is_the_identity():
    x = torch.randn(2, 3, E)
    assert NoNorm().build(E)(x) is x


@pytest.mark.parametrize("side", ["right", "left"])
def test_batch_norm_has_statistics_of_valid_tokens_only(side):
    tokens = Tokens.from_lengths([4, 2, 1], side=side)
    x = torch.randn(3, 4, E, dtype=torch.float64)
    x[~tokens.valid] = 1e6
    norm = randomised(BatchNorm(eps=0.1, momentum=0.3).build(E))
    seen = x[tokens.valid]
    mean, variance = seen.mean(0), seen.var(0, unbiased=False)
    got = norm(x, tokens)
    close(got[tokens.valid], (seen - mean) / (variance + 0.1).sqrt() * norm.weight + norm.bias)
    close(norm.running_mean, 0.3 * mean)
    close(norm.running_var, 0.7 + 0.3 * seen.var(0))
    close(norm.eval()(x, tokens)[tokens.valid],
          (seen - norm.running_mean) / (norm.running_var + 0.1).sqrt() * norm.weight + norm.bias)  # fmt: skip


ACTIVATIONS = {
    "relu": lambda x: x.clamp_min(0),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_feed_forward_is_its_equation(activation, gated):
    network = FeedForward(10, activation, gated).build(E).double()
    x, phi = torch.randn(2, 3, E, dtype=torch.float64), ACTIVATIONS[activation]
    first, shift = network.up.weight, network.up.bias
    hidden = phi(x @ first[:10].T + shift[:10])
    if gated:
        hidden = hidden * (x @ first[10:].T + shift[10:])
    close(network(x), hidden @ network.down.weight.T + network.down.bias)


def test_feed_forward_options():
    assert FeedForward(10, bias=False).build(E).up.bias is None
    assert NoFeedForward().build(E) is None
    network = FeedForward(4000, dropout=0.5).build(1)
    nn.init.ones_(network.up.weight)
    nn.init.ones_(network.down.weight)
    nn.init.zeros_(network.up.bias), nn.init.zeros_(network.down.bias)
    x = torch.ones(1, 1, 1)
    assert network(x).item() != 4000 and abs(network(x).item() - 4000) < 400
    assert network.eval()(x).item() == 4000


def equation(placement, x, f, alpha):
    """Each placement as its paper writes it; `norm` is a layer norm with unit weights."""
    norm = lambda y: F.layer_norm(y, (E,))  # noqa: E731
    match placement:
        case Post():
            return norm(x + f(x))
        case Pre():
            return x + f(norm(x))
        case Sandwich():
            return x + norm(f(norm(x)))
        case DeepNorm():
            return norm(alpha * x + f(x))
        case Plain():
            return x + f(x)
    raise AssertionError(placement)


@pytest.mark.parametrize("placement", [Post(), Pre(), Sandwich(), DeepNorm(), Plain()], ids=lambda p: type(p).__name__)
def test_placements_are_their_equations(placement):
    x, matrix = torch.randn(2, 3, E, dtype=torch.float64), torch.randn(E, E, dtype=torch.float64)
    alpha = placement.constants(18, 2, 0)[0]
    residual = Residual(BlockConfig(placement=placement, dropout=0.0), E, alpha).double()
    f = lambda y: (y @ matrix).tanh()  # noqa: E731
    close(residual(x, f, Tokens.arange(2, 3)), equation(placement, x, f, alpha))


@pytest.mark.parametrize("placement", [Post(), Pre(), Sandwich(), DeepNorm(), Plain()], ids=lambda p: type(p).__name__)
def test_dropout_is_on_the_branch_and_not_on_the_skip_path(placement):
    residual = Residual(BlockConfig(placement=placement, norm=NoNorm(), dropout=0.5), 1000, alpha=3.0)
    x, branch = torch.full((1, 1, 1000), 10.0), torch.full((1, 1, 1000), 2.0)
    got = residual(x, lambda y: branch, Tokens.arange(1, 1))
    assert set(got.unique().tolist()) == {30.0, 34.0}
    assert set(residual.eval()(x, lambda y: branch, Tokens.arange(1, 1)).unique().tolist()) == {32.0}


def test_deep_norm_constants_are_table_2():
    n, m = 18, 6
    approx = pytest.approx
    assert DeepNorm().constants(n, 2, 0) == approx(((2 * n) ** 0.25, (8 * n) ** -0.25))
    assert DeepNorm().constants(m, 3, n) == approx(((3 * m) ** 0.25, (12 * m) ** -0.25))
    encoder = 0.81 * (n**4 * m) ** (1 / 16), 0.87 * (n**4 * m) ** (-1 / 16)
    assert DeepNorm().constants(n, 2, m) == approx(encoder)
    for placement in (Post(), Pre(), Sandwich(), Plain()):
        assert placement.constants(n, 3, m) == (1.0, 1.0)


def test_only_unbounded_streams_need_a_final_norm():
    assert [p.final for p in (Post(), Pre(), Sandwich(), DeepNorm(), Plain())] == [False, True, True, False, False]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: BlockConfig(dropout=1.0), "rate from 0 up to but not including 1"),
        (lambda: FeedForward(dropout=-0.1), "rate from 0"),
        (lambda: AttentionConfig(dropout=2.0), "rate from 0"),
        (lambda: AttentionConfig(MultiHead(0)), "at least one head"),
        (
            lambda: AttentionConfig(MultiHead(3)).width(8),
            "d_model 8 does not divide into 3 heads: set attention.d_head",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
