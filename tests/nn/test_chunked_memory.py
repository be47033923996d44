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
        self.living: set[int] = set()
        self.total = self.peak = self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        self.peak = max(self.peak, self.total)
        return out

    def _watch(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.living:
            self.living.add(key)
            self.total += size
            self.largest = max(self.largest, size)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.living.remove(key)
        self.total -= size


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


def slopes(kernel, mask, biased: bool = False) -> list[float]:
    """The exponents p of bytes ~ length^p between two lengths: of the peak forward, of the peak with backward."""
    short, long = (measure(kernel, n, mask, biased)[:2] for n in (128, 512))
    return [math.log(b / a) / math.log(4) for a, b in zip(short, long, strict=True)]


@pytest.mark.parametrize(
    ("mask", "biased"),
    [(Full(), False), (Causal(), False), (Causal() | ~Causal(), True)],
    ids=["full", "causal", "general with bias"],
)
def test_peak_bytes_grow_linearly_forward_and_backward(mask, biased):
    assert max(slopes(Chunked(BLOCK), mask, biased)) < 1.15


def test_the_largest_tensor_is_no_larger_than_the_keys():
    length = 512
    assert measure(Chunked(BLOCK), length, Causal())[2] <= 4 * H * length * D


def test_einsum_is_quadratic_and_the_counter_sees_it():
    """The control: without tiles the same measurement must show the table."""
    assert min(slopes(Einsum(), Causal())) > 1.8
    assert measure(Einsum(), 512, Causal())[2] == 4 * H * 512 * 512
