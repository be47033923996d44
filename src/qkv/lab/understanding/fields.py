"""A linear-chain CRF is exact inference over all label sequences (A77; Lafferty, McCallum & Pereira 2001)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models.crf import Chain, join, legal

NAMES = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
FLAT = Text("transitions set to zero", "转移分数置零")


@dataclass(frozen=True)
class Field:
    """units: words of a sentence. rows: sentences. spread: standard deviation of all scores."""

    units: Annotated[int, within(2, 6)] = 4
    rows: Annotated[int, within(1, 20)] = 5
    spread: Annotated[float, within(0.1, 5)] = 1.5


def normal(lab: Lab, params: Field, *shape: int) -> Tensor:
    """Scores [shape], normal around zero."""
    return params.spread * torch.randn(shape, generator=lab.generator(sum(shape)), dtype=torch.float64)


def scores(chain: Chain, emissions: Tensor) -> tuple[list[tuple[int, ...]], Tensor]:
    """Every labelling of a sentence with emissions [U,C], and its score, term by term."""
    found = list(itertools.product(range(emissions.shape[1]), repeat=len(emissions)))
    totals = []
    for labels in found:
        total = chain.start[labels[0]] + chain.end[labels[-1]] + sum(emissions[t, y] for t, y in enumerate(labels))
        totals.append(total + sum(chain.transition[a, b] for a, b in itertools.pairwise(labels)))
    return found, torch.stack(totals)


@experiment()
def chain_by_enumeration(lab: Lab, params: Field) -> None:
    """The forward algorithm, Viterbi and the gaps of sub-words give what listing every label sequence gives."""
    n = len(NAMES)
    chain = Chain(normal(lab, params, n), normal(lab, params, n, n), normal(lab, params, n))
    flat = Chain(chain.start, torch.zeros_like(chain.transition), chain.end)
    emissions = normal(lab, params, params.rows, params.units, n)
    valid = torch.ones(params.rows, params.units, dtype=torch.bool)
    tables = [scores(chain, row) for row in emissions]
    lab.number("labellings", len(tables[0][0]))

    lab.claim(
        "partition",
        Text(
            "The forward algorithm's log Z is the log of the sum over all labellings.",
            "前向算法的 log Z，就是对所有标签序列求和再取对数。",
        ),
        measure=lambda used: max(
            float((z - all_of.logsumexp(0)).abs())
            for z, (_, all_of) in zip(used.log_partition(emissions, valid), tables, strict=True)
        ),
        arm=chain,
        control=flat,
        without=FLAT,
        holds=below(1e-10),
        unit="nat",
    )

    def missed(used: Chain) -> int:
        paths = used.best(emissions, valid)[0].tolist()
        return sum(tuple(p) != found[int(s.argmax())] for p, (found, s) in zip(paths, tables, strict=True))

    lab.claim(
        "viterbi",
        Text("Viterbi misses the best labelling of no sentence.", "每个句子，Viterbi 都找到得分最高的标签序列。"),
        measure=missed,
        arm=chain,
        control=flat,
        without=Text("each word takes its own best label", "每个词各取自己的最优标签"),
        holds=exactly(0),
        unit="sentences",
    )
    _gaps(lab, params, chain, emissions, valid)
    _legal(lab, params, chain, emissions, valid)


def _gaps(lab: Lab, params: Field, chain: Chain, emissions: Tensor, valid: Tensor) -> None:
    """Two pieces a word, specials at both ends: the chain runs over first pieces."""
    length = 2 * params.units + 2
    units = torch.zeros(params.rows, length, dtype=torch.bool)
    units[:, 1:-1:2] = True
    wide = normal(lab, params, params.rows, length, len(NAMES))
    wide[units] = emissions.flatten(0, 1)
    log_z = chain.log_partition(emissions, valid)

    def difference(kept: Tensor) -> float:
        return float((chain.log_partition(*join(wide, kept)) - log_z).abs().max())

    lab.claim(
        "gaps",
        Text(
            "With pieces and special tokens in between, log Z is that of the words alone.",
            "中间夹着子词和特殊符号时，log Z 与只看词的一样。",
        ),
        measure=difference,
        arm=units,
        control=torch.ones_like(units),
        without=Text("every position is a link of the chain", "把每个位置都当成链上的一环"),
        holds=below(1e-10),
        unit="nat",
    )


def _legal(lab: Lab, params: Field, chain: Chain, emissions: Tensor, valid: Tensor) -> None:
    """How much of the probability lies on sequences that no entities can be written as."""
    allowed = legal(NAMES)

    def illegal(used: Chain) -> float:
        """The share of the mass of `used` on illegal labellings."""
        share = []
        for row in emissions:
            found, totals = scores(used, row)
            wrong = torch.tensor([not possible(labels) for labels in found])
            share.append(totals.softmax(0)[wrong].sum())
        return float(torch.stack(share).max())

    def possible(labels: tuple[int, ...]) -> bool:
        return bool(allowed.start[labels[0]]) and all(bool(allowed.follow[a, b]) for a, b in itertools.pairwise(labels))

    lab.number("legal_pairs", float(allowed.follow.double().mean()), "share")
    lab.claim(
        "constrained",
        Text(
            "With forbidden transitions at −∞, illegal sequences have no probability at all.",
            "把不合法的转移设为 −∞，不合法序列的概率就是零。",
        ),
        measure=illegal,
        arm=allowed.forbid(chain),
        control=chain,
        without=Text("transitions as they are", "转移分数不加限制"),
        holds=below(1e-12),
        unit="share",
    )
