"""What several heads are: a sum of single ones, for the same parameters, each of low rank (A52, B3, A65)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures
from qkv.lab.checks import below, close, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Attention, Causal, Normal, View, Xavier

from .parts import layer, normal, view


@dataclass(frozen=True)
class Heads:
    """d_model: width. heads: how many. length: of a sequence. rows: sequences."""

    d_model: Annotated[int, within(8, 256)] = 48
    heads: Annotated[int, within(2, 16)] = 4
    length: Annotated[int, within(2, 64)] = 9
    rows: Annotated[int, within(1, 16)] = 3

    def __post_init__(self) -> None:
        if self.d_model % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.d_model} evenly")

    @property
    def d_head(self) -> int:
        return self.d_model // self.heads


def single(whole: Attention, head: int, column_block: int) -> Attention:
    """One head of a layer as a layer of its own: its rows of W_Q, W_K, W_V, and a block of D columns of W_O."""
    d_model, d = whole.out.weight.shape[0], whole.d_head
    alone = layer(d_model, d_head=d, bias=False, out_bias=False)
    rows = [part[head * d : (head + 1) * d] for part in whole.query_key_value.weight.chunk(3)]
    alone.query_key_value.weight.data = torch.cat(rows).detach().clone()
    alone.out.weight.data = whole.out.weight[:, column_block * d : (column_block + 1) * d].detach().clone()
    return alone


def n_parameters(module: nn.Module) -> int:
    """How many numbers the module holds."""
    return sum(p.numel() for p in module.parameters())


@experiment()
def head_sum(lab: Lab, params: Heads) -> None:
    """A layer of h heads is the sum of h layers of one head, has as many parameters as one wide head, and each head's
    score form has rank d_k."""
    whole = layer(params.d_model, params.heads, bias=False, out_bias=False)
    x = normal(lab.generator(), params.rows, params.length, params.d_model)
    seen = view(params.rows, params.length, Causal())

    @torch.no_grad()
    def apart(shift: int) -> float:
        heads = range(params.heads)
        summed = sum(single(whole, h, (h + shift) % params.heads)(x, seen) for h in heads)
        return float((summed - whole(x, seen)).abs().max())

    lab.claim(
        "sum",
        Text(
            "Concatenating heads and projecting is the sum over heads of each head's own projection.",
            "拼接再投影，等于各头各自投影之和。",
        ),
        measure=apart,
        arm=0,
        control=1,
        without=Text("each head with the block of W_O of its neighbour", "每个头配上相邻头的那块 W_O"),
        holds=below(1e-12),
    )
    one = n_parameters(layer(params.d_model, 1))
    lab.number("parameters", one)
    lab.claim(
        "parameters_added",
        Text("Splitting one head into several adds no parameter.", "把一个头拆成多个头，不增加参数。"),
        measure=lambda d_head: n_parameters(layer(params.d_model, params.heads, d_head=d_head)) - one,
        arm=None,
        control=params.d_model,
        without=Text("heads as wide as the model instead of d_model / heads", "每个头与模型同宽，而不是 d_model / h"),
        holds=exactly(0),
    )

    def score_rank(heads: int) -> int:
        module = layer(params.d_model, heads, bias=False)
        w_q, w_k, _ = module.query_key_value.weight.detach().chunk(3)
        return int(torch.linalg.matrix_rank(w_q[: module.d_head].T @ w_k[: module.d_head]))

    lab.claim(
        "rank",
        Text(
            "A head's score is a bilinear form of rank d_k = d_model / heads.",
            "一个头的分数是秩为 d_k = d_model / h 的双线性型。",
        ),
        measure=score_rank,
        arm=params.heads,
        control=1,
        without=Text("one head: full rank", "单头：满秩"),
        holds=exactly(params.d_head),
    )


@experiment()
def head_partition(lab: Lab, params: Heads) -> None:
    """One product that is reshaped and h separate products are the same function with the same gradients; they differ
    in initial weights and in how they spread over machines."""
    whole = layer(params.d_model, params.heads, bias=False, out_bias=False)
    x = normal(lab.generator(), params.rows, params.length, params.d_model)
    seen = view(params.rows, params.length, Causal())
    _function_and_gradients(lab, params, whole, x, seen)
    lab.claim(
        "xavier",
        Text(
            "Xavier's rule applied to each head's matrix draws wider weights, by √(2h/(h+1)).",
            "对每个头的矩阵分别用 Xavier 初始化，权重的标准差大 √(2h/(h+1)) 倍。",
        ),
        measure=lambda init: _std_ratio(init, params.heads),
        arm=Xavier(),
        control=Normal(std=0.02),
        without=Text("an initialisation that ignores shapes", "与形状无关的初始化"),
        holds=close(math.sqrt(2 * params.heads / (params.heads + 1)), 0.02),
    )

    @torch.no_grad()
    def in_parallel(cut_heads: bool) -> float:
        """Two workers, each with half of the inner width; one sum of their outputs at the end."""
        if not cut_heads:
            halves = [range(params.heads // 2), range(params.heads // 2, params.heads)]
            summed = sum(single(whole, h, h)(x, seen) for half in halves for h in half)
        else:
            summed = sum(worker(x, seen) for worker in _halves_of_heads(whole, params))
        return float((summed - whole(x, seen)).abs().max())

    lab.claim(
        "workers",
        Text(
            "Workers that own whole heads need one sum, of their outputs.",
            "按整头切分到各机器，只需最后对输出求一次和。",
        ),
        measure=in_parallel,
        arm=False,
        control=True,
        without=Text("every head cut in two halves of d_k, scores not summed", "把每个头的 d_k 一切两半，分数不求和"),
        holds=below(1e-12),
    )


def _halves_of_heads(whole: Attention, params: Heads) -> list[Attention]:
    """Two layers that each own half of the width of every head."""
    width, workers = params.d_head // 2, []
    for half in range(2):
        worker = layer(params.d_model, params.heads, d_head=width, bias=False, out_bias=False, scale=whole.scale)
        rows = slice(half * width, (half + 1) * width)
        parts = whole.query_key_value.weight.unflatten(0, (3, params.heads, params.d_head))[:, :, rows]
        columns = whole.out.weight.unflatten(1, (params.heads, params.d_head))[:, :, rows]
        worker.query_key_value.weight.data = parts.flatten(0, 2).detach().clone()
        worker.out.weight.data = columns.flatten(1).detach().clone()
        workers.append(worker)
    return workers


def _function_and_gradients(lab: Lab, params: Heads, whole: Attention, x: Tensor, seen: View) -> None:
    """Logical against physical partition: one weight of size E×E or h leaves of size D×E."""
    fused = whole.query_key_value.weight
    upstream = normal(lab.generator(1), *x.shape)

    def told(split: bool) -> Tensor:
        leaves = [
            part.detach().clone().requires_grad_() for part in fused.split(params.d_head if split else len(fused))
        ]
        q, k, v = torch.cat([x @ leaf.T for leaf in leaves], -1).chunk(3, -1)
        q, k, v = (whole.split(part) for part in (q, k, v))
        out, _ = whole.kernel(q, k, v, seen, scale=whole.scale, dropout=0.0, need_weights=False)
        joined = whole.out(out.transpose(1, 2).flatten(2))
        gradients = torch.autograd.grad((joined * upstream).sum(), leaves)
        return torch.cat([joined.detach().flatten(), torch.cat(gradients).flatten()])

    def reshaped(transposed: bool) -> float:
        if transposed:
            return float((told(True) - told(False)).abs().max())
        q, k, v = (x @ fused.T).detach().chunk(3, -1)
        wrong = [part.reshape(len(x), params.heads, -1, params.d_head) for part in (q, k, v)]
        out, _ = whole.kernel(*wrong, seen, scale=whole.scale, dropout=0.0, need_weights=False)
        return float((whole.out(out.reshape(x.shape)) - whole(x, seen)).abs().max().detach())

    lab.claim(
        "same",
        Text(
            "Separate matrices and one reshaped product have the same outputs and gradients.",
            "分开的矩阵与一次相乘再变形，输出与梯度相同。",
        ),
        measure=reshaped,
        arm=True,
        control=False,
        without=Text(
            "reshaped straight to heads without transposing: tokens and heads get mixed",
            "直接 reshape 成头、不做转置：词元与头混在一起",
        ),
        holds=below(1e-10),
    )


def _std_ratio(init: Xavier | Normal, heads: int) -> float:
    """Standard deviation of a [D,E] matrix drawn on its own over that of an [E,E] one."""
    d_model = 64 * heads
    alone, joint = nn.Linear(d_model, d_model // heads), nn.Linear(d_model, d_model)
    init.apply(alone)
    init.apply(joint)
    return float((alone.weight.std() / joint.weight.std()).detach())


@dataclass(frozen=True)
class TwoReads:
    """content: numbers a token carries. length: of a sequence. steps: of training. rate: of Adam."""

    content: Annotated[int, within(2, 16)] = 6
    length: Annotated[int, within(4, 16)] = 6
    steps: Annotated[int, within(10, 2000)] = 400
    rate: Annotated[float, within(1e-4, 0.1)] = 1e-2


@experiment(long=True)
def two_reads(lab: Lab, params: TwoReads) -> None:
    """One head that must copy two tokens at once to two places leaves half of the variance; two heads leave none."""
    width = 2 * params.content + params.length
    seen = view(32, params.length)

    def remaining(heads: int, seed: int) -> float:
        """Mean squared error over the variance of the target, on fresh sequences, after training."""
        torch.manual_seed(seed)
        attention = layer(width, heads, d_head=width // heads)
        adam = torch.optim.Adam(attention.parameters(), lr=params.rate)
        generator = torch.Generator().manual_seed(seed + 1)
        for step in range(params.steps + 1):
            x, target = _neighbours(params, generator)
            error = (attention(x, seen)[..., : 2 * params.content] - target).square().mean()
            if step < params.steps:
                adam.zero_grad()
                error.backward()
                adam.step()
        return float(error.detach() / target.square().mean())

    lab.claim(
        "error",
        Text(
            "Two heads with the parameters of one copy both neighbours; less than a tenth of the variance is missed.",
            "两个头（参数与一个头相同）把左右邻居都抄了下来，漏掉的方差不到十分之一。",
        ),
        measure=remaining,
        arm=2,
        control=1,
        without=Text("one head of twice the width", "一个宽一倍的头"),
        holds=below(0.1),
        unit="share",
        seeds=3,
    )
    lab.number("floor", _floor(params), "share")
    claim = lab.claims[-1] if lab.claims else None
    if claim and claim.measured and claim.against:
        lab.figure(
            "error",
            figures.bars(
                Text("Variance missed when two tokens are copied", "同时抄两个词元时漏掉的方差"),
                Text("share", "比例"),
                {
                    **{f"1 head, seed {i}": value for i, value in enumerate(claim.against)},
                    **{f"2 heads, seed {i}": value for i, value in enumerate(claim.measured)},
                },
                {
                    **{f"1 head, seed {i}": Text(f"1 head #{i}", f"单头 #{i}") for i in range(3)},
                    **{f"2 heads, seed {i}": Text(f"2 heads #{i}", f"双头 #{i}") for i in range(3)},
                },
            ),
        )


def _neighbours(params: TwoReads, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x: content, zeros, and a one-hot position (scaled to be as loud); target: contents of both neighbours."""
    content = normal(generator, 32, params.length, params.content)
    position = 3.0 * torch.eye(params.length, dtype=torch.float64).expand(32, -1, -1)
    x = torch.cat([content, torch.zeros_like(content), position], -1)
    return x, torch.cat([content.roll(1, 1), content.roll(-1, 1)], -1)


def _floor(params: TwoReads) -> float:
    """What the best single head leaves: the operator "left neighbour to the first half, right one to the second" is a
    sum of two Kronecker products; the best single one, by singular values of the rearranged operator, keeps one."""
    n, c = params.length, params.content
    shift = torch.eye(n, dtype=torch.float64).roll(1, 0)
    first, second = torch.zeros(2 * c, c, dtype=torch.float64), torch.zeros(2 * c, c, dtype=torch.float64)
    first[:c], second[c:] = torch.eye(c, dtype=torch.float64), torch.eye(c, dtype=torch.float64)
    rearranged = torch.outer(shift.flatten(), first.flatten()) + torch.outer(shift.T.flatten(), second.flatten())
    energy = torch.linalg.svdvals(rearranged).square()
    return float(1 - energy[0] / energy.sum())
