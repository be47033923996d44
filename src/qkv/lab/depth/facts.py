"""Random facts that a model has to learn by heart (A93, B15, B32, A72, A66)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Block
from qkv.nn.feedforward import PositionWise


def facts(n_subjects: int, n_relations: int, n_objects: int, seed: int) -> Batch:
    """Every pair (subject, relation), with an object drawn at random as what follows it."""
    generator = torch.Generator().manual_seed(40_000 + seed)
    subject = torch.arange(n_subjects).repeat_interleave(n_relations)
    relation = torch.arange(n_relations).repeat(n_subjects) + n_subjects
    objects = torch.randint(n_objects, (len(subject),), generator=generator) + n_subjects + n_relations
    return small.at_last(torch.stack([subject, relation], 1), objects)


@dataclass(frozen=True)
class FactMemory:
    """n_subjects × n_relations facts over n_objects. d: width. cells: hidden units. steps: updates, each on all facts.
    edits: how many facts are rewritten, one at a time, and how many are ablated."""

    n_subjects: Annotated[int, within(4, 64)] = 24
    n_relations: Annotated[int, within(2, 64)] = 24
    n_objects: Annotated[int, within(2, 64)] = 4
    d: Annotated[int, within(8, 64)] = 24
    cells: Annotated[int, within(16, 1024)] = 256
    steps: Annotated[int, within(20, 600)] = 150
    edits: Annotated[int, within(1, 256)] = 24


def network(model: nn.Module) -> PositionWise:
    """The feed-forward network of a model of one layer."""
    assert isinstance(model, DecoderOnly)
    block = model.decoder.blocks[0]
    assert isinstance(block, Block) and isinstance(block.feedforward, PositionWise)
    return block.feedforward


def right(model: nn.Module, batch: Batch) -> Tensor:
    """Which facts the model knows, bool [facts]."""
    return small.logits(model, batch)[:, -1].argmax(-1) == batch.targets[:, -1]


def hidden(model: nn.Module, batch: Batch) -> Tensor:
    """The hidden layer where the object is asked, [facts, F]."""
    found: list[Tensor] = []
    handle = network(model).down.register_forward_pre_hook(lambda _m, inputs: found.append(inputs[0][:, -1]))
    small.logits(model, batch)
    handle.remove()
    return found[0]


@experiment(long=True)
def fact_memory(lab: Lab, params: FactMemory) -> None:
    """A trained fact can be rewritten alone; how many are learnt with and without the network is observed."""

    @cache
    def learn(cells: int, active: bool, seed: int) -> tuple[nn.Module, Batch]:
        """A model of one layer after training on all facts; cells = 0: attention only."""
        batch = facts(params.n_subjects, params.n_relations, params.n_objects, seed)
        torch.manual_seed(seed)
        vocab = params.n_subjects + params.n_relations + params.n_objects
        model = small.decoder(vocab, d_model=params.d, n_layers=1, d_ff=cells)
        if not active:
            network(model).activation = nn.Identity()
        return lab.train(model, lambda _: batch, params.steps, seed=seed, learning_rate=1e-2), batch

    full = (params.cells, True)
    edit_claims(lab, params, lambda seed: learn(*full, seed))
    ablation_numbers(lab, params, *learn(*full, lab.seed))
    lab.number("facts", params.n_subjects * params.n_relations)
    lab.number("chance", 1 / params.n_objects, "share")
    shares: dict[str, float] = {}
    for name, arm in (("network", full), ("linear", (params.cells, False)), ("attention", (0, True))):
        drawn = [float(right(*learn(*arm, seed)).float().mean()) for seed in lab.seeds()]
        shares[name] = lab.spread(f"recalled_{name}", drawn, "share")
    lab.figure(
        "recalled",
        figures.bars(
            Text("Facts known after the same training", "同样训练之后记住的事实"),
            Text("share", "比例"),
            shares,
            {
                "network": Text("with feed-forward", "有前馈网络"),
                "linear": Text("without its activation", "去掉激活函数"),
                "attention": Text("attention only", "只有注意力"),
            },
        ),
    )


def edit_claims(lab: Lab, params: FactMemory, learn: Callable[[int], tuple[nn.Module, Batch]]) -> None:
    """One fact is rewritten by a rank-one change of the second matrix (Meng et al. 2022, eq. 2)."""

    def disturbed(whitened: bool, seed: int) -> float:
        """Mean share of the other facts that a rewriting changes."""
        model, batch = learn(seed)
        table, targets = network(model).down, batch.targets[:, -1]
        keys, known, weight = hidden(model, batch), right(model, batch), network(model).down.weight
        covariance = keys.T @ keys / len(keys) + 1e-4 * torch.eye(keys.shape[1])
        first = params.n_subjects + params.n_relations
        original, changed, flipped = weight.detach().clone(), [], []
        for fact in known.nonzero().flatten()[: params.edits].tolist():
            new = first + (int(targets[fact]) - first + 1) % params.n_objects
            direction = torch.linalg.solve(covariance, keys[fact]) if whitened else keys[fact]
            push = model.head.weight[new] - model.head.weight[targets[fact]]  # type: ignore[union-attr, index]
            with torch.no_grad():
                now = original
                for strength in (4.0, 8.0, 16.0, 32.0, 64.0, 128.0):
                    now = original + strength * torch.outer(push / push.norm(), direction / (direction @ keys[fact]))
                    table.weight.copy_(now)
                    if int(small.logits(model, batch)[fact, -1].argmax()) == new:
                        break
            after = small.logits(model, batch)[:, -1].argmax(-1)
            flipped.append(float(after[fact] == new))
            lost = known & (after != targets)
            lost[fact] = False
            changed.append(float(lost.sum()) / (float(known.sum()) - 1))
            with torch.no_grad():
                table.weight.copy_(original)
        rewritten[whitened, seed] = sum(flipped) / len(flipped)
        return sum(changed) / len(changed)

    rewritten: dict[tuple[bool, int], float] = {}
    lab.claim(
        "edit",
        Text(
            "A rank-one change of the second matrix rewrites one fact and leaves the others alone.",
            "对第二个矩阵做秩一修改，可以只改写一条事实，其余不动。",
        ),
        measure=disturbed,
        arm=True,
        control=False,
        without=Text(
            "the change made along the fact's own activations, not made orthogonal to the others'",
            "沿该事实自己的激活方向修改，不与其他事实的激活正交",
        ),
        holds=below(0.03),
        unit="share",
        seeds=3,
    )
    if rewritten:
        lab.number("rewritten", min(share for (whitened, _), share in rewritten.items() if whitened), "share")


def ablation_numbers(lab: Lab, params: FactMemory, model: nn.Module, batch: Batch) -> None:
    """What is lost with the one unit that speaks most for a fact."""
    layer, targets = network(model).down, batch.targets[:, -1]
    keys, known = hidden(model, batch), right(model, batch)
    spoken = keys * (model.head.weight[targets] @ layer.weight).detach()  # type: ignore[union-attr, index]
    own, others = [], []
    for fact in known.nonzero().flatten()[: params.edits].tolist():
        unit = int(spoken[fact].argmax())
        with torch.no_grad():
            column = layer.weight[:, unit].clone()
            layer.weight[:, unit] = 0.0
            lost = known & ~right(model, batch)
            layer.weight[:, unit] = column
        own.append(float(lost[fact]))
        lost[fact] = False
        others.append(float(lost.sum()) / (float(known.sum()) - 1))
    lab.number("lost_with_top_unit", sum(own) / len(own), "share")
    lab.number("others_lost_with_it", sum(others) / len(others), "share")
    lab.number("active_units", (keys > 0).float().mean(), "share")
