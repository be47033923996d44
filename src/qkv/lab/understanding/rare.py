"""Rare labels: which rule is best for balanced accuracy, and which loss ends there (A12)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import IGNORE, Batch
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import Choice
from qkv.nn import Tokens

LABEL = "label"


def asked(ids: Tensor, labels: Tensor) -> Batch:
    """Texts [B,T] with a label each, [B]."""
    return Batch(ids, Tokens.arange(*ids.shape), torch.full_like(ids, IGNORE), extra={LABEL: labels})


@dataclass(frozen=True)
class Rules:
    """n_inputs, n_labels: of a source that is written out. rows: of the most frequent label; each next has a third."""

    n_inputs: Annotated[int, within(2, 6)] = 5
    n_labels: Annotated[int, within(2, 4)] = 4
    rows: Annotated[int, within(50, 2000)] = 600


class Written:
    """A source of few inputs and labels that is written out, so that every rule, input -> label, can be tried."""

    def __init__(self, lab: Lab, params: Rules):
        shares = torch.rand(params.n_labels, params.n_inputs, generator=lab.generator(), dtype=torch.float64) ** 2
        sizes = torch.tensor([params.rows / 3**k for k in range(params.n_labels)], dtype=torch.float64)
        joint = (shares / shares.sum(1, keepdim=True) * sizes[:, None]).round().clamp_min(1)
        self.joint, self.counts = joint, joint.sum(1)  # how often label and input come together, and the label
        rows = [(x, y) for y, x in itertools.product(*map(range, joint.shape)) for _ in range(int(joint[y, x]))]
        self.inputs, self.labels = torch.tensor(rows).T
        rules = itertools.product(range(params.n_labels), repeat=params.n_inputs)
        self.every = [self.accuracies(rule) for rule in rules]
        self.best = [max(column) for column in zip(*self.every, strict=True)]

    def accuracies(self, rule: Sequence[int]) -> tuple[float, float]:
        """Plain and balanced accuracy of a rule."""
        hit = (self.joint * (torch.tensor(rule) == torch.arange(len(self.joint))[:, None])).sum(1)
        return float(hit.sum() / self.counts.sum()), float((hit / self.counts).mean())

    def learned(self, adjustment: float) -> tuple[float, float]:
        """The same of a table of scores that is trained to the optimum of the loss of the toolkit's output."""
        output = Choice(adjustment=adjustment, dropout=0.0).build(LABEL, 1, self.counts.int().tolist()).double()
        scores = torch.zeros(*self.joint.T.shape, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([scores], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")
        batch = asked(self.inputs[:, None], self.labels)

        def loss() -> Tensor:
            optimizer.zero_grad()
            total = output.loss(scores[self.inputs], batch) / len(self.inputs)
            total.backward()
            return total

        optimizer.step(loss)
        return self.accuracies([decision.labels[0] for decision in output.decide(scores.detach(), batch)])


@experiment()
def balanced_rule(lab: Lab, params: Rules) -> None:
    """Among all rules the one with the best balanced accuracy takes the label with the largest p(y|x)/p(y), and
    training with adjusted logits ends there; training without ends at the rule with the best plain accuracy."""
    source = Written(lab, params)
    plain, adjusted = source.learned(0.0), source.learned(1.0)
    lab.number("rules", len(source.every))
    lab.claim(
        "balanced",
        Text("No rule has a better balanced accuracy than adjusted training.", "没有别的规则的平衡准确率更高。"),
        measure=lambda found: source.best[1] - found[1],
        arm=adjusted,
        control=plain,
        without=Text("without adjustment", "不调整"),
        holds=below(1e-9),
        unit="share",
    )
    lab.claim(
        "plain",
        Text("No rule has a better accuracy than plain training.", "论普通准确率，没有规则胜过不调整的训练。"),
        measure=lambda found: source.best[0] - found[0],
        arm=plain,
        control=adjusted,
        without=Text("with adjustment: it pays with plain accuracy", "调整之后：要赔上普通准确率"),
        holds=below(1e-9),
        unit="share",
    )
