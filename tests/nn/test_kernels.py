"""All kernels compute one function: value and gradient, under every mask, bias, grouping and padding."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import Bool, Float, jaxtyped
from torch import Tensor

from qkv.nn import Causal, Chunked, Einsum, Explicit, Full, Fused, PerHead, Tokens, View
from tests.nn.grid import close, example_tokens, label, masks, pairwise

B, T, H, D = 3, 9, 4, 6
KERNELS = {"per-head": PerHead(), "einsum": Einsum(), "fused": Fused(), "chunked": Chunked(4), "one-tile": Chunked(64)}
GRID = pairwise(
    kernel=["einsum", "fused", "chunked", "one-tile"],
    mask=list(masks()),
    padding=["none", "right", "left", "both"],
    groups=["4", "2", "1"],
    bias=["no bias", "bias", "bias per row"],
)


@jaxtyped(typechecker=beartype)
def textbook(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B G S D"],
    v: Float[Tensor, "B G S D"],
    visible: Bool[Tensor, "B H T S"],
    bias: Float[Tensor, "B H T S"],
    scale: float,
) -> tuple[Float[Tensor, "B H T D"], Float[Tensor, "B H T S"]]:
    """softmax(scale·qkᵀ + bias) over the visible keys, one query at a time; nothing visible gives zeros."""
    out, weights = torch.zeros_like(q), torch.zeros_like(bias)
    share = q.shape[1] // k.shape[1]
    for b, h, t in torch.ones(q.shape[:3]).nonzero().tolist():
        seen = visible[b, h, t].nonzero().flatten()
        if len(seen):
            scores = scale * k[b, h // share, seen] @ q[b, h, t] + bias[b, h, t, seen]
            weights[b, h, t, seen] = scores.softmax(0)
            out[b, h, t] = scores.softmax(0) @ v[b, h // share, seen]
    return out, weights


def inputs(groups: int, keys: int = T) -> list[Tensor]:
    shapes = [(B, H, T, D), (B, groups, keys, D), (B, groups, keys, D)]
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def view_of(row: dict, bias: Tensor | None = None) -> View:
    """A view of example tokens; a bias is looked up by a number that each token carries, as a real one is."""
    tokens = example_tokens(row["padding"], B, T)
    tokens = tokens.with_fields(index=torch.arange(T).expand(B, T))

    def look_up(q: Tokens, k: Tokens) -> Tensor:
        return bias[:, :, q.get("index")[0]][..., k.get("index")[0]]

    return View(masks(B, T, H)[row["mask"]], tokens, tokens, None if bias is None else look_up)


def bias_of(row: dict) -> Tensor | None:
    rows = {"no bias": 0, "bias": 1, "bias per row": B}[row["bias"]]
    return torch.randn(rows, H, T, T, dtype=torch.float64, requires_grad=True) if rows else None


def run(kernel, tensors, view, **options):
    return kernel.build()(*tensors, view, **({"scale": 0.7, "dropout": 0.0, "need_weights": True} | options))


@pytest.mark.parametrize("row", GRID, ids=label)
def test_kernels_equal_the_loop_over_heads(row):
    tensors, bias = inputs(int(row["groups"])), bias_of(row)
    wanted = tensors if bias is None else [*tensors, bias]
    valid = view_of(row).q.valid[:, None, :, None]
    upstream = torch.randn(B, H, T, D, dtype=torch.float64) * valid
    results = []
    for kernel in (PerHead(), KERNELS[row["kernel"]]):
        out, weights = run(kernel, tensors, view_of(row, bias))
        grads = torch.autograd.grad(out, wanted, upstream, allow_unused=True)
        results.append((out, weights, [torch.zeros(1) if g is None else g for g in grads]))
    (out, weights, grads), (other, other_weights, other_grads) = results
    close(out * valid, other * valid)
    close(weights * valid, other_weights * valid)
    for expected, got in zip(grads, other_grads, strict=True):
        assert got.isfinite().all()
        close(expected.expand_as(got), got.expand_as(expected))


@pytest.mark.parametrize("mask", masks())
def test_the_loop_over_heads_equals_the_textbook(mask):
    row = {"mask": mask, "padding": "right"}
    tensors, view = inputs(2), view_of(row)
    visible = view.dense()[0]
    visible = torch.ones(B, H, T, T, dtype=torch.bool) if visible is None else visible.expand(B, H, T, T)
    out, weights = textbook(*tensors, visible, torch.zeros(B, H, T, T, dtype=torch.float64), 0.7)
    got, got_weights = run(PerHead(), tensors, view)
    close(got, out)
    close(got_weights, weights)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel", KERNELS)
def test_grouped_heads_interleave_as_in_torch(kernel, groups):
    """Tiling the key heads instead of repeating each keeps every invariant; only an oracle sees it."""
    q, k, v = inputs(groups)
    tokens = Tokens.arange(B, T)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    close(run(KERNELS[kernel], (q, k, v), View(Causal(), tokens, tokens), scale=D**-0.5)[0], expected)


@pytest.mark.parametrize("kernel", sorted(KERNELS))
def test_a_scale_of_zero_averages_what_is_visible(kernel):
    q, k, v = (torch.randn(2, 2, 5, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    tokens = Tokens.arange(2, 5)
    out = run(KERNELS[kernel], (q, k, v), View(Causal(), tokens, tokens), scale=0.0)[0]
    close(out, torch.stack([v[:, :, : t + 1].mean(2) for t in range(5)], 2))
    out.square().sum().backward()
    assert all(x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_query_that_sees_nothing_gives_zeros_and_finite_gradients(kernel, dtype):
    tensors = [t.detach().to(dtype).requires_grad_() for t in inputs(2)]
    tokens = Tokens.arange(B, T)
    visible = torch.ones(B, 1, T, T, dtype=torch.bool)
    visible[:, :, 3] = False
    visible[1] = False
    out, weights = run(KERNELS[kernel], tensors, View(Explicit(visible), tokens, tokens))
    assert out[:, :, 3].eq(0).all() and out[1].eq(0).all() and weights[1].eq(0).all()
    assert out[0, :, 2].ne(0).all()
    grads = torch.autograd.grad(out.sum(), tensors)
    assert all(g.isfinite().all() for g in grads)
    assert grads[0][:, :, 3].eq(0).all() and all(g[1].eq(0).all() for g in grads)


@pytest.mark.parametrize("kernel", KERNELS)
def test_hidden_keys_do_not_leak_however_large(kernel):
    q, k, v = (t.detach() for t in inputs(4))
    tokens = example_tokens("right", B, T)
    view = View(Causal(), tokens, tokens)
    before = run(KERNELS[kernel], (q, k, v), view)[0]
    k[:, :, -1], v[:, :, -1] = 1e30, 1e30
    after = run(KERNELS[kernel], (q, k, v), view)[0]
    close(before[:, :, :-1][tokens.valid[:, None, :-1].expand(B, H, -1)],
          after[:, :, :-1][tokens.valid[:, None, :-1].expand(B, H, -1)])  # fmt: skip


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_scores_neither_overflow_nor_lose_the_maximum(kernel):
    q, k, v = (t.detach() for t in inputs(4))
    tokens = Tokens.arange(B, T)
    out, weights = run(KERNELS[kernel], (q * 1e3, k * 1e3, v), View(Full(), tokens, tokens))
    assert out.isfinite().all()
    best = (q @ k.transpose(2, 3)).argmax(-1)
    assert weights.argmax(-1).equal(best)


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_keys_than_queries(kernel):
    tensors = inputs(2, keys=13)
    view = View(Causal(), Tokens.arange(B, T, start=4), Tokens.arange(B, 13))
    expected = run(PerHead(), tensors, view)[0]
    close(run(KERNELS[kernel], tensors, view)[0], expected)
    close(expected[:, :, -1], run(PerHead(), tensors, View(Full(), view.q, view.k))[0][:, :, -1])


@pytest.mark.parametrize("kernel", KERNELS)
def test_dropout_is_on_the_weights_unbiased_and_off_in_evaluation(kernel):
    q, k = torch.zeros(1, H, 400, D, dtype=torch.float64), torch.zeros(1, H, 50, D, dtype=torch.float64)
    v = torch.eye(50, dtype=torch.float64).expand(1, H, 50, 50)
    view = View(Full(), Tokens.arange(1, 400), Tokens.arange(1, 50))
    if kernel == "fused":
        v = v[..., :D].contiguous()
    module = KERNELS[kernel].build()
    options = {"scale": 1.0, "dropout": 0.25, "need_weights": False}
    out, weights = module.train()(q, k, v, view, **options)
    assert weights is None
    dropped = out.eq(0).double()
    deviation = 4 * math.sqrt(0.25 * 0.75 / out.numel())
    assert abs(dropped.mean().item() - 0.25) < deviation
    close(out[out != 0], torch.full_like(out[out != 0], 1 / 50 / 0.75), 1e-6)
    close(module.eval()(q, k, v, view, **options)[0], torch.full_like(out, 1 / 50))


@pytest.mark.parametrize("kernel", KERNELS)
def test_dropout_in_backward_is_that_of_forward(kernel):
    """The chunked kernel computes its tiles twice; the second time it must drop what it dropped the first time."""
    q, k, v = inputs(4)
    tokens = Tokens.arange(B, T)
    module = KERNELS[kernel].build().train()
    out = module(q, k, v, View(Causal(), tokens, tokens), scale=0.5, dropout=0.5, need_weights=False)[0]
    torch.rand(7)  # the generator has moved on by the time of backward
    upstream = torch.randn_like(out)
    # out is linear in v: the gradient applied to v itself must give out · upstream back
    (gradient,) = torch.autograd.grad(out, v, upstream)
    close((gradient * v).sum(), (out * upstream).sum())
