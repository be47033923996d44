"""Trained on short texts, read on long ones: what each kind of position does beyond the length it knows (A28, B10)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch

from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import LinearBias, NoPosition, PositionConfig, Rotary, Sinusoidal, Tokens, Window

VOCAB = 8
KINDS: dict[str, PositionConfig] = {
    "alibi": LinearBias(),
    "sinusoidal": Sinusoidal(),
    "rotary": Rotary(),
    "none": NoPosition(),
}


@dataclass(frozen=True)
class LengthTraining:
    """short: length that is trained. long: length that is read. steps: updates. window: keys that are left to the
    model with a linear bias when it is asked how far it looks."""

    short: Annotated[int, within(8, 64)] = 24
    long: Annotated[int, within(16, 256)] = 192
    steps: Annotated[int, within(20, 1000)] = 200
    window: Annotated[int, within(1, 64)] = 12


@experiment(long=True)
def length_training(lab: Lab, params: LengthTraining) -> None:
    """Beyond the trained length some positions fail; a model with a linear bias reads its neighbourhood there."""
    chain = MarkovChain.random(VOCAB, 2, torch.Generator().manual_seed(5))

    def batch(generator: torch.Generator, length: int = params.short, rows: int = 16) -> Batch:
        return small.following(chain.sample(rows, length + 1, generator))

    @cache
    def trained(kind: str, seed: int) -> DecoderOnly:
        torch.manual_seed(seed)
        model = small.decoder(VOCAB, n_heads=4, position=KINDS[kind])
        lab.train(model, batch, params.steps, seed=seed)
        return model

    @cache
    def curve(kind: str, seed: int, back: int | None = None) -> torch.Tensor:
        """Excess loss over the chain's own, in nats, at each position of long texts."""
        ids = chain.sample(128, params.long + 1, torch.Generator().manual_seed(10_000 + seed))
        model = trained(kind, seed)
        with torch.no_grad():
            mask = None if back is None else Window(back=back)
            z = model.head(model.decode(ids[:, :-1], Tokens.arange(128, params.long), mask=mask))
        found = -z.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return (found + chain.log_prob(ids)[:, 1:]).mean(0)

    def beyond(kind: str, seed: int) -> float:
        """How much is lost per token in the last quarter of a long text, against the second half of a short one."""
        excess = curve(kind, seed)
        return float(excess[-params.long // 4 :].mean() - excess[params.short // 2 : params.short].mean())

    def cut(back: int, seed: int) -> float:
        """What the last quarter of a long text loses per token when only `back` keys before each query are left."""
        far = slice(-params.long // 4, None)
        return float(curve("alibi", seed, back)[far].mean() - curve("alibi", seed)[far].mean())

    lab.claim(
        "local",
        Text(
            "A model with a linear bias loses under 0.05 nat a token when it is left its nearest keys only.",
            "线性偏置的模型只留最近的若干键，每个词的损失增加不到 0.05 nat。",
        ),
        measure=cut,
        arm=params.window,
        control=0,
        # One key before the query would not do: with the query's own it is all that a source of order two needs.
        without=Text("the query's own key alone, where the source needs two", "只留查询自己的键，而信源需要两个"),
        holds=below(0.05),
        unit="nat",
        seeds=3,
    )
    # No claim: in some arms the seeds scatter so much that the gap is no three times their range. So all is printed.
    drawn = {kind: [beyond(kind, lab.seed + i) for i in range(3)] for kind in KINDS}
    for kind, found in drawn.items():
        lab.number(f"beyond_{kind}", sum(found) / 3, "nat")
        lab.number(f"beyond_{kind}_least", min(found), "nat")
        lab.number(f"beyond_{kind}_most", max(found), "nat")
    gap = (sum(drawn["sinusoidal"]) - sum(drawn["alibi"])) / 3
    widest = max(max(drawn[kind]) - min(drawn[kind]) for kind in ("sinusoidal", "alibi"))
    lab.number("gap_in_ranges", gap / widest, "times")
    lab.number("inside", curve("alibi", lab.seed)[params.short // 2 : params.short].mean(), "nat")
    smooth = params.long // 12
    lab.figure(
        "beyond",
        figures.lines(
            Text("Excess loss by position", "各位置的超额损失"),
            Text("position", "位置"),
            Text("nats above the source's own", "高出信源熵的 nat 数"),
            {
                kind: [
                    (float(i), float(curve(kind, lab.seed)[i : i + smooth].mean()))
                    for i in range(2, params.long - smooth + 1, smooth)
                ]
                for kind in KINDS
            },
            {
                "alibi": Text("linear bias (ALiBi)", "线性偏置（ALiBi）"),
                "sinusoidal": Text("sinusoids", "正弦"),
                "rotary": Text("rotary", "旋转"),
                "none": Text("no position", "无位置"),
            },
        ),
    )
