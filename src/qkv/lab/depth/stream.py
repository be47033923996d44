"""What links the layers: one residual stream that all of them read and write (A45; Elhage et al. 2021)."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below, lower
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnly
from qkv.nn import Block, PlacementConfig, Post, Pre
from qkv.probe.attention import recording
from qkv.probe.similarity import linear_cka

from .skips import deep_stack, different_tokens, streams


@dataclass(frozen=True)
class ResidualStream:
    """n_layers: depth. d: width. length: of the sequence."""

    n_layers: Annotated[int, within(2, 48)] = 8
    d: Annotated[int, within(8, 64)] = 16
    length: Annotated[int, within(2, 32)] = 8


@experiment()
def residual_stream(lab: Lab, params: ResidualStream) -> None:
    """In a pre-norm stack the output is the embedding plus what every sub-layer wrote, and nothing else."""
    ids = different_tokens(params.length)

    @torch.no_grad()
    def gap(placement: PlacementConfig) -> float:
        """‖x_L − (x_0 + Σ branches)‖ / ‖x_L‖."""
        torch.manual_seed(lab.seed)
        model = deep_stack(params.n_layers, params.d, placement=placement)
        written: list[Tensor] = []
        for block in model.blocks:
            assert isinstance(block, Block) and block.feedforward is not None
            for branch in (block.attention, block.feedforward):
                branch.register_forward_hook(lambda _m, _i, out: written.append(out))
        states = streams(model, ids)
        return float((states[-1] - states[0] - torch.stack(written).sum(0)).norm() / states[-1].norm())

    lab.claim(
        "sum_of_branches",
        Text(
            "The last stream is the embedding plus the sum of all branches.",
            "最后的残差流等于嵌入加上所有子层输出之和。",
        ),
        measure=gap,
        arm=Pre(),
        control=Post(),
        without=Text(
            "post-norm, which rescales the stream after every branch", "换成 Post-norm：每个子层之后都重新缩放"
        ),
        holds=below(1e-12),
    )


@dataclass(frozen=True)
class LayerSimilarity:
    """n_layers: depth. d: width. length: of the sequence, class token included. steps: updates. far: how many layers
    apart two layers are that are called distant."""

    n_layers: Annotated[int, within(4, 12)] = 6
    d: Annotated[int, within(8, 64)] = 32
    length: Annotated[int, within(5, 32)] = 13
    steps: Annotated[int, within(20, 500)] = 150
    far: Annotated[int, within(2, 11)] = 4


SYMBOLS, CLS = 6, 6


def most_frequent(length: int, generator: torch.Generator, rows: int = 64) -> Batch:
    """A class token, then symbols; the class token has to name the most frequent one, each other token its successor's
    symbol (the last one: its own)."""
    weights = torch.rand(rows, SYMBOLS, generator=generator) ** 2
    ids = torch.multinomial(weights, length - 1, replacement=True, generator=generator)
    label = torch.nn.functional.one_hot(ids, SYMBOLS).sum(1).argmax(1, keepdim=True)
    targets = torch.cat([label, ids[:, 1:], ids[:, -1:]], 1)
    return small.labelled(torch.cat([torch.full_like(label, CLS), ids], 1), targets)


@experiment(long=True)
def layer_similarity(lab: Lab, params: LayerSimilarity) -> None:
    """Neighbouring layers are alike and can almost be swapped; distant ones are not and cannot."""

    @cache
    def model_of(seed: int) -> tuple[EncoderOnly, Batch]:
        torch.manual_seed(seed)
        model = small.encoder(SYMBOLS + 1, d_model=params.d, n_layers=params.n_layers)
        lab.train(model, partial(most_frequent, params.length), params.steps, seed=seed)
        return model, most_frequent(params.length, torch.Generator().manual_seed(70_000 + seed), rows=256)

    def unlike(distance: int, seed: int) -> float:
        """Mean log(1 − CKA) of the class token's vectors in layers so far apart."""
        found = similarities(*model_of(seed))
        pairs = range(len(found) - distance)
        return sum(math.log(1 - found[i][i + distance]) for i in pairs) / len(pairs)

    def swapped(distance: int, seed: int) -> float:
        """Mean log of the loss after exchanging two layers so far apart."""
        pairs = range(params.n_layers - distance)
        return sum(math.log(loss_swapped(*model_of(seed), i, i + distance)) for i in pairs) / len(pairs)

    lab.claim(
        "neighbours_alike",
        Text("Neighbouring layers are more alike than distant ones.", "相邻层的 CLS 比远离的层更相似。"),
        measure=unlike,
        arm=1,
        control=params.far,
        without=Text("layers far apart", "换成相隔很远的层"),
        holds=lower(),
        unit="log(1 − CKA)",
        seeds=3,
    )
    lab.claim(
        "neighbours_swap",
        Text(
            "Swapping neighbouring layers costs less than swapping distant ones.",
            "交换相邻两层，损失比交换远离的两层小。",
        ),
        measure=swapped,
        arm=1,
        control=params.far,
        without=Text("layers far apart", "换成相隔很远的层"),
        holds=lower(),
        unit="log nat",
        seeds=3,
    )
    lab.claim(
        "class_token",
        Text("The class token says what the whole sequence is about.", "CLS 能说出整句的信息。"),
        measure=lambda at, seed: class_accuracy(*model_of(seed), at),
        arm=params.n_layers,
        control=0,
        without=Text("its vector before the first layer", "第一层之前的 CLS 向量"),
        holds=above(0.6),
        unit="share",
        seeds=3,
    )
    describe(lab, params, *model_of(lab.seed))


@torch.no_grad()
def similarities(model: EncoderOnly, batch: Batch) -> list[list[float]]:
    """CKA of the class token's vectors after each two layers."""
    classes = [x[:, 0] for x in streams(model.encoder, batch.ids)[1:]]
    return [[linear_cka(x, y) for y in classes] for x in classes]


def loss_swapped(model: EncoderOnly, batch: Batch, first: int, second: int) -> float:
    """The loss after exchanging two layers."""
    changed = copy.deepcopy(model)
    blocks = list(changed.encoder.blocks)
    blocks[first], blocks[second] = blocks[second], blocks[first]
    changed.encoder.blocks = nn.ModuleList(blocks)
    return small.log_loss(changed, batch)


@torch.no_grad()
def class_accuracy(model: EncoderOnly, batch: Batch, after: int) -> float:
    """How often the model's head, given the class token's vector after so many layers, names the right symbol."""
    state = streams(model.encoder, batch.ids)[after][:, 0]
    assert model.encoder.norm is not None
    return float((model.head(model.encoder.norm(state)).argmax(-1) == batch.targets[:, 0]).float().mean())


@torch.no_grad()
def describe(lab: Lab, params: LayerSimilarity, model: EncoderOnly, test: Batch) -> None:
    """What is only observed: the class token from layer to layer, and how much attention stays on the diagonal."""
    states = streams(model.encoder, test.ids)
    classes = [x[:, 0] for x in states]
    steps = [torch.cosine_similarity(a, b).mean() for a, b in pairwise(classes[1:])]
    lab.number("class_cosine_least", min(map(float, steps)))
    lab.number("class_cosine_most", max(map(float, steps)))
    lab.number("class_spread_start", classes[0].std(0).norm() / classes[0].norm(dim=-1).mean())
    lab.number("class_spread_end", classes[-1].std(0).norm() / classes[-1].norm(dim=-1).mean())
    with recording(model) as maps:
        model(test.ids, test.tokens)
    diagonal = [float(m.weights.diagonal(dim1=2, dim2=3).mean()) for m in maps]
    table = similarities(model, test)
    lab.number("cka_neighbours", sum(table[i][i + 1] for i in range(len(table) - 1)) / (len(table) - 1))
    lab.number("cka_ends", table[0][-1])
    lab.number("diagonal_first", diagonal[0], "share")
    lab.number("diagonal_least", min(diagonal), "share")
    lab.number("diagonal_most", max(diagonal), "share")
    lab.number("diagonal_last", diagonal[-1], "share")
    lab.number("diagonal_uniform", 1 / params.length, "share")
    lab.figure(
        "cka",
        figures.heat(
            Text("Similarity of the class token between layers (CKA)", "CLS 的层间相似度（CKA）"),
            Text("layer", "层"),
            Text("layer", "层"),
            table,
            Text("CKA", "CKA"),
        ),
    )
    read = [(i, class_accuracy(model, test, i)) for i in range(len(states))]
    lab.figure(
        "diagonal",
        figures.lines(
            Text("Attention on itself, and what CLS knows", "对自身的注意力与 CLS 的信息"),
            Text("layer", "层"),
            Text("share", "比例"),
            {"self": [(i + 1, share) for i, share in enumerate(diagonal)], "class": read},
            {
                "self": Text("attention to itself", "对自身的注意力"),
                "class": Text("CLS read by the head", "用输出层读 CLS 的正确率"),
            },
        ),
    )
