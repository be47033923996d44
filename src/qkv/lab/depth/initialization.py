"""Very deep stacks before training: gradients, updates and tokens, layer by layer (A46, B16, A42, B31)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated

import torch

from qkv.lab import figures
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import DeepNorm, PlacementConfig, Plain, Post, Pre

from .skips import Bare, NoSkip, deep_stack, different_tokens, first_weights, spread, streams

NO_SKIP = Text("no residual connections", "去掉残差连接")
PLACEMENTS: dict[str, PlacementConfig] = {
    "pre": Pre(),
    "post": Post(),
    "deep": DeepNorm(),
    "no_skip": NoSkip(),
    "bare": Bare(),
}


@dataclass(frozen=True)
class DeepInitialization:
    """n_layers: depth. shallow, medium: two other depths. d: width. length: of the sequence. draws: of random weights
    on which numbers that scatter are taken."""

    n_layers: Annotated[int, within(64, 1024)] = 512
    medium: Annotated[int, within(16, 256)] = 64
    shallow: Annotated[int, within(2, 16)] = 4
    d: Annotated[int, within(8, 64)] = 32
    length: Annotated[int, within(2, 32)] = 8
    draws: Annotated[int, within(1, 20)] = 5


@dataclass(frozen=True)
class Profile:
    """Of each layer: gradients, the norm of its first matrix' gradient; updates, ‖change‖ / ‖stream‖. growth: ‖stream‖
    at the end over that at the start. backward: the same of the gradients of the stream, start over end."""

    gradients: list[float]
    updates: list[float]
    growth: float
    backward: float

    @property
    def ends(self) -> float:
        """Gradient of the first layer over that of the last."""
        return self.gradients[0] / self.gradients[-1]


def profile(params: DeepInitialization, placement: PlacementConfig, n_layers: int, seed: int) -> Profile:
    """One forward and one backward pass of a fresh stack; the loss is a random linear function of its output."""
    torch.manual_seed(seed)
    model = deep_stack(n_layers, params.d, placement=placement)
    states = streams(model, different_tokens(params.length))
    for state in (states[0], states[-1]):
        state.retain_grad()
    out = states[-1] if model.norm is None else model.norm(states[-1])
    (out * torch.randn_like(out)).sum().backward()
    assert states[0].grad is not None and states[-1].grad is not None
    backward = float(states[0].grad.norm() / states[-1].grad.norm())
    states = [x.detach() for x in states]
    return Profile(
        [float(grad.norm()) if (grad := first_weights(b).grad) is not None else 0.0 for b in model.blocks],
        [float((y - x).norm() / x.norm()) for x, y in pairwise(states)],
        float(states[-1].norm() / states[0].norm()),
        backward,
    )


def slope(values: list[float], start: int = 8) -> float:
    """The exponent a of values ∝ layer^a, by least squares from layer `start` on."""
    layers = torch.arange(1, len(values) + 1, dtype=torch.float64).log()[start:]
    logs = torch.tensor(values, dtype=torch.float64).log()[start:]
    layers, logs = layers - layers.mean(), logs - logs.mean()
    return float((layers * logs).sum() / (layers**2).sum())


@experiment(long=True)
def deep_initialization(lab: Lab, params: DeepInitialization) -> None:
    """Hundreds of layers before training: what vanishes, what explodes, and how much each layer says."""

    @cache
    def of(placement: PlacementConfig, n_layers: int = params.n_layers, draw: int = 0) -> Profile:
        return profile(params, placement, n_layers, lab.seed + draw)

    lab.claim(
        "vanishing",
        Text(
            "With neither residual nor norm no gradient of the output reaches the input.",
            "既无残差又无归一化时，输出端的梯度传不到输入端。",
        ),
        measure=lambda placement: of(placement, params.medium).backward,
        arm=Bare(),
        control=Pre(),
        without=Text("both put back (pre-norm)", "两者都装回（Pre-norm）"),
        holds=below(1e-10),
    )
    lab.claim(
        "exploding",
        Text("With residuals but no norm the stream grows exponentially.", "有残差而无归一化时，残差流指数增长。"),
        measure=lambda placement: of(placement, params.medium).growth,
        arm=Plain(),
        control=Pre(),
        without=Text("norms put back (pre-norm)", "装回归一化（Pre-norm）"),
        holds=above(1e4),
    )
    placement_claims(lab, params, of)
    observations(lab, params, of)


def placement_claims(lab: Lab, params: DeepInitialization, of: Callable[..., Profile]) -> None:
    """How evenly each placement of the norms spreads work and gradient over the layers."""
    lab.claim(
        "late_layers",
        Text(
            "In a pre-norm stack a layer's share of the stream falls as layer^(−1/2).",
            "Pre-norm 中，一层的相对更新按 层号^(−1/2) 下降。",
        ),
        measure=lambda placement: slope(of(placement).updates),
        arm=Pre(),
        control=DeepNorm(),
        without=Text("DeepNorm, which weighs all layers alike", "换成 DeepNorm：各层权重相同"),
        holds=close(-0.5, 0.15),
    )
    lab.claim(
        "small_updates",
        Text(
            "With DeepNorm a typical layer's first update is below two per cent of the stream.",
            "用 DeepNorm 时，一层的初始更新通常不到残差流的百分之二。",
        ),
        measure=lambda placement: statistics.median(of(placement).updates),
        arm=DeepNorm(),
        control=Post(),
        without=Text("plain post-norm: no α, no β", "普通 Post-norm：没有 α 和 β"),
        holds=below(0.02),
    )
    lab.claim(
        "top_gradient",
        Text(
            "In a pre-norm stack the last layer's gradient falls with depth; in a post-norm stack it does not.",
            "Pre-norm 最后一层的梯度随深度下降，Post-norm 则不降。",
        ),
        measure=lambda p: of(p, params.shallow).gradients[-1] / of(p, params.medium).gradients[-1],
        arm=Pre(),
        control=Post(),
        without=Text("post-norm", "换成 Post-norm"),
        holds=above(math.sqrt(params.medium / params.shallow) / 2),
    )


def observations(lab: Lab, params: DeepInitialization, of: Callable[..., Profile]) -> None:
    """What is only observed, over several draws of the weights where it scatters, and the pictures."""
    for name, placement in PLACEMENTS.items():
        drawn = [of(placement, params.medium, i).backward for i in range(params.draws)]
        lab.number(f"{name}_least", min(drawn))
        lab.number(f"{name}_median", statistics.median(drawn))
        lab.number(f"{name}_most", max(drawn))
    for name in ("pre", "post", "deep"):
        found = of(PLACEMENTS[name])
        lab.number(f"{name}_ends", found.ends)
        lab.number(f"{name}_update", statistics.median(found.updates))
        lab.number(f"{name}_early_update", found.updates[1])
        lab.number(f"{name}_last_update", found.updates[-1])
    shown = {name: of(PLACEMENTS[name]) for name in ("pre", "post", "deep")}
    names = {
        "pre": Text("Pre-norm", "Pre-norm"),
        "post": Text("Post-norm", "Post-norm"),
        "deep": Text("DeepNorm", "DeepNorm"),
    }
    layers = range(0, params.n_layers, max(1, params.n_layers // 32))
    for name, title, unit in (
        ("gradients", Text("Gradient of each layer at the start", "初始化时各层的梯度"), Text("norm", "范数")),
        ("updates", Text("What each layer changes in the stream", "各层的相对更新"), Text("share", "比例")),
    ):
        curves = {key: [(i + 1, getattr(found, name)[i]) for i in layers] for key, found in shown.items()}
        lab.figure(
            name,
            figures.lines(title, Text("layer", "层"), unit, curves, names, x_scale="log", y_scale="log"),
        )


@dataclass(frozen=True)
class RankCollapse:
    """n_layers: depth. d: width. length: of the sequence."""

    n_layers: Annotated[int, within(2, 64)] = 12
    d: Annotated[int, within(8, 64)] = 32
    length: Annotated[int, within(2, 64)] = 8


@experiment()
def rank_collapse(lab: Lab, params: RankCollapse) -> None:
    """Attention alone makes all tokens alike within a few layers; the skip path keeps them apart."""
    ids = different_tokens(params.length)

    @torch.no_grad()
    def spreads(arm: tuple[PlacementConfig, bool]) -> list[float]:
        """After each layer; (placement, whether there are feed-forward networks)."""
        placement, networks = arm
        torch.manual_seed(lab.seed)
        model = deep_stack(params.n_layers, params.d, d_ff=None if networks else 0, placement=placement)
        return [spread(x) for x in streams(model, ids)]

    lab.claim(
        "collapse",
        Text(
            "Without residual connections attention alone makes all tokens equal, exponentially fast.",
            "没有残差连接时，只靠注意力，各个词的表示指数般地趋于相同。",
        ),
        measure=lambda arm: spreads(arm)[-1],
        arm=(NoSkip(), False),
        control=(Pre(), False),
        without=Text("residual connections put back", "装回残差连接"),
        holds=below(1e-6),
    )
    lab.claim(
        "kept_apart",
        Text("With residual connections the tokens stay apart.", "有残差连接时，各个词保持不同。"),
        measure=lambda arm: spreads(arm)[-1],
        arm=(Pre(), True),
        control=(NoSkip(), True),
        without=NO_SKIP,
        holds=above(0.1),
    )
    curves = {
        "skip": spreads((Pre(), True)),
        "none": spreads((NoSkip(), True)),
        "attention": spreads((NoSkip(), False)),
    }
    lab.number("start", curves["skip"][0])
    lab.number("attention_after_four", curves["attention"][min(4, params.n_layers)])
    lab.figure(
        "spread",
        figures.lines(
            Text("How much the tokens of a sequence differ", "同一句中各词表示的差异"),
            Text("layers passed", "经过的层数"),
            Text("relative spread", "相对离散度"),
            {key: [(i, max(v, 1e-17)) for i, v in enumerate(values)] for key, values in curves.items()},
            {
                "skip": Text("residuals", "有残差"),
                "none": Text("no residuals", "无残差"),
                "attention": Text("no residuals, no feed-forward", "无残差、无前馈"),
            },
            y_scale="log",
        ),
    )
