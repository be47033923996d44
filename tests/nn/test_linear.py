"""Linear attention: its fast forms against its own definition, value and gradient, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from qkv.nn import Causal, Full, SameDocument, Tokens, View, Window
from qkv.nn.linear import Linear, features, linear_weights, step
from tests.nn.grid import close, example_tokens

B, T, H, D = 3, 9, 4, 6


def inputs(groups: int = H, length: int = T) -> list[Tensor]:
    shapes = [(B, H, length, D), (B, groups, length, D), (B, groups, length, D)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def run(tensors, view, block=4, need_weights=False, training=False, **options):
    kernel = Linear(block).build().train(training)
    return kernel(*tensors, view, need_weights=need_weights, **({"scale": 0.7, "dropout": 0.0} | options))


def textbook(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """One query at a time: φ(q)·φ(k) over the visible keys."""
    share, out = q.shape[1] // k.shape[1], []
    for b, h, t in torch.ones(q.shape[:3]).nonzero().tolist():
        seen = visible[b, t].nonzero().flatten()
        weights = features(k[b, h // share, seen]) @ features(scale * q[b, h, t])
        out.append((weights / weights.sum()) @ v[b, h // share, seen] if len(seen) else torch.zeros_like(q[b, h, t]))
    return torch.stack(out).view(q.shape)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("block", [1, 4, 64])
@pytest.mark.parametrize("padding", ["none", "right", "left"])
@pytest.mark.parametrize("mask", [Causal(), Full()], ids=["causal", "full"])
def test_equals_its_definition_in_value_and_gradient(mask, padding, block, groups):
    tokens, tensors = example_tokens(padding, B, T), inputs(groups)
    view = View(mask, tokens, tokens)
    visible = (mask(tokens, tokens)[:, 0] & tokens.valid[:, None, :]).expand(B, T, T)
    valid = tokens.valid[:, None, :, None]
    upstream = torch.randn(B, H, T, D, dtype=torch.float64) * valid
    expected = textbook(*tensors, visible, 0.7)
    got, weights = run(tensors, view, block, need_weights=True)
    close(got * valid, expected * valid)
    close((weights @ tensors[2].repeat_interleave(H // groups, 1)) * valid, expected * valid)
    for a, b in zip(
        torch.autograd.grad(got, tensors, upstream), torch.autograd.grad(expected, tensors, upstream), strict=True
    ):
        assert a.isfinite().all()
        close(a, b)


def test_the_recurrence_equals_the_parallel_form():
    q, k, v = inputs()
    tokens = Tokens.arange(B, T)
    state, outs = None, []
    for t in range(T):
        out, state = step(q[:, :, t], k[:, :, t], v[:, :, t], state, 0.7)
        outs.append(out)
    close(torch.stack(outs, 2), run((q, k, v), View(Causal(), tokens, tokens))[0])
    assert state[0].shape == (B, H, D, D) and state[1].shape == (B, H, D)


def test_one_new_token_sees_all_that_is_cached():
    q, k, v = inputs()
    tokens = Tokens.arange(B, T)
    whole = run((q, k, v), View(Causal(), tokens, tokens))[0]
    last = View(Causal(), Tokens.arange(B, 1, start=T - 1), tokens)
    close(run((q[:, :, -1:], k, v), last)[0], whole[:, :, -1:])


@pytest.mark.parametrize("mask", [Causal(), Full()])
def test_operations_grow_in_proportion_to_the_length(mask):
    counts = []
    for length in (64, 128):
        tokens = Tokens.arange(B, length)
        with FlopCounterMode(display=False) as counter:
            run(inputs(length=length), View(mask, tokens, tokens), block=16)
        counts.append(counter.get_total_flops())
    assert counts[1] == 2 * counts[0]


def test_rows_that_see_nothing_give_zeros():
    tokens = Tokens(torch.tensor([[0, 1], [-1, -1]]))
    q = k = v = torch.randn(2, 1, 2, D, dtype=torch.float64)
    view = View(Full(), tokens, tokens)
    assert run((q, k, v), view)[0][1].eq(0).all() and linear_weights(q, k, view, 1.0)[1].eq(0).all()


def test_refuses_what_a_state_cannot_express():
    tokens, tensors = example_tokens("none", B, T), inputs()
    for mask in (Window(2), Causal() & SameDocument(), Causal() & Window(3), ~Causal()):
        with pytest.raises(ValueError, match="no other mask"):
            run(tensors, View(mask, tokens, tokens))
    backwards = Tokens(tokens.pos.flip(1))
    with pytest.raises(ValueError, match="in their order"):
        run(tensors, View(Causal(), backwards, backwards))
    with pytest.raises(ValueError, match="bias"):
        run(tensors, View(Full(), tokens, tokens, lambda q, k: torch.zeros(1, H, T, T)))
    with pytest.raises(ValueError, match="dropout"):
        run(tensors, View(Full(), tokens, tokens), training=True, dropout=0.1)
    with pytest.raises(ValueError, match="at least one token"):
        Linear(0)
