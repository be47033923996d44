"""Learning the pieces and scores of a unigram tokenizer (Kudo 2018, arXiv:1804.10959).

Start with far too many pieces (`seed`). `em_step` raises the likelihood of the corpus under the scores, `prune` drops
the pieces that are missed least, and `train` alternates the two until the vocabulary is small enough.

Libraries differ from this in details (a prior in the M-step, suffix arrays for the seed), so vocabularies differ too;
what is proven equal is the segmentation of a text under given scores, in `unigram`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import exp, log

from qkv.text.twins.unigram import Scores, backward, edges, forward, viterbi


def log_likelihood(word_counts: Mapping[str, int], scores: Scores) -> float:
    """Σ_words count · log P(word): what training maximises.

    >>> round(log_likelihood({"ab": 2}, {"a": log(1 / 4), "b": log(1 / 4), "ab": log(1 / 2)}), 4)
    -1.1507
    """
    return sum(count * forward(word, scores)[-1] for word, count in word_counts.items())


def expected_counts(word_counts: Mapping[str, int], scores: Scores) -> dict[str, float]:
    """How often each piece is used, averaged over all segmentations by their posterior probability (the E-step).

    The edge x from i to j is on the path with probability exp(α[i] + s(x) + β[j] − log P(text)). Below, "ab" is one
    piece with posterior (1/2)/(9/16) = 8/9:

    >>> found = expected_counts({"ab": 1}, {"a": log(1 / 4), "b": log(1 / 4), "ab": log(1 / 2)})
    >>> {piece: round(count, 4) for piece, count in found.items()}
    {'a': 0.1111, 'ab': 0.8889, 'b': 0.1111}
    """
    expected: defaultdict[str, float] = defaultdict(float)
    for word, count in word_counts.items():
        alpha, beta = forward(word, scores), backward(word, scores)
        for start, end, piece in edges(word, scores):
            expected[piece] += count * exp(alpha[start] + scores[piece] + beta[end] - alpha[-1])
    return dict(expected)


def em_step(word_counts: Mapping[str, int], scores: Scores, floor: float = 0.0) -> dict[str, float]:
    """New scores: expected counts, normalised (the M-step). With `floor` 0 the likelihood cannot fall.

    `floor` is the least count of a single character: EM alone forgets the characters of words that have a piece of
    their own, and then no other word with them has a path.

    >>> new = em_step({"ab": 1}, {"a": log(1 / 4), "b": log(1 / 4), "ab": log(1 / 2)})
    >>> {piece: round(exp(score), 4) for piece, score in new.items()}
    {'a': 0.1, 'ab': 0.8, 'b': 0.1}
    """
    expected = expected_counts(word_counts, scores)
    expected |= {piece: max(expected.get(piece, 0.0), floor) for piece in scores if len(piece) == 1}
    # A longer piece whose count has sunk to nothing would be log 0: it is gone.
    expected = {piece: count for piece, count in expected.items() if count > 1e-300}
    total = log(sum(expected.values()))
    return {piece: log(count) - total for piece, count in expected.items()}


def prune(word_counts: Mapping[str, int], scores: Scores, size: int) -> dict[str, float]:
    """The `size` pieces whose loss would hurt most; single characters always stay, so that every word keeps a path.

    The loss of x is about count(x) · (s(x) − the best score of x's text *without* x), counts along best paths:

    >>> kept = prune({"ab": 9, "bc": 1}, {"a": -3.0, "b": -3.0, "c": -3.0, "ab": -1.0, "bc": -1.0}, size=4)
    >>> sorted(kept)
    ['a', 'ab', 'b', 'c']
    """
    used: Counter[str] = Counter()
    for word, count in word_counts.items():
        for piece in viterbi(word, scores)[0]:
            used[piece] += count

    def loss(piece: str) -> float:
        others = {other: scores[other] for _, _, other in edges(piece, scores) if other != piece}
        return used[piece] * (scores[piece] - viterbi(piece, others)[1])

    characters = [piece for piece in scores if len(piece) == 1]
    longer = sorted((piece for piece in scores if len(piece) > 1), key=lambda piece: (-loss(piece), piece))
    return {piece: scores[piece] for piece in [*characters, *longer[: max(0, size - len(characters))]]}


def seed(word_counts: Mapping[str, int], max_length: int = 16) -> dict[str, float]:
    """The start: all characters, and all substrings seen at least twice, with score log(frequency · length) − log Σ.

    >>> sorted(seed({"aba": 2, "c": 1}), key=lambda piece: (len(piece), piece))
    ['a', 'b', 'c', 'ab', 'ba', 'aba']
    """
    counts: Counter[str] = Counter()
    for word, count in word_counts.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + max_length, len(word)) + 1):
                counts[word[start:end]] += count
    weights = {piece: count * len(piece) for piece, count in counts.items() if count > 1 or len(piece) == 1}
    total = log(sum(weights.values()))
    return {piece: log(weight) - total for piece, weight in weights.items()}


def train(word_counts: Mapping[str, int], vocab_size: int, shrink: float = 0.75, em_steps: int = 2) -> dict[str, float]:
    """Seed, then: a few EM steps, drop a quarter of the pieces, until `vocab_size` are left.

    >>> scores = train({"hut": 9, "hund": 5, "huhn": 2}, vocab_size=7)
    >>> sorted(scores), viterbi("hundhut", scores)[0]
    (['d', 'h', 'hund', 'hut', 'n', 't', 'u'], ['hund', 'hut'])
    """
    scores = seed(word_counts)
    while True:
        for _ in range(em_steps):
            scores = em_step(word_counts, scores, floor=0.5)
        if len(scores) <= vocab_size:
            return scores
        smaller = prune(word_counts, scores, max(vocab_size, int(len(scores) * shrink)))
        if len(smaller) == len(scores):  # nothing but characters is left
            return scores
        scores = smaller
