"""What attention knows of order by itself: nothing, unless a position or a causal mask tells it (A70, B7, A23)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import (
    Causal,
    LinearBias,
    Mask,
    NoNorm,
    NoPosition,
    Plain,
    PositionConfig,
    Rotary,
    Sinusoidal,
    Tokens,
)

VOCAB = 20
EQUAL = below(1e-10)
PLAIN = {"norm": NoNorm(), "placement": Plain()}


@dataclass(frozen=True)
class PermutationSymmetry:
    """length: units of a sequence. d_model: width. n_layers: depth of the models that are permuted."""

    length: Annotated[int, within(4, 64)] = 12
    d_model: Annotated[int, within(8, 64)] = 16
    n_layers: Annotated[int, within(2, 6)] = 3


class Shuffled:
    """One sequence, and the same units in another order; the last unit keeps its place."""

    def __init__(self, params: PermutationSymmetry, generator: torch.Generator):
        n = params.length
        self.params = params
        self.ids = torch.randint(VOCAB, (1, n), generator=generator)
        self.order = torch.cat([torch.arange(n - 1).roll(1 + n // 3), torch.tensor([n - 1])])
        self.tokens = Tokens.arange(1, n)

    def model(self, position: PositionConfig, mask: Mask | None = None, **changes: Any) -> nn.Module:
        """An encoder (with a mask: whatever sees what the mask lets through) in float64."""
        changes = {"n_layers": self.params.n_layers, "d_model": self.params.d_model, **changes}
        return small.encoder(VOCAB, position=position, mask=mask, **changes).double().eval()

    @torch.no_grad()
    def broken(self, model: nn.Module, carried: bool = False) -> float:
        """max |f(PX) − P f(X)| over all states. carried: each unit takes its position along to its new column."""
        moved = Tokens(self.tokens.pos[:, self.order]) if carried else self.tokens
        return float((model(self.ids[:, self.order], moved) - model(self.ids, self.tokens)[:, self.order]).abs().max())

    @torch.no_grad()
    def at_last(self, model: nn.Module) -> float:
        """How far the last unit's state moves when those before it change places."""
        states = model(self.ids[:, self.order], self.tokens) - model(self.ids, self.tokens)
        return float(states[:, -1].abs().max())

    @torch.no_grad()
    def columns(self, model: nn.Module) -> list[float]:
        """|f(PX) − P f(X)| at each column, at most over its features."""
        moved: Tensor = model(self.ids[:, self.order], self.tokens) - model(self.ids, self.tokens)[:, self.order]
        return moved.abs().amax(-1)[0].tolist()


@experiment()
def permutation_symmetry(lab: Lab, params: PermutationSymmetry) -> None:
    """Without positions an encoder treats its input as a set; a position or a causal mask breaks the symmetry."""
    pair = Shuffled(params, lab.generator())
    free, placed = pair.model(NoPosition()), pair.model(Sinusoidal())
    causal = pair.model(NoPosition(), Causal())
    lab.claim(
        "equivariant",
        Text(
            "Without positions an encoder that reads the units in another order gives the same states in that order.",
            "没有位置编码时，打乱输入次序，编码器给出同样的状态，只是次序跟着变。",
        ),
        measure=pair.broken,
        arm=free,
        control=placed,
        without=Text("sinusoids added to the embeddings", "在词向量上加正弦位置编码"),
        holds=EQUAL,
    )
    lab.claim(
        "causal",
        Text(
            "A causal mask alone, without positions, breaks the symmetry.",
            "没有位置编码，仅凭因果掩码也会打破这种对称。",
        ),
        measure=pair.broken,
        arm=causal,
        control=free,
        without=Text("no causal mask", "没有因果掩码"),
        holds=above(0.01),
    )
    claim_carried(lab, pair)
    claim_depth(lab, pair)
    claim_weights(lab, pair)
    lab.figure(
        "columns",
        figures.lines(
            Text("Change of each state under a permutation", "打乱次序后各状态的变化"),
            Text("column", "列"),
            Text("largest change", "最大变化"),
            {
                key: list(enumerate(pair.columns(model)))
                for key, model in {"free": free, "causal": causal, "placed": placed}.items()
            },
            {
                "free": Text("no position", "无位置"),
                "causal": Text("no position, causal mask", "无位置，有因果掩码"),
                "placed": Text("sinusoids", "正弦位置编码"),
            },
        ),
    )


def claim_carried(lab: Lab, pair: Shuffled) -> None:
    """Order is what `pos` says and nothing else, for every way of telling positions."""
    kinds: list[PositionConfig] = [Sinusoidal(), Rotary(), LinearBias(), NoPosition()]
    models = [pair.model(kind) for kind in kinds] + [pair.model(NoPosition(), Causal())]
    lab.claim(
        "carried",
        Text(
            "If each unit carries its position along, the order of the columns does not matter: a Transformer is a "
            "function of the set of (unit, position) pairs.",
            "每个单元带着自己的位置一起移动时，列的次序无关紧要：Transformer 是（单元，位置）对集合上的函数。",
        ),
        measure=lambda carried: max(pair.broken(model, carried) for model in models),
        arm=True,
        control=False,
        without=Text("positions stay with the columns", "位置留在原来的列上"),
        holds=EQUAL,
    )


def claim_depth(lab: Lab, pair: Shuffled) -> None:
    """How deep a causal stack without positions must be before its last state knows the order."""
    lab.claim(
        "second_layer",
        Text(
            "In a causal model without positions the last state learns the order of the others in the second layer.",
            "在没有位置编码的因果模型里，最后一个状态要到第二层才知道前面各词的次序。",
        ),
        measure=lambda depth: pair.at_last(pair.model(NoPosition(), Causal(), n_layers=depth)),
        arm=2,
        control=1,
        without=Text(
            "one layer: the last query averages a set whatever its order", "只有一层：最后的查询对一个集合取平均"
        ),
        holds=above(1e-3),
    )


def claim_weights(lab: Lab, pair: Shuffled) -> None:
    """A position that is added but never used by the attention weights is lost in the average."""

    def model(scale: float | None, block: dict[str, Any]) -> nn.Module:
        return pair.model(Sinusoidal(), n_layers=1, d_ff=0, attention={"scale": scale}, block=block)

    lab.claim(
        "blind_average",
        Text(
            "Positions are added, but the weights are kept uniform: the last state does not notice the order of the "
            "others. Supplying a position is one thing, using it another.",
            "加了位置编码，但让注意力权重保持均匀：最后一个状态察觉不到前面的次序。提供位置是一回事，用上位置是另一回事。",
        ),
        measure=lambda scale: pair.at_last(model(scale, PLAIN)),
        arm=0.0,
        control=None,
        without=Text("scores as usual, which compare positions", "分数照常计算，位置参与比较"),
        holds=EQUAL,
    )
    lab.number("norm_leak", pair.at_last(model(0.0, {})))
