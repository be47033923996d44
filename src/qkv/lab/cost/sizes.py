"""What each axis of a tensor changes: rows, length, width, heads (A19, B5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below, close, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import counted, exponent
from qkv.models import DecoderOnly
from qkv.models.config import StackConfig
from qkv.models.stack import Stack
from qkv.nn import Einsum, Learned, PositionConfig, Sinusoidal
from qkv.probe.cost import operations
from qkv.training.losses import TokenCrossEntropy

from .operations import read

VOCAB = 8
BATCHES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class SizeEffects:
    """d: width. n_layers: depth. length: of a row. rows: whose gradients are taken one by one. draws: batches of each
    size that are drawn from them."""

    d: Annotated[int, within(4, 64)] = 16
    n_layers: Annotated[int, within(1, 4)] = 2
    length: Annotated[int, within(4, 64)] = 8
    rows: Annotated[int, within(16, 256)] = 64
    draws: Annotated[int, within(50, 2000)] = 500


def row_gradients(model: DecoderOnly, ids: Tensor) -> Tensor:
    """The gradient of each row's mean loss, [B, parameters]."""
    found = []
    for row in ids:
        batch: Batch = small.following(row[None])
        total, count, _ = TokenCrossEntropy()(model, batch)["cross_entropy"]
        gradients = torch.autograd.grad(total / count, list(model.parameters()), allow_unused=True)
        found.append(torch.cat([g.flatten() for g in gradients if g is not None]))
    return torch.stack(found)


def variance(gradients: Tensor, size: int, draws: int, copies: bool, generator: torch.Generator) -> float:
    """Total variance of the mean gradient over batches of `size` rows drawn at random, or of copies of one row."""
    chosen = torch.randint(len(gradients), (draws, 1 if copies else size), generator=generator)
    weights = torch.zeros(draws, len(gradients), dtype=gradients.dtype)
    weights.scatter_add_(1, chosen, torch.full(chosen.shape, 1 / chosen.shape[1], dtype=gradients.dtype))
    return float((weights @ gradients).var(0).sum())


@experiment()
def size_effects(lab: Lab, params: SizeEffects) -> None:
    """Width makes parameters, length makes cost, rows make the gradient less noisy, and heads make none of them."""
    claim_parameters(lab, params)
    claim_heads(lab, params)
    claim_rows(lab, params)
    claim_noise(lab, params)


def claim_parameters(lab: Lab, params: SizeEffects) -> None:
    """What adds weights and operations, and what does not."""
    d, n_layers, n = params.d, params.n_layers, params.length

    def held(config: StackConfig) -> int:
        return sum(p.numel() for p in Stack(config).parameters())

    base = small.stack(VOCAB, d, n_layers, position=Sinusoidal())
    lab.number("parameters", held(base))
    lab.claim(
        "closed_form",
        Text(
            "A stack has L(12d² + 13d) + 2d + Vd weights: four projections, feed-forward, biases, norms, embeddings.",
            "一个堆叠共有 L(12d² + 13d) + 2d + Vd 个参数：投影、前馈、偏置、归一化、词嵌入。",
        ),
        measure=lambda formula: formula - held(base),
        arm=n_layers * (12 * d * d + 13 * d) + 2 * d + VOCAB * d,
        control=12 * n_layers * d * d,
        without=Text("12Ld² alone, the rule of thumb", "只用经验公式 12Ld²"),
        holds=exactly(0),
        unit="parameters",
    )
    make: Callable[[Callable[[int], PositionConfig]], int] = lambda position: (  # noqa: E731
        held(small.stack(VOCAB, d, n_layers, position=position(2 * n)))
        - held(small.stack(VOCAB, d, n_layers, position=position(n)))
    )
    lab.claim(
        "length_free",
        Text("Twice the length adds no parameter.", "长度加倍，参数一个不增。"),
        measure=make,
        arm=lambda length: Sinusoidal(),
        control=Learned,
        without=Text("a table of positions that is learned", "可学习的位置表"),
        holds=exactly(0),
        unit="parameters",
    )
    wide, deep = small.stack(VOCAB, 2 * d, n_layers), small.stack(VOCAB, d, 2 * n_layers)
    plain = small.stack(VOCAB, d, n_layers)
    for name, config in (("wider", wide), ("deeper", deep)):
        lab.number(name, operations(config, n).total / operations(plain, n).total, "times")
    lab.number("longer", operations(plain, 16 * n).total / operations(plain, 8 * n).total, "times")
    lab.number("table_longer", operations(plain, 16 * n).table / operations(plain, 8 * n).table, "times")


def priced(d: int, n_layers: int, n_heads: int, n: int) -> Tensor:
    """Weights that a stack holds and operations that it makes on n tokens, both counted, [2]."""
    config = small.stack(VOCAB, d, n_layers, n_heads, position=Sinusoidal(), attention={"kernel": Einsum()})
    stack = Stack(config)
    weights = sum(p.numel() for p in stack.parameters())
    return torch.tensor([weights, counted(lambda: read(stack, n))], dtype=torch.float64)


def claim_heads(lab: Lab, params: SizeEffects) -> None:
    """Heads divide the width and add nothing."""
    plain = priced(params.d, params.n_layers, 1, params.length)
    lab.claim(
        "heads_free",
        Text(
            "Eight heads instead of one, at the same width, change neither the parameters nor the operations.",
            "同样宽度下，一个头换成八个头，参数与运算次数都不变。",
        ),
        measure=lambda arm: (priced(params.d, arm[0], arm[1], params.length) - plain).abs().sum(),
        arm=(params.n_layers, 8),
        control=(2 * params.n_layers, 1),
        without=Text("twice the layers instead", "改为层数加倍"),
        holds=exactly(0),
    )


def claim_rows(lab: Lab, params: SizeEffects) -> None:
    """Rows do not know of each other; places do."""
    model = small.decoder(VOCAB, d_model=params.d, n_layers=params.n_layers).double().eval()
    n = params.length
    ids = torch.randint(VOCAB, (n, n), generator=lab.generator())  # as many rows as places: one order for either axis
    order = torch.randperm(n, generator=lab.generator(1))

    def apart(axis: int) -> float:
        def states(x: Tensor) -> Tensor:
            return small.logits(model, small.labelled(x, x))

        return float((states(ids.index_select(axis, order)) - states(ids).index_select(axis, order)).abs().max())

    lab.claim(
        "rows",
        Text("Rows of a batch may be put in any order: the outputs follow.", "批内各行任意换序，输出随之换序。"),
        measure=apart,
        arm=0,
        control=1,
        without=Text("the places of the text are put in that order", "改为打乱文本内的位置"),
        holds=below(1e-12),
    )


def claim_noise(lab: Lab, params: SizeEffects) -> None:
    """The noise of a gradient that is averaged over rows."""
    model = small.decoder(VOCAB, d_model=params.d, n_layers=1).double()
    ids = torch.randint(VOCAB, (params.rows, params.length), generator=lab.generator(2))
    gradients = row_gradients(model, ids)
    curves = {
        copies: {b: variance(gradients, b, params.draws, copies, lab.generator(3 + b)) for b in BATCHES}
        for copies in (False, True)
    }
    lab.claim(
        "noise",
        Text(
            "The variance of the gradient falls as one over the number of independent rows.",
            "梯度方差与独立样本行数成反比。",
        ),
        measure=lambda copies: exponent(BATCHES, list(curves[copies].values())),
        arm=False,
        control=True,
        without=Text("batches of copies of one row", "批里全是同一行的副本"),
        holds=close(-1, 0.1),
        unit="exponent",
    )
    lab.figure(
        "noise",
        figures.lines(
            Text("Variance of the gradient", "梯度的方差"),
            Text("rows of a batch", "批内行数"),
            Text("variance", "方差"),
            {
                "independent": [(float(b), v) for b, v in curves[False].items()],
                "copies": [(float(b), v) for b, v in curves[True].items()],
            },
            {"independent": Text("independent rows", "独立的行"), "copies": Text("copies of one row", "同一行的副本")},
            x_scale="log",
            y_scale="log",
        ),
    )
