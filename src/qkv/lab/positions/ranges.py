"""How far a head looks, how far a stack hears, and what a global token adds (B11, B24)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import above, below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Causal, Full, GlobalTokens, LinearBias, Mask, NoPosition, PositionConfig, Tokens, View, Window
from qkv.nn.kernels import attention_weights
from qkv.nn.positions import PositionShape


@dataclass(frozen=True)
class AttentionRanges:
    """n_heads: heads with a range each. length: of the sequence. back: of a window. n_layers: of windowed attention."""

    n_heads: Annotated[int, within(2, 16)] = 8
    length: Annotated[int, within(16, 256)] = 64
    back: Annotated[int, within(1, 16)] = 4
    n_layers: Annotated[int, within(1, 6)] = 3


def tokens_of(length: int, n_global: int = 0, rows: int = 1) -> Tokens:
    """Tokens of which the first n_global are global."""
    tokens = Tokens.arange(rows, length)
    return tokens.with_fields(**{"global": (tokens.pos < n_global).long()})


def mean_distances(position: PositionConfig, params: AttentionRanges) -> Tensor:
    """The mean distance to which each head looks from the last token when content plays no part, [H]."""
    tokens = Tokens.arange(1, params.length)
    place = position.build(PositionShape(params.n_heads, params.n_heads, 1))
    zero = torch.zeros(1, params.n_heads, params.length, 1)
    view = View(Causal(), tokens, tokens, place.bias if place.biased else None)
    weights = attention_weights(zero, zero, view, 1.0)[0, :, -1]
    return weights @ (params.length - 1 - tokens.pos[0]).float()


def distances_heard(mask: Mask, params: AttentionRanges, n_global: int = 0) -> Tensor:
    """The distances from which the last state's gradient is not zero, in descending order."""
    torch.manual_seed(0)
    model = small.encoder(8, n_layers=params.n_layers, mask=mask).double().eval()
    kept: list[Tensor] = []
    handle = model.encoder.embedding.register_forward_hook(lambda _m, _i, out: kept.append(out))
    ids = torch.randint(8, (1, params.length), generator=torch.Generator().manual_seed(0))
    out = model(ids, tokens_of(params.length, n_global))[0, -1]
    handle.remove()
    (gradient,) = torch.autograd.grad(out.square().sum() + out.sum(), kept[0])
    return params.length - 1 - gradient[0].abs().amax(-1).nonzero().squeeze(1)


def pairs(mask: Mask, length: int, n_global: int = 0) -> float:
    """How many (query, key) pairs the mask lets through."""
    tokens = tokens_of(length, n_global)
    return float(mask.simplify(tokens, tokens)(tokens, tokens).expand(1, 1, length, length).sum())


@experiment()
def attention_ranges(lab: Lab, params: AttentionRanges) -> None:
    """Heads may each have a scale of their own; windows widen layer by layer; a global token joins the ends."""
    claim_heads(lab, params)
    window = Causal() & Window(back=params.back)
    reach = params.n_layers * params.back
    lab.claim(
        "widening",
        Text(
            "A window of w keys back, repeated over L layers, hears exactly L·w tokens back.",
            "向后看 w 个词的窗口叠 L 层，恰好听到 L·w 个词以前。",
        ),
        measure=lambda mask: distances_heard(mask, params).max(),
        arm=window,
        control=Causal(),
        without=Text("no window: one layer hears all", "不加窗口：一层就听到全部"),
        holds=exactly(reach),
        unit="tokens",
    )
    mixed = window | GlobalTokens()
    lab.claim(
        "shortcut",
        Text(
            "With one global token the last state of a windowed stack hears every token.",
            "加一个全局词，窗口注意力的最后一个状态就能听到每一个词。",
        ),
        measure=lambda n: len(distances_heard(mixed, params, n)),
        arm=1,
        control=0,
        without=Text("no token is global", "没有全局词"),
        holds=exactly(params.length),
        unit="tokens",
    )
    lab.claim(
        "linear_pairs",
        Text(
            "Window and global token together cost pairs in proportion to length: twice the text, under 2.2 times "
            "the pairs.",
            "窗口加全局词的（查询，键）对数与长度成正比：长度加倍，对数不到 2.2 倍。",
        ),
        measure=lambda mask: pairs(mask, 8 * params.length, 1) / pairs(mask, 4 * params.length, 1),
        arm=mixed,
        control=Full(),
        without=Text("every pair", "所有的对"),
        holds=below(2.2),
        unit="ratio",
    )
    lab.number("share", pairs(mixed, 8 * params.length, 1) / pairs(Full(), 8 * params.length), "share")


def claim_heads(lab: Lab, params: AttentionRanges) -> None:
    """That heads can differ in how far they look before content plays a part."""
    scales = mean_distances(LinearBias(), params)
    lab.claim(
        "scales",
        Text(
            "With a slope for each head one layer looks at several ranges: the widest is over ten times the narrowest.",
            "每个头一个斜率时，一层就能同时看多种范围：最宽的超过最窄的十倍。",
        ),
        measure=lambda position: (d := mean_distances(position, params)).max() / d.min(),
        arm=LinearBias(),
        control=NoPosition(),
        without=Text("no bias: all heads begin with one range", "没有偏置：各头的范围相同"),
        holds=above(10.0),
        unit="ratio",
    )
    lab.number("narrowest", scales.min(), "tokens")
    lab.number("widest", scales.max(), "tokens")
    title = Text("Mean distance of each head, with a linear bias", "线性偏置下各头的平均距离")
    heights = {str(i + 1): float(v) for i, v in enumerate(scales)}
    lab.figure("heads", figures.bars(title, Text("tokens", "词"), heights, scale="symlog"))
