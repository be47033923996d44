"""Unigram language model tokenization (Kudo 2018, arXiv:1804.10959).

Every piece x has a log-probability s(x). A segmentation x₁…xₙ of a text has log-probability Σ s(xᵢ), and the text has
the sum over *all* its segmentations,

    log P(text) = log Σ_{x₁…xₙ = text} exp Σᵢ s(xᵢ).

There are exponentially many, but they are the paths through a lattice whose nodes are the positions between characters
and whose edges are the pieces. `forward` sums over the paths, `viterbi` takes the best one: same loop, other operation.
How the scores are learned: `unigram_training`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import exp, inf, log

Scores = Mapping[str, float]


def edges(text: str, scores: Scores) -> Iterator[tuple[int, int, str]]:
    """The pieces that fit somewhere, as (start, end, piece), by start and then by end.

    >>> list(edges("aba", {"a": -1, "ab": -2, "ba": -2}))
    [(0, 1, 'a'), (0, 2, 'ab'), (1, 3, 'ba'), (2, 3, 'a')]
    """
    longest = max(map(len, scores), default=0)
    for start in range(len(text)):
        for end in range(start + 1, min(start + longest, len(text)) + 1):
            if text[start:end] in scores:
                yield start, end, text[start:end]


def log_add(a: float, b: float) -> float:
    """log(eᵃ + eᵇ) without overflow.

    >>> round(exp(log_add(log(2), log(3))), 9), log_add(-inf, -inf)
    (5.0, -inf)
    """
    high, low = max(a, b), min(a, b)
    return high if low == -inf else high + log(1 + exp(low - high))


def forward(text: str, scores: Scores) -> list[float]:
    """α[i] = log of the summed probability of all segmentations of text[:i]; α[-1] is log P(text).

    With P(a) = P(b) = 1/4 and P(ab) = 1/2, "ab" is a·b (1/16) or ab (1/2):

    >>> alpha = forward("ab", {"a": log(1 / 4), "b": log(1 / 4), "ab": log(1 / 2)})
    >>> [round(exp(a), 4) for a in alpha]
    [1.0, 0.25, 0.5625]
    """
    alpha = [0.0] + [-inf] * len(text)
    for start, end, piece in edges(text, scores):
        alpha[end] = log_add(alpha[end], alpha[start] + scores[piece])
    return alpha


def backward(text: str, scores: Scores) -> list[float]:
    """β[i] = the same for text[i:]; β[0] is log P(text).

    >>> [round(exp(b), 4) for b in backward("ab", {"a": log(1 / 4), "b": log(1 / 4), "ab": log(1 / 2)})]
    [0.5625, 0.25, 1.0]
    """
    beta = [-inf] * len(text) + [0.0]
    for start, end, piece in reversed(list(edges(text, scores))):
        beta[start] = log_add(beta[start], scores[piece] + beta[end])
    return beta


def viterbi(text: str, scores: Scores) -> tuple[list[str], float]:
    """The best segmentation and its log-probability; of equals, the one whose last piece is longest, and so on back.

    >>> viterbi("abab", {"a": log(1 / 4), "b": log(1 / 4), "ab": log(1 / 2)})[0]
    ['ab', 'ab']

    A character that is no piece is worth 10 less than the worst piece, and neighbours of that kind are joined:

    >>> viterbi("a☃☃", {"a": -1.0, "b": -3.0})
    (['a', '☃☃'], -27.0)
    """
    unknown = min(scores.values(), default=0.0) - 10
    steps = {(start, end): scores[piece] for start, end, piece in edges(text, scores)}
    steps |= {(i, i + 1): unknown for i, character in enumerate(text) if character not in scores}
    best = [0.0] + [-inf] * len(text)
    came_from = [0] * (len(text) + 1)
    for (start, end), score in sorted(steps.items()):
        if best[start] + score > best[end]:
            best[end], came_from[end] = best[start] + score, start
    pieces: list[str] = []
    end, last_unknown = len(text), False
    while end > 0:
        start = came_from[end]
        is_unknown = text[start:end] not in scores
        if is_unknown and last_unknown:
            pieces[-1] = text[start:end] + pieces[-1]
        else:
            pieces.append(text[start:end])
        end, last_unknown = start, is_unknown
    return pieces[::-1], best[-1]
