"""The training loss, step by step: shift, softmax, sum over asked tokens, one division (A20, A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.models.config import HeadConfig
from qkv.training.losses import run

from .ragged import collate, draw, gradient_of, relative, total


@dataclass(frozen=True)
class TokenLoss:
    """vocab: how many tokens there are to choose from. longest: of four rows whose lengths are 1/4, 2/4, 3/4 and 4/4 of
    it. padding: columns added to the batch that nothing needs."""

    vocab: Annotated[int, within(10, 5000)] = 1000
    longest: Annotated[int, within(4, 64)] = 32
    padding: Annotated[int, within(1, 32)] = 5


def decoder(vocab: int) -> DecoderOnly:
    """A decoder in float64, untrained, with a bias in its head."""
    return small.decoder(vocab, HeadConfig(tied=False, bias=True), d_model=64, n_layers=1).double()


def by_hand(model: DecoderOnly, batch: Batch, shift: int = 0) -> float:
    """Mean over the asked tokens of logsumexp(z) − z_target, every one in a loop. shift: targets moved by so many."""
    z, losses = small.logits(model, batch), []
    for row, column in (batch.targets >= 0).nonzero().tolist():
        scores = z[row, column].tolist()
        target = int(batch.targets[row, column]) if not shift else int(batch.ids[row, column])
        top = max(scores)
        losses.append(top + math.log(sum(math.exp(s - top) for s in scores)) - scores[target])
    return math.fsum(losses) / len(losses)


def mean_loss(model: DecoderOnly, batch: Batch) -> Tensor:
    """The loss as training divides it: the sum over all tokens by their number."""
    value, count = total(model, batch)
    return value / count


@experiment()
def token_loss(lab: Lab, params: TokenLoss) -> None:
    """The loss by hand, its gradient p − y, what padding may not change, and where an untrained model begins."""
    lengths = [params.longest * i // 4 for i in (1, 2, 3, 4)]
    rows = draw(lengths, params.vocab, lab.generator())
    model, batch = decoder(params.vocab), collate(rows)
    lab.claim(
        "by_hand",
        Text(
            "The loss is the mean of −log softmax at the next token.", "损失就是各处对下一个词的 −log softmax 的平均。"
        ),
        measure=lambda shift: abs(by_hand(model, batch, shift) - float(mean_loss(model, batch).detach())),
        arm=0,
        control=1,
        without=Text("no shift: each position is asked for the token it reads", "不右移：每个位置被问的是它读到的词"),
        holds=below(1e-10),
        unit="nat",
    )
    claim_gradient(lab, model, batch)
    expected = gradient_of(model, mean_loss(model, batch))

    def padded(ignore: int) -> float:
        return relative(gradient_of(model, mean_loss(model, collate(rows, params.padding, ignore))), expected)

    lab.claim(
        "unasked",
        Text("Padding that is not asked leaves the gradient as it was.", "不被提问的填充不改变梯度。"),
        measure=padded,
        arm=-100,
        control=0,
        without=Text("padding counted as a token like any other", "填充当作普通的词来计算"),
        holds=below(1e-10),
    )
    each = torch.stack([mean_loss(model, collate([row])).detach() for row in rows])
    lab.number("token_mean", mean_loss(model, batch).detach(), "nat")
    lab.number("sequence_mean", each.mean(), "nat")
    lab.number("weight_ratio", max(lengths) / min(lengths), "×")
    claim_start(lab, params, model, batch)


def claim_gradient(lab: Lab, model: DecoderOnly, batch: Batch) -> None:
    """∂(sum)/∂z = p − y, seen at the head's bias, which every logit contains once."""
    asked = batch.targets >= 0
    p = small.logits(model, batch).softmax(-1)[asked]

    def error(one_hot: bool) -> float:
        model.zero_grad(set_to_none=True)
        total(model, batch)[0].backward()
        y = F.one_hot(batch.targets[asked], p.shape[-1]).double() if one_hot else 0.0
        assert model.head.bias is not None and model.head.bias.grad is not None
        return float((model.head.bias.grad - (p - y).sum(0)).abs().max())

    lab.claim(
        "gradient",
        Text(
            "The gradient with respect to the logits is softmax minus one-hot.",
            "对 logits 的梯度是 softmax 减 one-hot。",
        ),
        measure=error,
        arm=True,
        control=False,
        without=Text("the softmax alone, no target subtracted", "只有 softmax，不减目标"),
        holds=below(1e-10),
    )


def claim_start(lab: Lab, params: TokenLoss, model: DecoderOnly, batch: Batch) -> None:
    """E log Σ exp(z) ≈ ln V + σ²/2 for V normal logits of variance σ²."""
    with torch.no_grad():
        z = model.head(run(model, batch))[batch.targets >= 0]
        variance = float(z.var(-1).mean())
    loss, uniform = float(mean_loss(model, batch).detach()), math.log(params.vocab)
    lab.number("variance", variance)
    lab.number("start", loss, "nat")
    lab.number("uniform", uniform, "nat")
    lab.claim(
        "start_loss",
        Text(
            "An untrained model begins at ln V + σ²/2, σ² the variance of its logits.",
            "未训练的模型从 ln V + σ²/2 出发，σ² 是 logits 的方差。",
        ),
        measure=lambda known: abs(loss - uniform - (variance / 2 if known else 0.0)),
        arm=True,
        control=False,
        without=Text("ln V alone, as folklore has it", "照通常的说法，只有 ln V"),
        holds=below(0.25),
        unit="nat",
    )
    points = []
    with torch.no_grad():
        bare = model.head.weight.clone()
        for factor in (0.0, 0.5, 1.0, 1.5, 2.0):
            model.head.weight.copy_(factor * bare)
            points.append((factor**2 * variance, float(mean_loss(model, batch).detach())))
        model.head.weight.copy_(0.0 * bare)
        lab.number("perplexity_of_zeros", math.exp(float(mean_loss(model, batch).detach())))
        model.head.weight.copy_(bare)
    theory = [(x, uniform + x / 2) for x, _ in points]
    lab.figure(
        "start",
        figures.lines(
            Text("Loss before the first update", "第一次更新之前的损失"),
            Text("variance of the logits", "logits 的方差"),
            Text("nat", "奈特"),
            {"measured": points, "theory": theory},
            {"measured": Text("measured", "实测"), "theory": Text("ln V + σ²/2", "ln V + σ²/2")},
        ),
    )
