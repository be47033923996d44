"""A question that needs all three attentions, and what is left of it without each (A100)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import torch

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderDecoder, EncoderDecoderConfig, HeadConfig
from qkv.nn import PADDING, Tokens, Window

Without = Literal["nothing", "encoder", "decoder", "cross"]
ITSELF = Window(back=0, ahead=0)
"""A mask under which a token sees itself alone: the weights of an attention stay, its routing is gone."""


@dataclass(frozen=True)
class SitesAblated:
    """pointers: tokens of the source, each the number of a place in it. steps: updates. rows: of a batch. d_model."""

    pointers: Annotated[int, within(3, 12)] = 6
    steps: Annotated[int, within(50, 1000)] = 200
    rows: Annotated[int, within(16, 256)] = 128
    d_model: Annotated[int, within(16, 64)] = 32


def questions(params: SitesAblated, without: Without) -> Callable[[torch.Generator], Batch]:
    """Source x: places in itself. The decoder reads (mode, p) and has to say x[x[p]], in the alphabet of the mode.

    The source is wanted (cross-attention), followed twice (by the encoder once before it is read), and the mode stands
    one token before the one that answers (decoder self-attention). Without cross: the source is hidden as padding."""
    n = params.pointers

    def make(generator: torch.Generator) -> Batch:
        source = torch.randint(n, (params.rows, n), generator=generator)
        mode = torch.randint(2, (params.rows, 1), generator=generator)
        place = torch.randint(n, (params.rows, 1), generator=generator)
        answer = source.gather(1, source.gather(1, place)) + n * mode
        batch = small.at_last(torch.cat((2 * n + mode, place), 1), answer.squeeze(1))
        tokens = Tokens.arange(*source.shape)
        if without == "cross":
            tokens = Tokens(torch.full_like(tokens.pos, PADDING))
        return Batch(batch.ids, batch.tokens, batch.targets, source, tokens)

    return make


def model_without(params: SitesAblated, without: Without) -> EncoderDecoder:
    """One layer each; the self-attention named by `without` sees a token itself and no other."""
    encoder, decoder = (
        small.stack(
            2 * params.pointers + 2, d_model=params.d_model, n_layers=1, mask=ITSELF if without == side else None
        )
        for side in ("encoder", "decoder")
    )
    return EncoderDecoder(EncoderDecoderConfig(encoder, decoder, HeadConfig(tied=False)))


@experiment(long=True)
def sites_ablated(lab: Lab, params: SitesAblated) -> None:
    """One encoder layer and one decoder layer answer a question that fails without any one of the three attentions."""

    @cache
    def accuracy(without: Without, seed: int) -> float:
        make = questions(params, without)
        model = model_without(params, without)
        lab.train(model, make, params.steps, seed=seed, learning_rate=5e-3)
        tests = [make(torch.Generator().manual_seed(10_000 + i)) for i in range(8)]
        return sum(small.accuracy(model, test) for test in tests) / len(tests)

    names = {
        "encoder": Text("encoder self-attention", "编码器自注意力"),
        "decoder": Text("decoder self-attention", "解码器自注意力"),
        "cross": Text("cross-attention", "交叉注意力"),
    }
    sides: tuple[Without, ...] = ("encoder", "decoder", "cross")
    for without in sides:
        name = names[without]
        lab.claim(
            without,
            Text(f"Accuracy is higher with {name.en} than without.", f"有{name.zh}时准确率更高。"),
            measure=accuracy,
            arm="nothing",
            control=without,
            without=Text(f"trained and tested without {name.en}", f"训练和测试都去掉{name.zh}"),
            holds=higher(),
            unit="share",
            seeds=3,
        )
    if not lab.claims:
        return
    heights = {"nothing": sum(lab.claims[0].measured) / 3} | {c.name: sum(c.against) / 3 for c in lab.claims}
    labels = {key: Text(f"without {name.en}", f"去掉{name.zh}") for key, name in names.items()}
    title = Text("Accuracy with and without each attention", "去掉各处注意力后的准确率")
    labels["nothing"] = Text("all three", "三处齐全")
    lab.figure("accuracy", figures.bars(title, Text("accuracy", "准确率"), heights, labels))
