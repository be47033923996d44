"""Facts written into a feed-forward network in closed form: what it can hold, and where (A93, B15, B32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import FeedForward
from qkv.nn.feedforward import PositionWise


@dataclass(frozen=True)
class FactCells:
    """n_facts: random keys of width d, each with one of n_objects as its value. cells: hidden units."""

    n_facts: Annotated[int, within(16, 512)] = 256
    n_objects: Annotated[int, within(2, 64)] = 32
    d: Annotated[int, within(4, 64)] = 16
    cells: Annotated[int, within(16, 1024)] = 384


@dataclass(frozen=True)
class Facts:
    """keys [n,E] of length 1, values [n,E] = objects[answers], objects [objects,E] of length 1."""

    keys: Tensor
    objects: Tensor
    answers: Tensor

    @property
    def values(self) -> Tensor:
        return self.objects[self.answers]

    def recalled(self, network: nn.Module) -> Tensor:
        """bool [n]: whose answer is the object that the output is nearest to in direction."""
        with torch.no_grad():
            return (network(self.keys) @ self.objects.T).argmax(-1) == self.answers


def draw(params: FactCells, generator: torch.Generator) -> Facts:
    """Random facts."""
    keys, objects = (
        nn.functional.normalize(torch.randn(n, params.d, generator=generator, dtype=torch.float64), dim=-1)
        for n in (params.n_facts, params.n_objects)
    )
    return Facts(keys, objects, torch.randint(params.n_objects, (params.n_facts,), generator=generator))


def network(d: int, cells: int, activation: nn.Module | None = None) -> PositionWise:
    """A network with random first matrix and biases."""
    made = FeedForward(cells).build(d)
    assert isinstance(made, PositionWise)
    if activation is not None:
        made.activation = activation
    return made.double()


@torch.no_grad()
def hidden(made: PositionWise, keys: Tensor) -> Tensor:
    """φ(W₁x + b₁) and a 1 for the bias of the second matrix, [n,F+1]."""
    return torch.cat([made.activation(made.up(keys)), torch.ones(len(keys), 1, dtype=keys.dtype)], 1)


@torch.no_grad()
def solve(made: PositionWise, facts: Facts) -> PositionWise:
    """The second matrix and its bias by least squares: facts spread over all cells."""
    table = torch.linalg.lstsq(hidden(made, facts.keys), facts.values, driver="gelsd").solution
    made.down.weight.copy_(table[:-1].T)
    made.down.bias.copy_(table[-1])
    return made


@torch.no_grad()
def one_cell_each(facts: Facts) -> PositionWise:
    """One cell a fact: k_i = x_i, a threshold that only x_i passes, v_i scaled to be the value exactly."""
    made = network(facts.keys.shape[1], len(facts.keys))
    overlap = facts.keys @ facts.keys.T
    nearest = overlap.masked_fill(torch.eye(len(overlap), dtype=torch.bool), -2.0).max(1).values
    made.up.weight.copy_(facts.keys)
    made.up.bias.copy_(-nearest)
    made.down.weight.copy_((facts.values / (1 - nearest)[:, None]).T)
    made.down.bias.zero_()
    return made


@torch.no_grad()
def lost_with_strongest_cell(made: PositionWise, facts: Facts) -> tuple[float, float]:
    """Without the cell that speaks most for a fact: the share of facts lost themselves, and of others lost with one."""
    speaks = hidden(made, facts.keys)[:, :-1] * (facts.values @ made.down.weight)
    own, others, known = [], [], facts.recalled(made)
    for fact, cell in enumerate(speaks.argmax(1).tolist()):
        column = made.down.weight[:, cell].clone()
        made.down.weight[:, cell] = 0.0
        lost = known & ~facts.recalled(made)
        made.down.weight[:, cell] = column
        own.append(float(lost[fact]))
        others.append((float(lost.sum()) - own[-1]) / (len(known) - 1))
    return sum(own) / len(own), sum(others) / len(others)


@experiment()
def fact_cells(lab: Lab, params: FactCells) -> None:
    """The activation makes room for one fact a cell; where in the network a fact sits is not fixed."""
    facts = draw(params, lab.generator())

    def solved(cells: int, activation: nn.Module | None = None) -> PositionWise:
        torch.manual_seed(lab.seed)
        return solve(network(params.d, cells, activation), facts)

    lab.claim(
        "recall",
        Text("A network with more cells than facts holds them all.", "单元数多于事实数的前馈网络，能存下全部事实。"),
        measure=lambda phi: facts.recalled(solved(params.cells, phi)).float().mean(),
        arm=None,
        control=nn.Identity(),
        without=Text("the same width without the activation", "同样宽度、去掉激活函数"),
        holds=above(0.999),
        unit="share",
    )
    half = params.n_facts // 2

    def capacity(phi: nn.Module | None) -> float:
        """How many facts can be written exactly, for each cell: the rank of the hidden layer over the facts."""
        torch.manual_seed(lab.seed)
        return float(torch.linalg.matrix_rank(hidden(network(params.d, half, phi), facts.keys))) / half

    lab.claim(
        "facts_per_cell",
        Text("Each cell makes room for one more fact.", "每多一个单元，就能多存一条事实。"),
        measure=capacity,
        arm=None,
        control=nn.Identity(),
        without=Text("no activation: room for d + 1 facts, however wide", "没有激活函数：再宽也只有 d + 1 条"),
        holds=close(1.0, 0.02),
        unit="facts a cell",
    )
    place_claims(lab, facts, one_cell_each(facts), solved(params.cells))
    curves = {
        "relu": [(n, float(facts.recalled(solved(n)).float().mean())) for n in (8, 16, 32, 64, 128, 256)],
        "none": [(n, float(facts.recalled(solved(n, nn.Identity())).float().mean())) for n in (8, 32, 128, 256)],
    }
    lab.number("chance", 1 / params.n_objects, "share")
    lab.figure(
        "capacity",
        figures.lines(
            Text("Facts recalled", "能取回的事实"),
            Text("hidden units", "隐藏单元数"),
            Text("share", "比例"),
            curves,
            {"relu": Text("ReLU", "ReLU"), "none": Text("no activation", "无激活函数")},
        ),
    )


def place_claims(lab: Lab, facts: Facts, local: PositionWise, spread: PositionWise) -> None:
    """The same facts in single cells and spread over all; and one rewritten in the spread ones."""
    lab.number("recall_local", facts.recalled(local).float().mean(), "share")
    lost = {id(made): lost_with_strongest_cell(made, facts) for made in (local, spread)}
    lab.claim(
        "one_cell_one_fact",
        Text(
            "In a memory with one cell a fact, deleting a cell touches no other fact.",
            "一个单元存一条事实时，删掉一个单元不影响其他事实。",
        ),
        measure=lambda made: lost[id(made)][1],
        arm=local,
        control=spread,
        without=Text("the same facts spread over all cells by least squares", "同样的事实，用最小二乘分散到所有单元"),
        holds=below(1e-3),
        unit="share",
    )
    lab.number("own_lost_local", lost[id(local)][0], "share")
    lab.number("own_lost_spread", lost[id(spread)][0], "share")
    states = hidden(spread, facts.keys)[:, :-1]

    def side_effect(exact: bool) -> Tensor:
        """Largest change of another fact's output when the first is rewritten by a change of rank one."""
        direction = torch.linalg.pinv(states)[:, 0] if exact else states[0]
        change = torch.outer(facts.objects[0] - facts.objects[1], direction / (direction @ states[0]))
        return (states[1:] @ change.T).norm(dim=-1).max() / (states[0] @ change.T).norm()

    lab.claim(
        "edit",
        Text(
            "A change of rank one rewrites one fact and moves no other.",
            "对第二个矩阵做秩一修改，可以只改写一条事实，其余不动。",
        ),
        measure=side_effect,
        arm=True,
        control=False,
        without=Text(
            "the change along the fact's own activations, not orthogonal to the others'",
            "沿这条事实自己的激活方向修改，不与其他事实正交",
        ),
        holds=below(1e-8),
        unit="share of the change",
    )
