"""What is marginal and posterior about attention (A9): a Gaussian mixture's posterior mean, under a condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend, weights


@dataclass(frozen=True)
class Posterior:
    """d: width of the head. n_keys, n_queries: how many of each. n_words: the vocabulary that values vote on."""

    d: Annotated[int, within(2, 256)] = 16
    n_keys: Annotated[int, within(2, 128)] = 12
    n_queries: Annotated[int, within(2, 2000)] = 400
    n_words: Annotated[int, within(2, 64)] = 5


@dataclass(frozen=True)
class Arm:
    """keys: [S,D]. repaired: whether -|k|²/2√d is added to the scores."""

    keys: Tensor
    repaired: bool = False


def votes(q: Tensor, k: Tensor) -> Tensor:
    """The weights of one head, q [T,D], k [S,D] -> [T,S]."""
    return weights(q[None, None], k[None, None])[0, 0]


def head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Tensor:
    """What one head reads, q [T,D], k [S,D], v [S,E] -> [T,E]; bias [S] is added to the scores."""
    table = None if bias is None else bias.expand(1, 1, len(q), len(k))
    return attend(q[None, None], k[None, None], v[None, None], scale=scale, bias=table)[0][0, 0]


def mixture_posterior(q: Tensor, means: Tensor, log_prior: Tensor | None = None) -> Tensor:
    """p(i | q) [T,S] by Bayes' rule from densities: q is means[i] plus noise of variance √D in each component."""
    sigma = means.shape[1] ** 0.25
    densities = torch.distributions.Normal(means, sigma).log_prob(q[:, None]).sum(-1)
    return (densities if log_prior is None else densities + log_prior).softmax(-1)


def soft_gap(shares: Tensor, scores: Tensor, word: int) -> Tensor:
    """log p(y | E v) - log E p(y | v), [T]: values vote by scores [S,V], mixed before the softmax or after it."""
    return (shares @ scores).log_softmax(-1)[:, word] - (shares @ scores.softmax(-1))[:, word].log()


@experiment()
def attention_posterior(lab: Lab, params: Posterior) -> None:
    """Attention is the posterior mean of a Gaussian mixture if all keys have one norm, and no marginal likelihood."""
    d, generator = params.d, lab.generator()
    q, k, v = (
        torch.randn(n, d, generator=generator, dtype=torch.float64)
        for n in (params.n_queries, params.n_keys, params.n_keys)
    )
    level = k * (d**0.5 / k.norm(dim=1, keepdim=True))

    def distance(arm: Arm) -> Tensor:
        bias = -(arm.keys**2).sum(1) / (2 * d**0.5) if arm.repaired else None
        return (head(q, arm.keys, v, bias) - mixture_posterior(q, arm.keys) @ v).abs().max()

    lab.claim(
        "equal_norms",
        Text(
            "With keys of one norm, attention is the posterior mean of the values: a mixture of Gaussians around the "
            "keys, equal priors, variance √d.",
            "键的范数都相等时，注意力的输出就是以各键为中心、先验均匀、方差为 √d 的高斯混合的后验均值。",
        ),
        measure=distance,
        arm=Arm(level),
        control=Arm(k),
        without=Text("keys of unequal norms", "键的范数不相等"),
        holds=below(1e-10),
    )
    lab.claim(
        "repaired",
        Text(
            "Keys of any norm: it is so again once −|k|²/2√d is added to the scores.",
            "键的范数任意时，在分数上加 −|k|²/2√d，等式重新成立。",
        ),
        measure=distance,
        arm=Arm(k, repaired=True),
        control=Arm(k),
        without=Text("no such term: standard attention", "不加这一项，即标准注意力"),
        holds=below(1e-10),
    )
    lab.claim(
        "implied_prior",
        Text(
            "Standard attention is the posterior under the prior p(i) ∝ exp(|k|²/2√d).",
            "标准注意力的权重，就是先验 p(i) ∝ exp(|k|²/2√d) 下的后验。",
        ),
        measure=lambda sign: (votes(q, k) - mixture_posterior(q, k, sign * (k**2).sum(1) / (2 * d**0.5))).abs().max(),
        arm=1.0,
        control=0.0,
        without=Text("equal priors", "均匀先验"),
        holds=below(1e-10),
    )
    _likelihood(lab, params, votes(q, k))
    _figure(lab, level, distance)


def _figure(lab: Lab, level: Tensor, distance: Callable[[Arm], Tensor]) -> None:
    """From keys `level` [S,D] of one norm to keys of many."""
    spread = [(s, float(distance(Arm(level * torch.linspace(1 - s, 1 + s, len(level))[:, None])))) for s in SPREADS]
    lab.figure(
        "norms",
        figures.lines(
            Text("How far attention is from the posterior mean", "注意力与后验均值的最大差距"),
            Text("spread of the keys' norms (share of the mean)", "键范数的离散程度（占均值的比例）"),
            Text("largest difference", "最大差距"),
            {"difference": spread},
            {"difference": Text("equal priors assumed", "假设先验均匀")},
        ),
    )


SPREADS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def _likelihood(lab: Lab, params: Posterior, shares: Tensor) -> None:
    """Mixing values before the output's softmax is not Σ p(i) p(y | v_i); it is if values are distributions."""
    scores = 2 * torch.randn(params.n_keys, params.n_words, generator=lab.generator(1), dtype=torch.float64)
    gap = soft_gap(shares, scores, 0)
    lab.number("gap_positive", (gap > 0).double().mean(), "share")
    lab.number("gap_most", gap.max(), "nat")
    lab.number("gap_least", gap.min(), "nat")

    def mean_gap(values: str) -> Tensor:
        if values == "scores":
            return gap.abs().mean()
        likelihood = scores.softmax(-1)
        logs = shares.clamp_min(1e-300).log()  # queries whose scores against one-hot keys are log weights
        mixed = head(logs, torch.eye(len(scores), dtype=logs.dtype), likelihood, scale=1.0)
        return (mixed[:, 0].log() - (shares @ likelihood)[:, 0].log()).abs().mean()

    lab.claim(
        "not_likelihood",
        Text(
            "Values mixed before the output's softmax do not give the marginal likelihood Σ p(i) p(y | v_i).",
            "在输出 softmax 之前混合值，得到的不是边缘似然 Σ p(i) p(y | v_i)。",
        ),
        measure=mean_gap,
        arm="scores",
        control="distributions",
        without=Text(
            "values that are distributions and are not passed through a softmax again (a copy mechanism)",
            "值本身就是概率分布，之后不再经过 softmax（复制机制）",
        ),
        holds=above(0.02),
        unit="nat",
    )
