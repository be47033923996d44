"""Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): merge the most frequent pair, again and again.

Training works on words and their counts. Two rules make its result unique:

- *Ties*: of equally frequent pairs, the one whose left symbol is older wins, then the one whose right symbol is older.
  The alphabet counts as oldest, in code point order; each merge makes a symbol that is younger than all before.
- *Overlaps*: `a a a` holds the pair (a, a) twice when counting, but merging goes from left to right and yields `aa a`.

The symbols need not be characters of text: byte-level BPE runs the same algorithm on bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

Pair = tuple[str, str]


def count_pairs(words: Mapping[tuple[str, ...], int]) -> Counter[Pair]:
    """How often each pair of neighbouring symbols occurs; `words` maps symbols to the count of the word.

    >>> count_pairs({("h", "u", "t"): 3, ("u", "t"): 1})
    Counter({('u', 't'): 4, ('h', 'u'): 3})
    """
    pairs: Counter[Pair] = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += count
    return pairs


def merge(symbols: Sequence[str], pair: Pair, merged: str) -> tuple[str, ...]:
    """Replace the pair by `merged` wherever it stands, from left to right.

    >>> merge("aaab", ("a", "a"), "aa")
    ('aa', 'a', 'b')
    """
    found: list[str] = []
    i = 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            found.append(merged)
            i += 2
        else:
            found.append(symbols[i])
            i += 1
    return tuple(found)


def train(word_counts: Mapping[str, int], vocab_size: int, min_frequency: int = 2) -> tuple[list[str], list[Pair]]:
    """Learn (vocabulary, merges). The vocabulary is the alphabet, then one symbol a merge, oldest first.

    Here `l o` (4 times) is merged first. Then `lo w`, `lo g` and, after that, nothing occurs twice:

    >>> vocabulary, merges = train({"low": 2, "log": 2, "new": 1}, vocab_size=20)
    >>> vocabulary
    ['e', 'g', 'l', 'n', 'o', 'w', 'lo', 'log', 'low']
    >>> merges
    [('l', 'o'), ('lo', 'g'), ('lo', 'w')]

    `lo g` and `lo w` tie; g is older than w, so `lo g` goes first. Specials are no symbols: `vocab_size` is without.
    """
    age = {symbol: i for i, symbol in enumerate(sorted({symbol for word in word_counts for symbol in word}))}
    words = {tuple(word): count for word, count in word_counts.items()}
    merges: list[Pair] = []
    while len(age) < vocab_size:
        pairs = count_pairs(words)
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        if pairs[best] < min_frequency:
            break
        merges.append(best)
        merged = "".join(best)
        # Two different pairs can spell the same symbol: ab·c and a·bc. The symbol keeps its age.
        age.setdefault(merged, len(age))
        words = _merge_all(words, best, merged)
    return list(age), merges


def _merge_all(words: Mapping[tuple[str, ...], int], pair: Pair, merged: str) -> Counter[tuple[str, ...]]:
    after: Counter[tuple[str, ...]] = Counter()
    for symbols, count in words.items():
        after[merge(symbols, pair, merged)] += count
    return after


def encode(word: Sequence[str], merges: Sequence[Pair]) -> list[str]:
    """Apply the merges to one word: always the earliest-learned one that fits, leftmost first.

    >>> encode("lowlog", [("l", "o"), ("lo", "g"), ("lo", "w")])
    ['low', 'log']

    The order of learning matters, not the length: with `o w` learned first, `l o` never gets its chance.

    >>> encode("low", [("o", "w"), ("l", "o")])
    ['l', 'ow']
    """
    rank = {pair: i for i, pair in enumerate(merges)}
    symbols = list(word)
    while True:
        candidates = [(rank[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in rank]
        if not candidates:
            return symbols
        _, i = min(candidates)
        symbols[i : i + 2] = ["".join(symbols[i : i + 2])]


def token_counts(word_counts: Mapping[str, int], merges: Sequence[Pair]) -> list[int]:
    """Tokens of the whole corpus after 0, 1, 2, ... merges: it can only fall.

    >>> token_counts({"low": 2, "log": 2, "new": 1}, [("l", "o"), ("lo", "g"), ("lo", "w")])
    [15, 11, 9, 7]
    """
    words: Mapping[tuple[str, ...], int] = {tuple(word): count for word, count in word_counts.items()}
    totals = [sum(len(symbols) * count for symbols, count in words.items())]
    for pair in merges:
        words = _merge_all(words, pair, "".join(pair))
        totals.append(sum(len(symbols) * count for symbols, count in words.items()))
    return totals
