"""Which weight decay is a prior (A80): L2 in the loss is, AdamW's decoupled decay is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.training.optim import AdamW, Sgd
from qkv.training.schedules import Cosine


@dataclass(frozen=True)
class Decay:
    """sharp, flat: curvatures of the two directions of the loss. target: where it is least in both. precision: of the
    Gaussian prior. steps: updates."""

    sharp: Annotated[float, within(0.1, 10)] = 2.0
    flat: Annotated[float, within(0.01, 10)] = 0.2
    target: Annotated[float, within(-10, 10)] = 3.0
    precision: Annotated[float, within(0, 1)] = 0.05
    steps: Annotated[int, within(50, 2000)] = 300


class Bowl(nn.Module):
    """Two weights, as a matrix [1,2]: only matrices decay."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 2))


@experiment()
def decay_and_prior(lab: Lab, params: Decay) -> None:
    """L2 in the gradient ends at the maximum a posteriori; decoupled decay ends elsewhere."""
    curvature = torch.tensor([params.sharp, params.flat])
    exact = curvature * params.target / (curvature + params.precision)
    arms = {
        "sgd": (0.0, Sgd(weight_decay=params.precision), 0.4),
        "adam": (params.precision, AdamW(), 0.3),
        "adamw": (0.0, AdamW(weight_decay=params.precision), 0.3),
        "none": (0.0, AdamW(), 0.3),
    }

    def settle(arm: str) -> Tensor:
        penalty, optimizer, rate = arms[arm]
        bowl = Bowl()

        def height(model: Bowl) -> Tensor:
            """½ Σ h (w − target)² + ½ penalty Σ w²: minus the log of a Gaussian likelihood and of a Gaussian prior."""
            return (curvature * (model.weight - params.target) ** 2 + penalty * model.weight**2).sum() / 2

        lab.train(
            bowl,
            small.nothing,
            params.steps,
            learning_rate=rate,
            loss=small.Objective(height),
            optimizer=optimizer,
            schedule=Cosine(warmup=0),
            clip_norm=None,
        )
        return bowl.weight.detach()[0]

    ends = {arm: settle(arm) for arm in arms}
    for name, values in {"map": exact, **ends}.items():
        lab.number(f"{name}_sharp", values[0])
        lab.number(f"{name}_flat", values[1])
    for name, arm in (("sgd_is_map", "sgd"), ("adam_is_map", "adam")):
        words = {"sgd": "SGD with weight decay", "adam": "Adam with an L2 term in the loss"}[arm]
        worte = {"sgd": "带权重衰减的 SGD", "adam": "损失中带 L2 项的 Adam"}[arm]
        lab.claim(
            name,
            Text(f"{words} ends at the maximum a posteriori.", f"{worte}收敛到最大后验点。"),
            measure=lambda chosen: (ends[chosen] - exact).abs().max(),
            arm=arm,
            control="adamw",
            without=Text("AdamW: decay outside the gradient", "AdamW：衰减不经过梯度"),
            holds=below(0.005),
        )
    lab.claim(
        "flat_shrinks",
        Text(
            "A prior shrinks the flat direction by more than a twentieth of the target beyond the sharp one.",
            "先验对平坦方向的收缩比陡峭方向多出目标值的二十分之一以上。",
        ),
        measure=lambda chosen: (ends[chosen][0] - ends[chosen][1]) / params.target,
        arm="adam",
        control="adamw",
        without=Text("AdamW: decay outside the gradient", "AdamW：衰减不经过梯度"),
        holds=above(0.05),
    )
    _figure(lab, exact, ends)


def _figure(lab: Lab, exact: Tensor, ends: dict[str, Tensor]) -> None:
    """The flat direction, where a prior shows most."""
    lab.figure(
        "ends",
        figures.bars(
            Text("Where the flat weight ends", "平坦方向的权重停在哪里"),
            Text("weight", "权重"),
            {"MAP": float(exact[1]), **{arm: float(end[1]) for arm, end in ends.items()}},
            {
                "MAP": Text("exact MAP", "精确 MAP"),
                "sgd": Text("SGD, decay", "SGD 衰减"),
                "adam": Text("Adam, L2", "Adam + L2"),
                "adamw": Text("AdamW", "AdamW"),
                "none": Text("no decay", "不衰减"),
            },
        ),
    )
