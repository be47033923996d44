"""How a mask hides any set of keys: minus infinity before the softmax is conditioning (A59)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Causal, Chunked, Einsum, Explicit, Full, Fused, GlobalTokens, Mask, PerHead, Tokens, View, Window
from qkv.nn.kernels import attention_weights

KERNELS = (PerHead(), Einsum(), Fused(), Chunked(4))
ROWS = 2


@dataclass(frozen=True)
class Masking:
    """length: of a sequence. heads, d_head: of the attention. hidden: share of the pairs that the random table hides.
    penalty: what the control subtracts from a hidden score, where the mask subtracts infinity."""

    length: Annotated[int, within(3, 16)] = 8
    heads: Annotated[int, within(1, 8)] = 2
    d_head: Annotated[int, within(2, 64)] = 8
    hidden: Annotated[float, within(0.1, 0.9)] = 0.5
    penalty: Annotated[float, within(1, 30)] = 10.0


@dataclass(frozen=True)
class Unmarked(Mask):
    """Keys that the field `hidden` does not mark: a mask for spans of any place and length."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        return (k.get("hidden") == 0)[:, None, None, :]


class Scene:
    """Random q, k, v [B,H,T,D] in float64 and a random table of what may be seen, its diagonal open."""

    def __init__(self, params: Masking, generator: torch.Generator):
        shape = (ROWS, params.heads, params.length, params.d_head)
        self.q, self.k, self.v = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
        drawn = torch.rand(*shape[:3], params.length, generator=generator) > params.hidden
        self.visible = drawn | torch.eye(params.length, dtype=torch.bool)
        self.tokens = Tokens.arange(ROWS, params.length)
        self.scale = params.d_head**-0.5

    def view(self, mask: Mask | None = None, bias: Tensor | None = None) -> View:
        """A view of these tokens through a mask, or with numbers added to the scores."""
        return View(mask or Full(), self.tokens, self.tokens, None if bias is None else lambda q, k: _cut(bias, q, k))

    def full(self) -> Tensor:
        """The weights without any mask, [B,H,T,S]."""
        return attention_weights(self.q, self.k, self.view(), self.scale)


def _cut(table: Tensor, q: Tokens, k: Tokens) -> Tensor:
    """The part of a table that belongs to a tile; tokens stand at their own column here."""
    return table[:, :, q.pos[0]][..., k.pos[0]]


def hidden_weight(scene: Scene, view: View) -> float:
    """The largest weight on a hidden key, in any kernel."""
    worst = 0.0
    for config in KERNELS:
        _, weights = config.build()(scene.q, scene.k, scene.v, view, scale=scene.scale, dropout=0.0, need_weights=True)
        worst = max(worst, float(weights[~scene.visible].abs().max()))
    return worst


def leak(scene: Scene, attend: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The largest derivative of a query's output by a key or value that is hidden from it; attend: (k, v) -> out."""
    worst = 0.0
    for t in range(scene.q.shape[2]):
        k, v = scene.k.clone().requires_grad_(), scene.v.clone().requires_grad_()
        out = attend(k, v)[:, :, t]
        by_key, by_value = torch.autograd.grad((out * torch.arange(1, out.shape[-1] + 1)).sum(), (k, v))
        hidden = ~scene.visible[:, :, t]
        worst = max(worst, float(by_key[hidden].abs().max()), float(by_value[hidden].abs().max()))
    return worst


def through_kernels(scene: Scene, view: View) -> float:
    """The leak of the worst kernel."""

    def attend(kernel: torch.nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda k, v: kernel(scene.q, k, v, view, scale=scene.scale, dropout=0.0, need_weights=False)[0]

    return max(leak(scene, attend(config.build())) for config in KERNELS)


def erased(scene: Scene) -> float:
    """The leak when weights are set to zero after the softmax instead."""

    def attend(k: Tensor, v: Tensor) -> Tensor:
        weights = attention_weights(scene.q, k, scene.view(), scene.scale)
        return weights.masked_fill(~scene.visible, 0.0) @ v

    return leak(scene, attend)


@experiment()
def mask_algebra(lab: Lab, params: Masking) -> None:
    """Minus infinity before the softmax hides any set of pairs exactly; a finite penalty or a late zero does not."""
    scene = Scene(params, lab.generator())
    masked = scene.view(Explicit(scene.visible))
    penalized = scene.view(bias=-params.penalty * (~scene.visible).double())
    finite = Text("a finite penalty on hidden scores", "对隐藏的分数只减去一个有限的数")
    lab.claim(
        "weight",
        Text("A hidden key gets weight exactly 0, in all four kernels.", "隐藏的键权重恰好为 0，四种内核都如此。"),
        measure=lambda view: hidden_weight(scene, view),
        arm=masked,
        control=penalized,
        without=finite,
        holds=exactly(0),
    )
    lab.claim(
        "gradient",
        Text(
            "No gradient reaches a hidden key or value, in all four kernels.",
            "梯度到不了隐藏的键和值，四种内核都如此。",
        ),
        measure=lambda view: through_kernels(scene, view),
        arm=masked,
        control=penalized,
        without=finite,
        holds=exactly(0),
    )
    lab.number("gradient_erased", erased(scene))
    full = scene.full()
    late = full.masked_fill(~scene.visible, 0.0)
    lab.claim(
        "conditioning",
        Text(
            "Masked weights are the unmasked ones conditioned on the visible set: p(i)/Σ_visible p.",
            "加掩码的权重等于原权重在可见集合上的条件分布：p(i)/Σ_可见 p。",
        ),
        measure=lambda weights: (weights - late / late.sum(-1, keepdim=True)).abs().max(),
        arm=attention_weights(scene.q, scene.k, masked, scene.scale),
        control=late,
        without=Text("zeros written after the softmax, nothing renormalised", "在 softmax 之后置零，不重新归一化"),
        holds=below(1e-12),
    )
    empty_rows(lab, scene)
    spans(lab, params)
    table(lab)


def empty_rows(lab: Lab, scene: Scene) -> None:
    """A query that may see nothing."""
    visible = scene.visible.clone()
    visible[0, 0, 0] = False

    def textbook(q: Tensor) -> Tensor:
        scores = (q @ scene.k.mT * scene.scale).masked_fill(~visible, float("-inf"))
        return scores.softmax(-1) @ scene.v

    def toolkit(q: Tensor) -> Tensor:
        view = scene.view(Explicit(visible))
        outs = [
            config.build()(q, scene.k, scene.v, view, scale=scene.scale, dropout=0.0, need_weights=False)[0]
            for config in KERNELS
        ]
        return torch.stack(outs)

    def broken(attend: Callable[[Tensor], Tensor]) -> float:
        q = scene.q.clone().requires_grad_()
        out = attend(q)
        out.sum().backward()
        return float((~out.isfinite()).sum() + (~q.grad.isfinite()).sum())  # type: ignore[union-attr]

    lab.claim(
        "empty_row",
        Text(
            "A query that sees nothing gets finite output and finite gradients.",
            "什么都看不到的查询，输出和梯度都是有限数。",
        ),
        measure=broken,
        arm=toolkit,
        control=textbook,
        without=Text("the textbook formula: 0/0 where all scores are −∞", "照搬公式：整行都是 −∞ 时得到 0/0"),
        holds=exactly(0),
        unit="NaN",
    )


def spans(lab: Lab, params: Masking) -> None:
    """All spans of a sequence at once, one a row, and what the tokens outside notice when those inside change."""
    n = params.length
    places = [(a, b) for a in range(n) for b in range(a + 1, n + 1) if b - a < n]
    inside = torch.tensor([[a <= i < b for i in range(n)] for a, b in places])
    ids = torch.randint(10, (1, n), generator=lab.generator(1)).expand(len(places), n)
    tokens = Tokens.arange(len(places), n).with_fields(hidden=inside.long())
    model = small.decoder(20, mask=Full()).double().eval()
    lab.number("n_spans", len(places))

    @torch.no_grad()
    def noticed(mask: Mask) -> float:
        before = model.decode(ids, tokens, mask=mask)
        after = model.decode(torch.where(inside, ids + 10, ids), tokens, mask=mask)
        return float((after - before)[~inside].abs().max())

    lab.claim(
        "any_span",
        Text(
            "One predicate on a marked field hides a span of any place and length: nothing outside notices its tokens.",
            "一个看标记字段的谓词，就能遮住任意位置、任意长度的片段：片段外的输出不受其内容影响。",
        ),
        measure=noticed,
        arm=Unmarked(),
        control=Full(),
        without=Text("no mask", "不加掩码"),
        holds=below(1e-12),
    )


def table(lab: Lab) -> None:
    """A picture of a mask that is composed of three."""
    n = 12
    tokens = Tokens.arange(1, n).with_fields(**{"global": torch.tensor([[1, *[0] * (n - 1)]])})
    visible = ((Causal() & Window(back=3)) | GlobalTokens())(tokens, tokens)[0, 0]
    lab.figure(
        "table",
        figures.heat(
            Text("(causal & window of 3) | one global token", "(因果 & 窗口 3) | 一个全局词元"),
            Text("key", "键"),
            Text("query", "查询"),
            visible.int().tolist(),
            Text("visible", "可见"),
        ),
    )
