"""The chunked kernel's promise: memory linear in the sequence, forward and backward, where einsum's is quadratic."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qkv.nn import Causal, Chunked, Einsum, Full, LinearBias, Tokens, View
from qkv.nn.positions import PositionShape

H, D, BLOCK = 2, 8, 32


class MemoryCounter(TorchDispatchMode):
    """Counts the bytes of all living storages that operations made; `peak` and `largest` are maxima so far."""

    def __init__(self) -> None:
        super().__init__()
        self.living: dict[int, int] = {}
        self.peak = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        self.peak = max(self.peak, sum(self.living.values()))
        return out

    def _watch(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.living:
            self.living[key] = size
            self.largest = max(self.largest, size)
            weakref.finalize(storage, self.living.pop, key, None)


def measure(kernel, length: int, mask, biased: bool = False) -> tuple[int, int, int]:
    """(peak bytes forward, peak bytes forward and backward, bytes of the largest tensor)."""
    q, k, v = (torch.randn(1, H, length, D, requires_grad=True) for _ in range(3))
    tokens = Tokens.arange(1, length)
    bias = LinearBias().build(PositionShape(H * D, H, D)).bias if biased else None
    module = kernel.build()
    with MemoryCounter() as counter:
        out, _ = module(q, k, v, View(mask, tokens, tokens, bias), scale=1.0, dropout=0.0, need_weights=False)
        forward = counter.peak
        out.sum().backward()
    return forward, counter.peak, counter.largest


def slope(kernel, mask, which: int, biased: bool = False) -> float:
    """The exponent p of bytes ~ length^p between two lengths."""
    short, long = (measure(kernel, n, mask, biased)[which] for n in (256, 1024))
    return math.log(long / short) / math.log(4)


@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("mask", [Full(), Causal(), Causal() | ~Causal()], ids=["full", "causal", "general"])
def test_peak_bytes_grow_linearly_forward_and_backward(mask, biased):
    assert slope(Chunked(BLOCK), mask, 0, biased) < 1.15
    assert slope(Chunked(BLOCK), mask, 1, biased) < 1.15


def test_the_largest_tensor_is_no_larger_than_the_keys():
    length = 512
    assert measure(Chunked(BLOCK), length, Causal())[2] <= 4 * H * length * D


def test_einsum_is_quadratic_and_the_counter_sees_it():
    """The control: without tiles the same measurement must show the table."""
    assert slope(Einsum(), Causal(), 0) > 1.8 and slope(Einsum(), Causal(), 1) > 1.8
    assert measure(Einsum(), 512, Causal())[2] == 4 * H * 512 * 512
