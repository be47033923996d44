"""Training on one's own samples: a gradient that must be guessed from rewards (A63)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.chains import MarkovChain
from qkv.decoding import generate
from qkv.lab import figures, small
from qkv.lab.checks import above, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Tokens

from .ragged import flat_weights, gradient_of, total
from .sequences import Joint, sequences


@dataclass(frozen=True)
class Sampled:
    """symbols, length: of the sequences, all of which are enumerated."""

    symbols: Annotated[int, within(2, 4)] = 3
    length: Annotated[int, within(2, 5)] = 5


class Gradients:
    """∂ log q(x)/∂θ of every sequence x [K,P], with p(x) of the source and q(x) of an untrained model."""

    def __init__(self, lab: Lab, params: Sampled):
        v, n = params.symbols, params.length
        self.model = small.decoder(v, d_model=8, n_layers=1).double()
        self.ids = sequences(v, n)
        self.p = Joint.of_chain(MarkovChain.random(v, 1, lab.generator(2)), n).p
        self.q = Joint.of_model(self.model, v, n).p
        parts = [gradient_of(self.model, -total(self.model, small.following(row[None]))[0]) for row in self.ids]
        self.g = torch.stack(parts)

    def reward(self, exact: bool) -> Tensor:
        """[K,K]: of saying x' where the gold is x: all right or nothing, or the share of right symbols after the first,
        which both are given."""
        right = (self.ids[:, None, 1:] == self.ids[None, :, 1:]).double()
        return right.prod(-1) if exact else right.mean(-1)

    def forced(self) -> tuple[Tensor, Tensor]:
        """Mean and mean square norm of the cross-entropy gradient of one gold sequence."""
        return self.p @ self.g, self.p @ self.g.square().sum(1)

    def sampled(self, exact: bool, baseline: bool = False) -> tuple[Tensor, Tensor]:
        """The same of (R − b)·∂ log q(x'), x' drawn from q after the gold's first symbol. b: the mean reward, or 0."""
        same_start = (self.ids[:, None, 0] == self.ids[None, :, 0]).double()
        q = self.q * len(torch.unique(self.ids[:, 0]))  # given the first symbol, which is uniform
        weight = self.p[:, None] * q[None, :] * same_start
        reward = self.reward(exact)
        reward = reward - (weight * reward).sum() if baseline else reward
        return (weight * reward).sum(0) @ self.g, (weight * reward.square()).sum(0) @ self.g.square().sum(1)


def noise(mean: Tensor, square: Tensor) -> float:
    """Variance over squared signal: how many samples must be averaged for one as loud as the mean."""
    return float((square - mean.square().sum()) / mean.square().sum())


@experiment()
def sampled_gradient(lab: Lab, params: Sampled) -> None:
    """Rewards of own samples give a far noisier gradient than gold targets, and decoding itself gives none."""
    all_of_them = Gradients(lab, params)
    lab.number("sequences", len(all_of_them.ids))
    lab.number("forced", noise(*all_of_them.forced()))
    lab.number("exact_match", noise(*all_of_them.sampled(True)))
    lab.number("token_reward", noise(*all_of_them.sampled(False)))
    lab.number("with_baseline", noise(*all_of_them.sampled(False, baseline=True)))
    lab.claim(
        "noise_ratio",
        Text(
            "For one sample, the variance of REINFORCE over its squared mean is above ten times cross-entropy's.",
            "单个样本的 REINFORCE，其方差与均值平方之比超过交叉熵的十倍。",
        ),
        measure=lambda arm: noise(*arm()) / noise(*all_of_them.forced()),
        arm=lambda: all_of_them.sampled(True),
        control=all_of_them.forced,
        without=Text("the gold sequence as target: teacher forcing", "以标准序列为目标：教师强制"),
        holds=above(10),
        unit="×",
    )
    claim_flat(lab, params, all_of_them.model)
    lab.figure(
        "noise",
        figures.bars(
            Text("Noise of a gradient from one sequence", "单个序列的梯度噪声"),
            Text("variance / squared mean", "方差 / 均值平方"),
            {
                "gold": noise(*all_of_them.forced()),
                "baseline": noise(*all_of_them.sampled(False, baseline=True)),
                "tokens": noise(*all_of_them.sampled(False)),
                "match": noise(*all_of_them.sampled(True)),
            },
            {
                "gold": Text("gold targets", "标准答案"),
                "baseline": Text("tokens right, baseline", "逐词奖励，减基线"),
                "tokens": Text("tokens right", "逐词奖励"),
                "match": Text("all right", "全对才奖励"),
            },
            scale="log",
        ),
    )


def claim_flat(lab: Lab, params: Sampled, model: DecoderOnly) -> None:
    """A small step changes the log-likelihood of what was said, and not what is said."""
    start = torch.arange(params.symbols)[:, None]

    def said(model: DecoderOnly) -> list[list[int]]:
        found = generate(model, start, Tokens.arange(*start.shape), max_new=params.length, eos=-1)
        return [h[0].ids for h in found]

    first = said(model)
    ids = torch.cat([start, torch.tensor(first)], 1)

    def change(of_output: bool) -> float:
        """The share of 50 small random steps after which the quantity is another."""
        before, changed = float(total(model, small.following(ids))[0].detach()), 0
        for i in range(50):
            moved = copy.deepcopy(model)
            step = 1e-6 * torch.randn(len(flat_weights(model)), generator=lab.generator(i), dtype=torch.float64)
            torch.nn.utils.vector_to_parameters(flat_weights(model) + step, moved.parameters())
            if of_output:
                changed += said(moved) != first
            else:
                changed += float(total(moved, small.following(ids))[0].detach()) != before
        return changed / 50

    lab.claim(
        "flat",
        Text(
            "After a small step of the weights greedy decoding says the same: its derivative is zero.",
            "参数微动，贪心解码的输出不变：导数为零。",
        ),
        measure=change,
        arm=True,
        control=False,
        without=Text("the log-likelihood of that output, which moves", "改看该输出的对数似然：它会变"),
        holds=exactly(0.0),
        unit="share",
    )
