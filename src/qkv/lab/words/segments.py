"""The mathematics of tokenization (A98): sums over segmentations, EM, greedy merging."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from qkv.lab import figures
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.text.twins import bpe, unigram, unigram_training

from .languages import Language


@dataclass(frozen=True)
class Corpus:
    """n_words: types of a made-up language. texts: of 8 words each. merges: learned by BPE. rounds: of EM."""

    n_words: Annotated[int, within(20, 1000)] = 150
    texts: Annotated[int, within(20, 5000)] = 400
    merges: Annotated[int, within(5, 300)] = 80
    rounds: Annotated[int, within(2, 20)] = 6

    def counts(self, seed: int) -> Counter[str]:
        language = Language.draw("large", self.n_words, seed)
        return Counter(word for text in language.texts(self.texts, seed) for word in text.split())


def segmentations(text: str, pieces: set[str]) -> Iterator[list[str]]:
    """All ways to cut a text into known pieces, by brute force over the cuts."""
    for cuts in itertools.product((False, True), repeat=len(text) - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(text)]
        parts = [text[a:b] for a, b in itertools.pairwise(bounds)]
        if all(part in pieces for part in parts):
            yield parts


@experiment()
def tokenization_identities(lab: Lab, params: Corpus) -> None:
    """A unigram tokenizer is a probability model with latent cuts: sums, best paths and EM are exact."""
    counts = params.counts(lab.seed)
    scores = unigram_training.seed(counts, max_length=4)
    words = [word for word in counts if len(word) > 3][:20]

    def relative(of: str) -> float:
        """Largest relative error of P(word) against the sum over all cuts."""
        worst = 0.0
        for word in words:
            total = sum(math.exp(sum(scores[p] for p in parts)) for parts in segmentations(word, set(scores)))
            log_p = unigram.forward(word, scores)[-1] if of == "all" else unigram.viterbi(word, scores)[1]
            worst = max(worst, abs(math.exp(log_p) / total - 1))
        return worst

    lab.claim(
        "sum",
        Text("The forward recursion is the sum over all segmentations.", "前向递推等于对全部切分求和。"),
        measure=relative,
        arm="all",
        control="best",
        without=Text("the best segmentation alone", "只取最好的一种切分"),
        holds=below(1e-12),
    )
    lab.number("segmentations", sum(len(list(segmentations(word, set(scores)))) for word in words) / len(words))

    def least_gain(step: str) -> float:
        """The smallest rise of the log-likelihood, per word, over rounds of EM; or of rounds that use random counts."""
        draw, now = random.Random(lab.seed), scores
        gains, before = [], unigram_training.log_likelihood(counts, now)
        for _ in range(params.rounds):
            if step == "em":
                now = unigram_training.em_step(counts, now)
            else:
                weights = {piece: draw.random() for piece in now}
                total = sum(weights.values())
                now = {piece: math.log(weight / total) for piece, weight in weights.items()}
            after = unigram_training.log_likelihood(counts, now)
            gains.append((after - before) / counts.total())
            before = after
        return min(gains)

    lab.claim(
        "em",
        Text("No round of EM lowers the likelihood.", "EM 的每一轮都不会降低似然。"),
        measure=least_gain,
        arm="em",
        control="random",
        without=Text("frequencies drawn at random instead of expected counts", "用随机频率代替期望计数"),
        holds=above(-1e-9),
        unit="nat/word",
    )


def random_merges(counts: Counter[str], n: int, seed: int) -> list[bpe.Pair]:
    """Merges of pairs that occur, chosen at random instead of by frequency."""
    draw = random.Random(seed)
    words = {tuple(word): count for word, count in counts.items()}
    merges: list[bpe.Pair] = []
    for _ in range(n):
        pairs = sorted(bpe.count_pairs(words))
        if not pairs:
            break
        merges.append(draw.choice(pairs))
        merged: Counter[tuple[str, ...]] = Counter()
        for symbols, count in words.items():
            merged[bpe.merge(symbols, merges[-1], "".join(merges[-1]))] += count
        words = dict(merged)
    return merges


@experiment()
def merging(lab: Lab, params: Corpus) -> None:
    """BPE is greedy compression: far shorter than random merges, not always the shortest that its vocabulary allows."""
    counts = params.counts(lab.seed)
    alphabet = len({character for word in counts for character in word})
    vocabulary, greedy = bpe.train(counts, alphabet + params.merges)
    curves = {"greedy": bpe.token_counts(counts, greedy)}
    curves["random"] = bpe.token_counts(counts, random_merges(counts, params.merges, lab.seed))
    other = bpe.token_counts(counts, random_merges(counts, params.merges, lab.seed + 1))
    lab.number("never_rises", max(b - a for a, b in itertools.pairwise(curves["greedy"])), "tokens")
    lab.claim(
        "greedy",
        Text(
            "Merging the most frequent pair leaves under 0.8 times the tokens that random merges leave.",
            "每次合并最频繁的一对，剩下的词元不到随机合并的 0.8 倍。",
        ),
        measure=lambda totals: totals[-1] / other[-1],
        arm=curves["greedy"],
        control=curves["random"],
        without=Text("pairs chosen at random", "随机选择合并对"),
        holds=below(0.8),
        unit="ratio",
    )
    equal = dict.fromkeys(vocabulary, -1.0)  # the likeliest segmentation is then the one with the fewest pieces
    fewest = sum(count * len(unigram.viterbi(word, equal)[0]) for word, count in counts.items())
    longer = sum(
        count * (len(bpe.encode(word, greedy)) > len(unigram.viterbi(word, equal)[0])) for word, count in counts.items()
    )
    example = {"bc": 10, "ab": 6, "cd": 6, "abcd": 1}
    pieces, order = bpe.train(example, 7)
    lab.number("example_greedy", len(bpe.encode("abcd", order)), "tokens")
    lab.number("example_fewest", len(unigram.viterbi("abcd", dict.fromkeys(pieces, -1.0))[0]), "tokens")
    lab.number("excess", curves["greedy"][-1] / fewest - 1, "share")
    lab.number("longer_words", longer / counts.total(), "share")
    lab.figure(
        "merges",
        figures.lines(
            Text("Tokens of the corpus", "语料的词元数"),
            Text("merges", "合并次数"),
            Text("tokens", "词元"),
            {name: list(enumerate(totals)) for name, totals in curves.items()},
            {"greedy": Text("most frequent pair", "最频繁的一对"), "random": Text("random pair", "随机一对")},
        ),
    )
