"""Tokenizers side by side: how long they make a text, how many bits it takes, what a typo does, how numbers are cut.

Tokens of different tokenizers are different units, so a loss per token compares nothing. What compares is per byte or
per character of the text: `Code` gives bits per byte under the simplest model that every vocabulary has, independent
tokens with the frequencies of a training text. What a tokenizer cannot write (<unk>) is charged 8 bits a byte, or a
vocabulary would look the better the more it leaves out.
"""

from __future__ import annotations

import random
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2

from qkv.text.stats import stats
from qkv.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Code:
    """Bits of each token: −log2 of its frequency, every token of the vocabulary seen once more than it was."""

    tokenizer: Tokenizer
    bits: Sequence[float]

    @classmethod
    def learn(cls, tokenizer: Tokenizer, texts: Iterable[str]) -> Code:
        """The code of the token frequencies in `texts`."""
        counts = Counter(i for ids in tokenizer.encode_batch(texts) for i in ids)
        total = log2(counts.total() + tokenizer.vocab_size)
        return cls(tokenizer, [total - log2(counts[i] + 1) for i in range(tokenizer.vocab_size)])

    def bits_per_byte(self, texts: Iterable[str]) -> float:
        """Bits for the texts over the bytes of the texts as the tokenizer normalises them."""
        bits, size = 0.0, 0
        for text in texts:
            found = self.tokenizer.backend.encode(text, add_special_tokens=False)
            bits += sum(self.bits[i] for i in found.ids)
            for i, (start, end) in zip(found.ids, found.offsets, strict=True):
                if i == self.tokenizer.unk_id:
                    bits += 8 * len(text[start:end].encode())
            size += len(self.tokenizer.normalize(text).encode())
        return bits / max(1, size)


@dataclass(frozen=True)
class Comparison:
    """What one tokenizer makes of one corpus. fertility: tokens a word. tokens_per_character: the same for scripts
    without spaces. bits_per_byte: see `Code`. unknown: share of tokens that are <unk>. changed: share of the tokens
    that one typo in a word takes away or adds. longer: tokens of the words with typos over those without."""

    fertility: float
    tokens_per_character: float
    bits_per_byte: float
    unknown: float
    changed: float
    longer: float


def compare(code: Code, texts: Sequence[str], seed: int = 0) -> Comparison:
    """Measure a tokenizer and its code on texts that neither was learned from."""
    found, tokenizer = stats(code.tokenizer, texts), code.tokenizer
    words = [word for text in texts for word in text.split()]
    spoilt = typos(words, seed)
    before, after = tokenizer.encode_batch(words), tokenizer.encode_batch(spoilt)
    return Comparison(
        fertility=found.tokens_per_word,
        tokens_per_character=found.tokens / max(1, found.characters),
        bits_per_byte=code.bits_per_byte(texts),
        unknown=found.unknown_rate,
        changed=sum(map(changed, before, after)) / max(1, len(words)),
        longer=sum(map(len, after)) / max(1, sum(map(len, before))),
    )


def changed(before: Sequence[int], after: Sequence[int]) -> float:
    """The share of tokens that two lists do not have in common, of the longer one.

    >>> changed([5, 6, 7], [5, 8])
    0.6666666666666666
    """
    common = (Counter(before) & Counter(after)).total()
    longest = max(len(before), len(after), 1)
    return (longest - common) / longest


def typos(words: Sequence[str], seed: int = 0) -> list[str]:
    """Each word with one slip: two neighbours exchanged, a character left out, doubled, or another in its place.

    Replacements come from the characters of all words, so the alphabet stays. A word of one character gets another.

    >>> typos(["window", "table"], seed=1)
    ['wnidow', 'talbe']
    """
    draw = random.Random(seed)
    alphabet = sorted({character for word in words for character in word}) or list(string.ascii_lowercase)
    return [_slip(word, alphabet, draw) for word in words]


def _slip(word: str, alphabet: Sequence[str], draw: random.Random) -> str:
    at = draw.randrange(len(word))
    kind = draw.choice(["swap", "drop", "add", "replace"] if len(word) > 1 else ["replace"])
    if kind == "swap":
        at = min(at, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == "drop":
        return word[:at] + word[at + 1 :]
    if kind == "add":
        return word[:at] + draw.choice(alphabet) + word[at:]
    return word[:at] + draw.choice([c for c in alphabet if c != word[at]] or [word[at]]) + word[at + 1 :]


def cuts(tokenizer: Tokenizer, number: str) -> tuple[int, ...]:
    """Into how many digits each token of a number reaches: (1, 3) for 1|234."""
    offsets = tokenizer.backend.encode(number, add_special_tokens=False).offsets
    return tuple(end - start for start, end in offsets if end > start)


def number_cuts(tokenizer: Tokenizer, digits: int, seed: int = 0, n: int = 500) -> tuple[float, float]:
    """Of random numbers with so many digits: tokens a number, and the share that is cut in the commonest way.

    Where that share is below 1, digits of equal worth stand at different places of the token sequence."""
    draw = random.Random(seed)
    found = [cuts(tokenizer, str(draw.randrange(10 ** (digits - 1), 10**digits))) for _ in range(n)]
    return sum(map(len, found)) / n, Counter(found).most_common(1)[0][1] / n


def shares(sizes: Mapping[str, int], alpha: float) -> dict[str, float]:
    """How much of a training text each language gets: ∝ size^α (Conneau & Lample 2019, §3.1).

    α = 1 leaves it as it is, 0 makes all alike.

    >>> shares({"en": 900, "fi": 100}, alpha=0.5)
    {'en': 0.75, 'fi': 0.25}
    """
    weights = {name: size**alpha for name, size in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def sampled(texts: Mapping[str, Sequence[str]], alpha: float, n: int, seed: int = 0) -> list[str]:
    """n texts, languages drawn by `shares` of their numbers of texts, texts within a language with replacement."""
    draw = random.Random(seed)
    weights = shares({name: len(rows) for name, rows in texts.items()}, alpha)
    names = draw.choices(list(weights), list(weights.values()), k=n)
    return [draw.choice(texts[name]) for name in names]
