"""Attention that follows the edges of a tree, and a task whose answer is made along them (B26)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import fmean
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Full, Learned, Mask, NoPosition, PositionConfig, Sinusoidal, Tokens, Window
from qkv.nn.trees import TreeNeighbours

AND, OR, XOR = 2, 3, 4
"""Operators; 0 and 1 are the leaves."""


def grown(leaves: int, chance: Random) -> tuple[list[int], list[int]]:
    """(ids, parents) of a random binary expression with so many leaves, in prefix order; the root is its own parent."""
    ids: list[int] = []
    parents: list[int] = []

    def grow(n: int, parent: int) -> None:
        here = len(ids)
        parents.append(here if parent < 0 else parent)
        if n == 1:
            ids.append(chance.randrange(2))
            return
        ids.append(chance.choice((AND, OR, XOR)))
        left = chance.randrange(1, n)
        grow(left, here)
        grow(n - left, here)

    grow(leaves, -1)
    return ids, parents


def values(ids: list[int], parents: list[int]) -> list[int]:
    """The value of the expression below each node."""
    found = list(ids)
    for node in reversed(range(len(ids))):
        if ids[node] >= AND:
            a, b = (found[c] for c in range(node + 1, len(ids)) if parents[c] == node)
            found[node] = a & b if ids[node] == AND else a | b if ids[node] == OR else a ^ b
    return found


def forest(leaves: int, rows: int, generator: torch.Generator, wrong: bool = False) -> Batch:
    """Expressions whose operators have to say their values. wrong: the parents are those of the next row's tree."""
    chance = Random(int(torch.randint(2**31, (1,), generator=generator)))
    trees = [grown(leaves, chance) for _ in range(rows)]
    ids = torch.tensor([t[0] for t in trees])
    parents = torch.tensor([t[1] for t in trees])
    targets = torch.tensor([values(*t) for t in trees]).masked_fill(ids < AND, IGNORE)
    seen = parents.roll(1, 0) if wrong else parents
    return Batch(ids, Tokens.arange(*ids.shape).with_fields(parent=seen), targets)


@dataclass(frozen=True)
class TreeSymmetry:
    """leaves: of the expression. n_layers, d_model: of the encoder."""

    leaves: Annotated[int, within(2, 32)] = 6
    n_layers: Annotated[int, within(1, 8)] = 4
    d_model: Annotated[int, within(8, 64)] = 16


@experiment()
def tree_symmetry(lab: Lab, params: TreeSymmetry) -> None:
    """With a tree's mask and no positions the order in which the tree is written down does not matter."""
    batch = forest(params.leaves, 1, lab.generator())
    order = torch.randperm(batch.ids.shape[1], generator=lab.generator(1))
    parent = batch.tokens.fields["parent"]
    place = order.argsort()  # the new column of each old one
    rewritten = Tokens.arange(*batch.ids.shape).with_fields(parent=place[parent[:, order]])

    @torch.no_grad()
    def change(arm: tuple[PositionConfig, Mask | None]) -> float:
        position, mask = arm
        torch.manual_seed(lab.seed)
        model = small.encoder(5, d_model=params.d_model, n_layers=params.n_layers, position=position, mask=mask)
        model.double().eval()
        moved = model(batch.ids[:, order], rewritten) - model(batch.ids, batch.tokens)[:, order]
        return float(moved.abs().max())

    lab.claim(
        "written_anyhow",
        Text(
            "The states of a tree's nodes do not depend on the order in which the nodes are written.",
            "树上各节点的状态与节点的书写次序无关。",
        ),
        measure=change,
        arm=(NoPosition(), TreeNeighbours()),
        control=(Sinusoidal(), TreeNeighbours()),
        without=Text("positions in the text are added", "加上文本位置编码"),
        holds=below(1e-10),
    )
    other = rewritten.with_fields(parent=rewritten.fields["parent"].roll(1, 1))

    @torch.no_grad()
    def told(mask: Mask | None) -> float:
        torch.manual_seed(lab.seed)
        model = small.encoder(5, d_model=params.d_model, n_layers=params.n_layers, position=NoPosition(), mask=mask)
        model.double().eval()
        ids = batch.ids[:, order]
        return float((model(ids, rewritten) - model(ids, other)).abs().max())

    lab.number("edges_felt", told(TreeNeighbours()))
    lab.number("edges_ignored", told(None))


@dataclass(frozen=True)
class TreeTraining:
    """leaves: of the expressions trained on. more: of the larger ones. n_layers, d_model: of each model. steps."""

    leaves: Annotated[int, within(2, 12)] = 5
    more: Annotated[int, within(2, 16)] = 8
    n_layers: Annotated[int, within(1, 8)] = 4
    d_model: Annotated[int, within(8, 64)] = 32
    steps: Annotated[int, within(20, 1000)] = 250


BELOW = TreeNeighbours() & Window(back=0)
"""A node and its children, which stand after it in prefix order: values come from below, and the parent is noise."""
ARMS: dict[str, tuple[PositionConfig, Mask | None, bool]] = {
    "tree": (NoPosition(), BELOW, False),
    "wrong": (NoPosition(), BELOW, True),
    "plain": (Learned(small.MAX_LENGTH), None, False),
}


@experiment(long=True)
def tree_training(lab: Lab, params: TreeTraining) -> None:
    """A root hears as far down as there are layers; what edges, wrong edges and full attention learn of its value."""

    @cache
    def trained(key: str, seed: int) -> nn.Module:
        position, mask, wrong = ARMS[key]
        torch.manual_seed(seed)
        model = small.encoder(
            5,
            d_model=params.d_model,
            n_layers=params.n_layers,
            position=position,
            mask=mask,
            distinct_layers=1,
        )
        return lab.train(
            model, lambda g: forest(params.leaves, 48, g, wrong), params.steps, seed=seed, learning_rate=6e-3
        )

    @cache
    def score(key: str, seed: int, leaves: int) -> float:
        batch = forest(leaves, 300, torch.Generator().manual_seed(10_000 + seed), ARMS[key][2])
        batch.targets[:, 1:] = IGNORE  # the root stands first
        return small.accuracy(trained(key, seed), batch)

    claim_height(lab, params)
    # No claim: the seeds of the arm that knows its tree scatter so much that no gap is three times their range.
    drawn = {key: [score(key, seed, params.leaves) for seed in lab.seeds()] for key in ARMS}
    heights = {key: lab.spread(key, found, "accuracy") for key, found in drawn.items()}
    for key in ARMS:
        lab.number(f"{key}_more", fmean(score(key, seed, params.more) for seed in lab.seeds()), "accuracy")
    for other in ("wrong", "plain"):
        widest = max(max(drawn[key]) - min(drawn[key]) for key in ("tree", other))
        lab.number(f"{other}_in_ranges", (heights["tree"] - heights[other]) / widest, "times")
    names = {"tree": Text("tree", "树"), "wrong": Text("wrong tree", "错误的树"), "plain": Text("full", "全注意力")}
    title = Text("Accuracy at the root", "根处的准确率")
    lab.figure("arms", figures.bars(title, Text("accuracy", "准确率"), heights, names))


def claim_height(lab: Lab, params: TreeTraining) -> None:
    """How deep below it a root can hear."""
    height = 2 * params.n_layers
    ids = torch.tensor([[AND, 1] * height + [1]])  # a comb: every other node is one edge deeper
    column = torch.arange(ids.shape[1])
    parents = torch.where(column % 2 == 0, column - 2, column - 1).clamp_min(0)
    depth = (column + 1) // 2

    def heard(mask: Mask) -> float:
        torch.manual_seed(lab.seed)
        model = small.encoder(5, d_model=params.d_model, n_layers=params.n_layers, position=NoPosition(), mask=mask)
        model.double().eval()
        kept: list[Tensor] = []
        handle = model.encoder.embedding.register_forward_hook(lambda _m, _i, out: kept.append(out))
        root = model(ids, Tokens.arange(*ids.shape).with_fields(parent=parents[None]))[0, 0]
        handle.remove()
        (gradient,) = torch.autograd.grad((root * torch.arange(1.0, params.d_model + 1)).sum(), kept[0])
        return float(depth[gradient[0].abs().amax(-1) > 0].max())

    lab.claim(
        "height",
        Text(
            "Along the edges a root hears as many edges down as there are layers.", "沿着边，根能听到的深度等于层数。"
        ),
        measure=heard,
        arm=BELOW,
        control=Full(),
        without=Text("full attention, which hears all in one layer", "全注意力：一层就听到全部"),
        holds=exactly(params.n_layers),
        unit="edges",
    )
