"""The fused loss against F.linear + F.cross_entropy: value, gradients, memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from qkv.training.fused import linear_cross_entropy


def operands(rows=37, width=8, classes=23, dtype=torch.float64, bias=True):
    h = torch.randn(rows, width, dtype=dtype, requires_grad=True)
    w = torch.randn(classes, width, dtype=dtype, requires_grad=True)
    b = torch.randn(classes, dtype=dtype, requires_grad=True) if bias else None
    return h, w, b, torch.randint(classes, (rows,))


def reference(h, w, b, targets, smoothing):
    return F.cross_entropy(F.linear(h, w, b), targets, label_smoothing=smoothing, reduction="sum")


@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 10, 37, 999])
def test_value_and_gradients(dtype, tolerance, smoothing, bias, chunk):
    h, w, b, targets = operands(dtype=dtype, bias=bias)
    wanted = [t for t in (h, w, b) if t is not None]
    ours = linear_cross_entropy(h, w, b, targets, smoothing, chunk)
    theirs = reference(h, w, b, targets, smoothing)
    torch.testing.assert_close(ours, theirs, rtol=tolerance / 10, atol=0)
    # An upstream gradient other than 1 must scale every gradient.
    for mine, other in zip(torch.autograd.grad(3 * ours, wanted), torch.autograd.grad(3 * theirs, wanted), strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_gradcheck():
    h, w, b, targets = operands(5, 3, 7)
    assert torch.autograd.gradcheck(lambda *x: linear_cross_entropy(*x, targets, 0.1, 2), (h, w, b))


def test_large_logits_do_not_overflow():
    h, w, b, targets = operands(dtype=torch.float32)
    with torch.no_grad():
        h *= 300
    value = linear_cross_entropy(h, w, b, targets, 0.1, 8)
    torch.testing.assert_close(value, reference(h, w, b, targets, 0.1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_gradients_only_where_wanted(frozen):
    h, w, b, targets = operands()
    inputs = [h, w, b]
    inputs[frozen].requires_grad_(False)
    linear_cross_entropy(*inputs, targets, 0.1).backward()
    expected = [None if i == frozen else t.shape for i, t in enumerate(inputs)]
    assert [None if t.grad is None else t.grad.shape for t in inputs] == expected


def test_without_gradients_no_gradient_is_computed(monkeypatch):
    h, w, b, targets = operands()
    monkeypatch.setattr("qkv.training.fused._accumulate", lambda *_: pytest.fail("computed a gradient"))
    with torch.no_grad():
        linear_cross_entropy(h, w, b, targets)


def test_bf16_autocast_keeps_statistics_in_fp32():
    h, w, b, targets = operands(64, 16, 50, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = linear_cross_entropy(h, w, b, targets, 0.1, 16)
        theirs = F.cross_entropy(F.linear(h, w, b).float(), targets, label_smoothing=0.1, reduction="sum")
    exact = reference(h, w, b, targets, 0.1)
    assert ours.dtype == torch.float32
    assert abs(ours - exact) <= 2 * abs(theirs - exact) + 1e-2 * abs(exact)
    for mine, true in zip(torch.autograd.grad(ours, (h, w, b)), torch.autograd.grad(exact, (h, w, b)), strict=True):
        assert mine.dtype == torch.float32
        assert (mine - true).norm() < 2e-2 * true.norm()


def test_no_tensor_of_all_logits_exists():
    h, w, _, targets = operands(512, 4, 1000, torch.float32)
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.extend(t.numel() for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, torch.Tensor))
            return out

    with Watch():
        linear_cross_entropy(h, w, None, targets, 0.1, 16).backward()
    assert max(sizes) == 16 * 1000
