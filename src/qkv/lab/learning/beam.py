"""Beam search on sources whose best output is known (A75)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.chains import MarkovChain
from qkv.decoding import Beam, generate
from qkv.lab import figures
from qkv.lab.checks import above, below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Tokens

from .tables import table_model

NEVER_ENDS = -1  # no token has this id


@dataclass(frozen=True)
class Search:
    """symbols: of a source of order 2; it has symbols² states. sources: random ones. length: of the outputs."""

    symbols: Annotated[int, within(2, 6)] = 5
    sources: Annotated[int, within(1, 100)] = 20
    length: Annotated[int, within(3, 30)] = 10


def pairs(chain: MarkovChain) -> Tensor:
    """An order-2 chain as one of order 1 over pairs of symbols: p((b, c) | (a, b)) = p(c | a, b), [V²,V²]."""
    v = chain.n_symbols
    table = torch.zeros(v, v, v, v, dtype=chain.table.dtype)
    for b in range(v):
        table[:, b, b, :] = chain.table[:, b]
    return table.reshape(v * v, v * v)


def viterbi(table: Tensor, length: int) -> Tensor:
    """The largest log p of `length` further states after each state, [V]: max over the next of log p + the rest."""
    best = torch.zeros(len(table), dtype=table.dtype)
    for _ in range(length):
        best = (table.log() + best).amax(1)
    return best


def searched(model: DecoderOnly, width: int, length: int) -> tuple[Tensor, list[list[int]]]:
    """log p [V] and ids of what a beam finds after each state."""
    start = torch.arange(model.config.stack.d_model)[:, None]
    found = generate(
        model,
        start,
        Tokens.arange(*start.shape),
        chooser=Beam(width, length_penalty=0.0),
        max_new=length,
        eos=NEVER_ENDS,
    )
    return torch.tensor([h[0].logp for h in found]).double(), [h[0].ids for h in found]


@experiment()
def beam_search(lab: Lab, params: Search) -> None:
    """Wider beams find the most probable output more often, but not for certain, and sometimes do worse."""
    states = params.symbols**2
    widths = sorted({1, 2, 3, 4, 8, states})
    chains = [MarkovChain.random(params.symbols, 2, lab.generator(i)) for i in range(params.sources)]
    tables = [pairs(chain).float() for chain in chains]
    models = [table_model(table) for table in tables]
    best = torch.cat([viterbi(table.double(), params.length) for table in tables])
    outputs = {w: [searched(model, w, params.length) for model in models] for w in widths}
    found = {w: torch.cat([logp for logp, _ in outputs[w]]) for w in widths}
    hits = {w: float((found[w] > best - 1e-4).double().mean()) for w in widths}
    for w in widths:
        lab.number(f"hits_{'all' if w == states else w}", hits[w], "share")
    lab.number("searches", len(best))
    lab.number("states", states)
    short, everything = 4, params.symbols**3  # as many prefixes as there are before the last of four steps
    best_short = torch.cat([viterbi(table.double(), short) for table in tables])
    few = {w: torch.cat([searched(model, w, short)[0] for model in models]) for w in (2, everything)}
    lab.number("everything", everything)
    lab.claim(
        "exhaustive",
        Text(
            "A beam that holds every prefix finds the optimum in every search.",
            "容得下全部前缀的束，每次都找到最优。",
        ),
        measure=lambda width: (few[width] > best_short - 1e-4).double().mean(),
        arm=everything,
        control=2,
        without=Text("a beam of two, which prunes", "束宽为二，要剪枝"),
        holds=exactly(1.0),
        unit="share",
    )
    steps = [(found[u], found[w]) for u, w in itertools.pairwise(widths)]
    lab.number("compared", len(best) * len(steps))
    lab.claim(
        "not_monotone",
        Text("A wider beam sometimes finds a less probable output.", "更宽的束有时反而找到概率更低的输出。"),
        measure=lambda compared: sum(int((wide < narrow - 1e-4).sum()) for narrow, wide in compared),
        arm=steps,
        control=[(few[2], few[everything])],
        without=Text("the wider beam holds every prefix", "较宽的束容得下全部前缀"),
        holds=above(0),
        unit="searches",
    )
    claim_prefix(lab, tables, outputs[2])
    _draw(lab, hits)


def claim_prefix(lab: Lab, tables: list[Tensor], outputs: list[tuple[Tensor, list[list[int]]]]) -> None:
    """How the score of what was found changes as it grows."""

    def rise(per_token: bool) -> float:
        most = -math.inf
        for table, (_, rows) in zip(tables, outputs, strict=True):
            for start, ids in enumerate(rows):
                steps = table.double().log()[[start, *ids[:-1]], ids].cumsum(0)
                scores = steps / torch.arange(1, len(ids) + 1) if per_token else steps
                most = max(most, float(scores.diff().max()))
        return most

    lab.claim(
        "falls",
        Text("The log-probability of a prefix never rises as it grows.", "前缀越长，对数概率只降不升。"),
        measure=rise,
        arm=False,
        control=True,
        without=Text("log-probability per token: a mean may rise", "每词平均的对数概率：平均值可以回升"),
        holds=below(1e-9),
        unit="nat",
    )


def _draw(lab: Lab, hits: dict[int, float]) -> None:
    lab.figure(
        "hits",
        figures.lines(
            Text("Searches that find the most probable output", "找到最高概率输出的比例"),
            Text("width of the beam", "束宽"),
            Text("share", "份额"),
            {"hits": list(hits.items())},
            {"hits": Text("beam", "束搜索")},
            x_scale="log",
        ),
    )


@dataclass(frozen=True)
class Curse:
    """words: equally likely ones that a source chooses from at each step. percent: chance that it ends instead.
    limit: longest output."""

    words: Annotated[int, within(2, 8)] = 4
    percent: Annotated[int, within(2, 15)] = 10
    limit: Annotated[int, within(5, 60)] = 30


@experiment()
def beam_curse(lab: Lab, params: Curse) -> None:
    """The most probable output may be the empty one: a better search is a worse output."""
    v, end = params.words, params.percent / 100
    table = torch.full((v + 2, v + 2), (1 - end) / v)  # 0: begin, never said; 1: end
    table[:, 0], table[:, 1] = 0.0, end
    model = table_model(table)

    def length(width: int, penalty: float = 0.0) -> int:
        chooser = Beam(width, length_penalty=penalty)
        found = generate(
            model, torch.zeros(1, 1).long(), Tokens.arange(1, 1), chooser=chooser, max_new=params.limit, eos=1
        )
        return len(found[0][0].ids)

    lab.number("typical", (1 - end) / end, "tokens")
    lab.number("mode", end, "probability")
    lab.number("wide", v + 1)
    lab.number("normalised_length", length(v + 1, 1.0), "tokens")
    lab.claim(
        "empty",
        Text(
            "A beam of words + 1 finds the true mode, which is the empty output.",
            "束宽为“词数加一”时找到真正的众数：空输出。",
        ),
        measure=lambda width: length(width),
        arm=v + 1,
        control=1,
        without=Text("greedy search, which misses it", "贪心搜索，错过了它"),
        holds=exactly(0),
        unit="tokens",
    )
