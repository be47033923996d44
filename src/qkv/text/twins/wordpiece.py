"""WordPiece (Schuster & Nakajima 2012; encoding as in Devlin et al. 2019, arXiv:1810.04805).

The units are those of BPE, but a piece inside a word is marked (`##ing`), so the word's start stays visible. What
differs is the encoding, greedy longest match with the vocabulary alone (no merges are kept), and the criterion of
training: not the most frequent pair, but the one that raises the likelihood of the corpus most,

    score(a, b) = count(ab) / (count(a) · count(b)).

Libraries, Hugging Face's among them, train "WordPiece" by frequency all the same; `train` can do both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

from qkv.text.twins.bpe import Pair, count_pairs, merge

PREFIX = "##"


def encode(word: str, vocabulary: Collection[str], unknown: str = "<unk>", max_characters: int = 100) -> list[str]:
    """The longest piece that starts the word, then the longest that continues it, and so on.

    >>> encode("unaffable", {"un", "unaf", "##aff", "##able", "##a"})
    ['<unk>']

    Greedy means that there is no way back: `unaf` is longest, after it nothing fits `fable`, and the *whole word* is
    unknown, although `un ##aff ##able` was possible:

    >>> encode("unaffable", {"un", "##aff", "##able", "##a"})
    ['un', '##aff', '##able']

    Words longer than `max_characters` are unknown without a try.
    """
    if len(word) > max_characters:
        return [unknown]
    pieces: list[str] = []
    start = 0
    while start < len(word):
        prefix = PREFIX if start > 0 else ""
        fitting = (end for end in range(len(word), start, -1) if prefix + word[start:end] in vocabulary)
        end = next(fitting, None)
        if end is None:
            return [unknown]
        pieces.append(prefix + word[start:end])
        start = end
    return pieces


def symbols(word: str) -> tuple[str, ...]:
    """
    >>> symbols("hut")
    ('h', '##u', '##t')
    """
    return tuple(PREFIX * (i > 0) + character for i, character in enumerate(word))


def join(pair: Pair) -> str:
    """
    >>> join(("##u", "##t")), join(("h", "##ut"))
    ('##ut', 'hut')
    """
    return pair[0] + pair[1].removeprefix(PREFIX)


def train(
    word_counts: Mapping[str, int],
    vocab_size: int,
    min_frequency: int = 2,
    criterion: Literal["frequency", "likelihood"] = "frequency",
) -> list[str]:
    """Learn a vocabulary: the `##` characters, the plain characters (both in code point order), then the merges.

    Ties go to the older symbol, as in BPE. The two criteria want different things. In this corpus `a b` is the most
    frequent pair, but its parts are common anyway; `x y` always stand together, so merging them gains more:

    >>> corpus = {"ab": 4, "aa": 3, "bb": 3, "xy": 3}
    >>> train(corpus, vocab_size=8, criterion="frequency")
    ['##a', '##b', '##y', 'a', 'b', 'x', 'y', 'ab']
    >>> train(corpus, vocab_size=8, criterion="likelihood")
    ['##a', '##b', '##y', 'a', 'b', 'x', 'y', 'xy']
    """
    inside = sorted({PREFIX + character for word in word_counts for character in word[1:]})
    age = {symbol: i for i, symbol in enumerate([*inside, *sorted(set("".join(word_counts)))])}
    words: Counter[tuple[str, ...]] = Counter({symbols(word): count for word, count in word_counts.items()})
    while len(age) < vocab_size:
        pairs = {pair: count for pair, count in count_pairs(words).items() if count >= min_frequency}
        if not pairs:
            break
        singles = _count_symbols(words)
        gain = {
            pair: count if criterion == "frequency" else count / (singles[pair[0]] * singles[pair[1]])
            for pair, count in pairs.items()
        }
        best = min(gain, key=lambda pair: (-gain[pair], age[pair[0]], age[pair[1]]))
        age.setdefault(join(best), len(age))
        after: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            after[merge(word, best, join(best))] += count
        words = after
    return list(age)


def _count_symbols(words: Mapping[tuple[str, ...], int]) -> Counter[str]:
    singles: Counter[str] = Counter()
    for word, count in words.items():
        for symbol in word:
            singles[symbol] += count
    return singles
