"""Why scores are divided by √d_k (A69, B9, B22; Vaswani et al. 2017, §3.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend

from .parts import layer, normal

UNSCALED = Text("no division by √d_k", "不除以 √d_k")


@dataclass(frozen=True)
class Scaling:
    """d: width of a head. small_d: the width of the control. n_keys: keys a query chooses among. n_queries: drawn."""

    d: Annotated[int, within(2, 4096)] = 1024
    small_d: Annotated[int, within(1, 64)] = 4
    n_keys: Annotated[int, within(2, 512)] = 32
    n_queries: Annotated[int, within(100, 5000)] = 2000


@dataclass(frozen=True)
class Head:
    """Queries and keys of one head, of independent components with mean 0 and variance 1. q [1,1,T,D], k [1,1,S,D]."""

    q: Tensor
    k: Tensor

    @classmethod
    def draw(cls, d: int, params: Scaling, generator: torch.Generator) -> Head:
        return cls(normal(generator, 1, 1, params.n_queries, d), normal(generator, 1, 1, params.n_keys, d))

    def scale(self, scaled: bool) -> float:
        """The factor that an attention layer of this width puts on its scores; 1 without scaling."""
        return layer(2, d_head=self.q.shape[-1]).scale if scaled else 1.0

    def scores(self, scaled: bool) -> Tensor:
        return self.scale(scaled) * (self.q @ self.k.transpose(2, 3))

    def jacobian(self, scaled: bool) -> Tensor:
        """The Frobenius norm of diag(p) − ppᵀ for every query, p being its attention weights, [T]."""
        _, p = self._attend(self.q, self.k, scaled)
        square = (p**2).sum(-1)
        return (square - 2 * (p**3).sum(-1) + square**2).clamp_min(0).sqrt().flatten()

    def gradient(self, scaled: bool) -> float:
        """The median over queries of ‖∂L/∂q‖, where L weighs the outputs by fixed random numbers."""
        generator = torch.Generator().manual_seed(1)
        q, v = self.q.clone().requires_grad_(), normal(generator, 1, 1, self.k.shape[2], 8)
        out, _ = self._attend(q, v, scaled)
        (out * normal(generator, *out.shape)).sum().backward()
        assert q.grad is not None
        return float(q.grad.norm(dim=-1).median())

    def _attend(self, q: Tensor, v: Tensor, scaled: bool) -> tuple[Tensor, Tensor]:
        out, weights = attend(q, self.k, v, scale=self.scale(scaled), need_weights=True)
        assert weights is not None
        return out, weights


@experiment()
def scaling(lab: Lab, params: Scaling) -> None:
    """The variance of a dot product grows with its width, and an unscaled softmax saturates."""
    wide = Head.draw(params.d, params, lab.generator())
    narrow = Head.draw(params.small_d, params, lab.generator(1))
    lab.number("jac_raw", wide.jacobian(False).median())
    lab.number("jac_scaled", wide.jacobian(True).median())
    lab.number("dead_raw", wide.jacobian(False).lt(1e-3).double().mean(), "share")
    lab.number("dead_scaled", wide.jacobian(True).lt(1e-3).double().mean(), "share")
    lab.claim(
        "variance",
        Text("The variance of scaled scores is 1 at any width.", "缩放后分数的方差为 1，与宽度无关。"),
        measure=lambda scaled: wide.scores(scaled).var(),
        arm=True,
        control=False,
        without=UNSCALED,
        holds=close(1.0, 0.15),
    )
    lab.claim(
        "saturation",
        Text(
            "Without the division the softmax saturates: its Jacobian falls to under a hundredth of the scaled one's.",
            "不缩放时 softmax 饱和：雅可比不到缩放后的百分之一。",
        ),
        measure=lambda head: head.jacobian(False).median() / head.jacobian(True).median(),
        arm=wide,
        control=narrow,
        without=Text("narrow heads: d_k = small_d", "窄头：d_k = small_d"),
        holds=below(0.01),
    )
    lab.claim(
        "gradient",
        Text(
            "Without the division a query's gradient is under a tenth of the scaled one's, though the latter carries "
            "the factor 1/√d_k.",
            "不缩放时查询收到的梯度不到缩放后的十分之一，尽管后者还多乘了 1/√d_k。",
        ),
        measure=lambda head: head.gradient(False) / head.gradient(True),
        arm=wide,
        control=narrow,
        without=Text("narrow heads: d_k = small_d", "窄头：d_k = small_d"),
        holds=below(0.1),
    )
    _bounded(lab, wide)
    _draw(lab, params)


def _bounded(lab: Lab, wide: Head) -> None:
    scores = wide.scores(True)
    lab.number("largest", scores.abs().max())
    lab.claim(
        "bounded",
        Text(
            "Scaling does not confine scores to [−1, 1]: more than a quarter lie outside.",
            "缩放并不把分数限制在 [−1, 1]：超过四分之一在区间之外。",
        ),
        measure=lambda s: s.abs().gt(1).double().mean(),
        arm=scores,
        control=scores / scores.abs().max(),
        without=Text("division by the largest |score|, which does confine", "改为除以最大的 |分数|，这才会限制区间"),
        holds=above(0.25),
        unit="share",
    )


def _draw(lab: Lab, params: Scaling) -> None:
    heads = {4**i: Head.draw(4**i, params, lab.generator(4**i)) for i in range(1, 6)}
    lab.figure(
        "jacobian",
        figures.lines(
            Text("Median norm of the softmax's Jacobian", "softmax 雅可比范数的中位数"),
            Text("width of a head, d_k", "头的宽度 d_k"),
            Text("norm", "范数"),
            {
                "scaled": [(d, float(head.jacobian(True).median())) for d, head in heads.items()],
                "raw": [(d, float(head.jacobian(False).median())) for d, head in heads.items()],
            },
            {"scaled": Text("divided by √d_k", "除以 √d_k"), "raw": Text("not divided", "不除")},
            x_scale="log",
            y_scale="log",
        ),
    )
