"""One layer run many times: what sharing does to gradients, weights, work and memory (A66, B13)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import counted
from qkv.models import EncoderOnly
from qkv.nn import Full, Tokens, Window

from .facts import facts, right


@dataclass(frozen=True)
class SharedLayers:
    """n_layers: depth. d: width. length: of the sequence."""

    n_layers: Annotated[int, within(2, 24)] = 6
    d: Annotated[int, within(8, 64)] = 16
    length: Annotated[int, within(2, 32)] = 8


def weights(model: nn.Module) -> int:
    """Numbers in a model's layers, embeddings and head left out."""
    assert isinstance(model, EncoderOnly)
    return sum(p.numel() for p in model.encoder.blocks.parameters())


@experiment()
def shared_layers(lab: Lab, params: SharedLayers) -> None:
    """A shared layer's gradient is the sum over its uses; sharing divides the weights and leaves the work as it is."""
    ids = torch.randint(16, (2, params.length), generator=lab.generator())
    tokens = Tokens.arange(*ids.shape)

    def build(distinct: int, d: int = params.d) -> EncoderOnly:
        torch.manual_seed(lab.seed)
        return small.encoder(16, d_model=d, n_layers=params.n_layers, distinct_layers=distinct).double()

    def gradients(model: EncoderOnly) -> list[list[Tensor]]:
        """Of each distinct layer, one tensor a weight."""
        model.zero_grad()
        model.head(model(ids, tokens)).logsumexp(-1).sum().backward()
        return [[p.grad for p in block.parameters() if p.grad is not None] for block in model.encoder.blocks]

    shared, untied = build(1), build(0)
    untied.load_state_dict(
        {name: shared.state_dict()[spell(name)] for name in untied.state_dict()},
    )
    total, parts = gradients(shared)[0], gradients(untied)

    def distance(uses: list[list[Tensor]]) -> float:
        """Largest difference between the shared gradient and the sum over `uses`."""
        sums = [torch.stack(same).sum(0) for same in zip(*uses, strict=True)]
        return max(float((a - b).abs().max()) for a, b in zip(total, sums, strict=True))

    lab.claim(
        "gradient_sum",
        Text(
            "The gradient of shared weights is the sum of the gradients of all their uses.",
            "共享权重的梯度等于它每次使用处的梯度之和。",
        ),
        measure=distance,
        arm=parts,
        control=parts[-1:],
        without=Text("the last use alone", "只算最后一次使用"),
        holds=below(1e-10),
    )

    size_claims(lab, ids, shared, untied, build(params.n_layers // 2))


def size_claims(lab: Lab, ids: Tensor, shared: EncoderOnly, untied: EncoderOnly, halved: EncoderOnly) -> None:
    """What is saved and what is not."""
    tokens, n_layers = Tokens.arange(*ids.shape), untied.config.stack.n_layers

    def work(model: EncoderOnly) -> float:
        """Operations of one forward pass."""
        return counted(lambda: model(ids, tokens))

    lab.claim(
        "same_work",
        Text("Sharing saves no computation.", "共享参数不减少计算量。"),
        measure=lambda model: work(model) / work(untied),
        arm=shared,
        control=small.encoder(16, d_model=untied.config.stack.d_model, n_layers=1).double(),
        without=Text("one layer that is run once", "只有一层、只算一次"),
        holds=close(1.0, 1e-12),
    )
    lab.claim(
        "fewer_weights",
        Text(
            "Sharing one layer divides the weights of the layers by their number.",
            "全部共享时，层内参数变为层数分之一。",
        ),
        measure=lambda model: weights(untied) / weights(model),
        arm=shared,
        control=halved,
        without=Text("half as many distinct layers", "只共享一半：相邻两层共用"),
        holds=close(n_layers, 1e-12),
    )
    lab.number("work", work(untied), "FLOP")
    lab.number("weights_untied", weights(untied))
    lab.number("weights_shared", weights(shared))


def spell(name: str) -> str:
    """The name in a model with one shared layer of a weight in a model without sharing."""
    head, found, rest = name.partition("blocks.")
    return f"{head}{found}0.{rest.split('.', 1)[1]}" if found else name


@dataclass(frozen=True)
class SharingTraining:
    """n_layers: depth. d, d_ff: of the narrow stacks; the wide one has factor times both. n_subjects: and as many
    relations; their pairs are the facts. steps: updates."""

    n_layers: Annotated[int, within(2, 8)] = 3
    d: Annotated[int, within(8, 32)] = 16
    d_ff: Annotated[int, within(8, 128)] = 32
    factor: Annotated[int, within(1, 4)] = 2
    n_subjects: Annotated[int, within(4, 64)] = 24
    steps: Annotated[int, within(20, 500)] = 150


@dataclass(frozen=True)
class Arm:
    """distinct: layers with weights of their own (0: all). factor: on the widths. mixing: whether tokens may attend."""

    distinct: int
    factor: int = 1
    mixing: bool = True


SYMBOLS, LENGTH = 6, 8


def mirror_sums(generator: torch.Generator) -> Batch:
    """A rule, no facts: position t has to say (x_t + x_{T-1-t}) mod 6."""
    ids = torch.randint(SYMBOLS, (64, LENGTH), generator=generator)
    return small.labelled(ids, (ids + ids.flip(1)) % SYMBOLS)


def build(params: SharingTraining, arm: Arm, vocab: int, seed: int) -> EncoderOnly:
    """A fresh stack of an arm."""
    torch.manual_seed(seed)
    return small.encoder(
        vocab,
        d_model=params.d * arm.factor,
        d_ff=params.d_ff * arm.factor,
        n_layers=params.n_layers,
        distinct_layers=arm.distinct,
        mask=Full() if arm.mixing else Window(back=0, ahead=0),
    )


@experiment(long=True)
def sharing_training(lab: Lab, params: SharingTraining) -> None:
    """A shared layer learns a rule; how many facts it learns beside layers of their own is observed."""

    @cache
    def known(arm: Arm, seed: int) -> float:
        """Share of the facts that are recalled."""
        batch = facts(params.n_subjects, params.n_subjects, 4, seed)
        model = build(params, arm, 2 * params.n_subjects + 4, seed)
        lab.train(model, lambda _: batch, params.steps, seed=seed, learning_rate=5e-3)
        return float(right(model, batch).float().mean())

    @cache
    def ruled(arm: Arm, seed: int) -> float:
        """Accuracy of the rule on new sequences."""
        model = build(params, arm, SYMBOLS, seed)
        lab.train(model, mirror_sums, 2 * params.steps, seed=seed, learning_rate=5e-3)
        return small.accuracy(model, mirror_sums(torch.Generator().manual_seed(60_000 + seed)))

    own, shared, wide = Arm(0), Arm(1), Arm(1, params.factor)
    lab.claim(
        "rule",
        Text("A layer that is shared by all depths learns a rule.", "所有层共享的一层学得会规则。"),
        measure=ruled,
        arm=shared,
        control=Arm(1, mixing=False),
        without=Text("no attention between tokens", "词与词之间不能注意"),
        holds=above(0.9),
        unit="share",
        seeds=3,
    )
    for name, arm in (("own", own), ("shared", shared), ("wide", wide)):
        lab.spread(f"facts_{name}", [known(arm, seed) for seed in lab.seeds()], "share")
        lab.number(f"weights_{name}", weights(build(params, arm, 16, 0)))
    lab.number("rule_own", ruled(own, lab.seed), "share")
    lab.number("n_facts", params.n_subjects**2)
    draw_facts(lab)


def draw_facts(lab: Lab) -> None:
    """The three arms side by side."""
    lab.figure(
        "facts",
        figures.bars(
            Text("Facts known after the same number of updates", "同样步数后记住的事实"),
            Text("share", "比例"),
            {name: lab.numbers[f"facts_{name}"].value for name in ("own", "shared", "wide")},
            {
                "own": Text("own layers", "各层独立"),
                "shared": Text("shared, same width", "共享，同宽"),
                "wide": Text("shared, wider", "共享，加宽"),
            },
        ),
    )
