"""What a long input costs, and which remedy changes the cost and which the function (A28, B10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend, counted
from qkv.models import DecoderOnly
from qkv.nn import (
    Attention,
    AttentionConfig,
    Cache,
    Causal,
    Chunked,
    Einsum,
    KernelConfig,
    MultiHead,
    Tokens,
    View,
    Window,
)

VOCAB = 16


@dataclass(frozen=True)
class LengthCost:
    """short, long: the two lengths that growth is measured between. block: tile of the chunked kernel."""

    short: Annotated[int, within(16, 512)] = 128
    long: Annotated[int, within(32, 2048)] = 256
    block: Annotated[int, within(4, 128)] = 32


def growth(cost: dict[int, float]) -> float:
    """The exponent a of cost ∝ length^a, from the two lengths."""
    (n, small_cost), (m, large_cost) = sorted(cost.items())
    return math.log(large_cost / small_cost) / math.log(m / n)


def saved_bytes(kernel: KernelConfig, length: int) -> float:
    """Bytes that one attention saves for its backward pass; the queries, keys and values that a checkpoint holds on to
    are not among them (they grow with the length as well)."""
    torch.manual_seed(0)
    attention = Attention(AttentionConfig(heads=MultiHead(2), kernel=kernel), 16)
    tokens = Tokens.arange(1, length)
    view = View(Causal(), tokens, tokens)
    held: list[Tensor] = []  # alive until they are counted, so that no address is used twice

    def keep(t: Tensor) -> Tensor:
        held.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = attention(torch.randn(1, length, 16), view)
    assert out.requires_grad
    stores = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    return float(sum(stores.values()))


def written(model: DecoderOnly, ids: Tensor, cached: bool) -> tuple[Tensor, float]:
    """(states of all tokens [B,T,E], operations spent) when ids are read one token after the other."""
    tokens, cache = Tokens.arange(*ids.shape), Cache() if cached else None
    states: list[Tensor] = []

    def read() -> None:
        for t in range(ids.shape[1]):
            part = slice(t if cached else 0, t + 1)
            states.append(model.decode(ids[:, part], tokens[:, part], cache=cache)[:, -1:])

    spent = counted(read)
    return torch.cat(states, 1), spent


@torch.no_grad()
def kernel_flops(keys: int, queries: int) -> float:
    """Operations of scores and averages for the last `queries` of `keys` tokens, projections left out."""
    q, k = torch.zeros(1, 2, queries, 8), torch.zeros(1, 2, keys, 8)
    return counted(lambda: attend(q, k, k, Causal()))


@experiment()
def length_cost(lab: Lab, params: LengthCost) -> None:
    """The table of scores grows with the square of the length; tiles save its memory, a cache its repetition."""
    lengths = (params.short, params.long)
    lab.claim(
        "memory",
        Text(
            "What the chunked kernel keeps for the backward pass grows in proportion to the length.",
            "分块核为反向传播保留的内存与长度成正比。",
        ),
        measure=lambda kernel: growth({n: saved_bytes(kernel, n) for n in lengths}),
        arm=Chunked(params.block),
        control=Einsum(),
        without=Text("the whole table of weights is kept", "保留整张权重表"),
        holds=close(1.0, 0.1),
        unit="exponent",
    )
    lab.number("table_exponent", growth({n: saved_bytes(Einsum(), n) for n in lengths}), "exponent")
    claim_exact(lab, params)
    claim_cache(lab, params)


def claim_exact(lab: Lab, params: LengthCost) -> None:
    """Which remedies leave the function as it was."""
    torch.manual_seed(lab.seed)
    whole = Attention(AttentionConfig(heads=MultiHead(2), kernel=Einsum()), 16).double()
    tiled = Attention(AttentionConfig(heads=MultiHead(2), kernel=Chunked(params.block)), 16).double()
    tiled.load_state_dict(whole.state_dict())
    n = params.short
    tokens = Tokens.arange(1, n)
    x = torch.randn(1, n, 16, dtype=torch.float64, generator=lab.generator())
    truth = whole(x, View(Causal(), tokens, tokens))
    lab.claim(
        "exact",
        Text("Tiles with an online softmax compute the same function.", "分块加在线 softmax 算的是同一个函数。"),
        measure=lambda mask: (tiled(x, View(mask, tokens, tokens)) - truth).detach().abs().max(),
        arm=Causal(),
        control=Causal() & Window(back=n // 8),
        without=Text("a window, which is cheaper because it computes another function", "窗口：便宜，因为函数变了"),
        holds=below(1e-10),
    )


def claim_cache(lab: Lab, params: LengthCost) -> None:
    """What a cache of keys and values saves while writing, and what it does not."""
    torch.manual_seed(lab.seed)
    model = small.decoder(VOCAB, d_model=16, n_layers=2, attention={"kernel": Einsum()}).double().eval()
    n = 16
    ids = torch.randint(VOCAB, (1, n), generator=lab.generator(1))
    runs = {(cached, m): written(model, ids[:, :m], cached) for cached in (True, False) for m in (n // 2, n)}
    lab.number("same_states", (runs[True, n][0] - runs[False, n][0]).abs().max())
    lab.number("saved", runs[False, n][1] / runs[True, n][1], "times")
    lab.number("tokens", n)
    lab.claim(
        "cache_linear",
        Text(
            "With a cache the cost of a short text is nearly in proportion to its length: nothing is computed twice.",
            "有缓存时，写一段短文的开销与长度近似成正比：没有重复计算。",
        ),
        measure=lambda cached: growth({m: runs[cached, m][1] for m in (n // 2, n)}),
        arm=True,
        control=False,
        without=Text("no cache: every step reads the whole prefix again", "没有缓存：每步重读整个前缀"),
        holds=below(1.3),
        unit="exponent",
    )

    def total(cached: bool, m: int) -> float:
        """Of writing m tokens, from eight of the m steps: one query a step, or without a cache all again."""
        steps = range(m // 8, m + 1, m // 8)
        return m / 8 * sum(kernel_flops(t, 1 if cached else t) for t in steps)

    lab.claim(
        "still_quadratic",
        Text(
            "Attention over a whole text still grows with the square of the length, cache or not.",
            "即使有缓存，写完整段文字的注意力开销仍随长度平方增长。",
        ),
        measure=lambda cached: growth({m: total(cached, m) for m in (params.short, params.long)}),
        arm=True,
        control=False,
        without=Text("no cache: the cube", "没有缓存：三次方"),
        holds=close(2.0, 0.2),
        unit="exponent",
    )
    costs = {c: [(float(m), total(c, m)) for m in (64, 128, 256)] for c in (True, False)}
    lab.figure(
        "writing",
        figures.lines(
            Text("Attention while writing n tokens", "写 n 个词的注意力开销"),
            Text("n", "n"),
            Text("operations", "运算次数"),
            {"cache": costs[True], "none": costs[False]},
            {"cache": Text("with a cache", "有缓存"), "none": Text("without", "无缓存")},
            x_scale="log",
            y_scale="log",
        ),
    )
