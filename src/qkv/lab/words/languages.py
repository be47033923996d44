"""Made-up languages: words of syllables with Zipf's frequencies, one alphabet each."""

from __future__ import annotations

import random
from dataclasses import dataclass

ALPHABETS = {"large": ("bdfgklmnprst", "aeiou"), "small": ("βγδζθκλμνπρσ", "αεηιο")}
"""Consonants and vowels; the small language is written in another script."""


@dataclass(frozen=True)
class Language:
    """words: the vocabulary, most frequent first; the r-th is used ∝ 1/r."""

    words: tuple[str, ...]

    @classmethod
    def draw(cls, name: str, n_words: int, seed: int) -> Language:
        """Words of one to four syllables, frequent ones shorter, as Zipf also found."""
        consonants, vowels = ALPHABETS[name]
        draw = random.Random(f"{name} {seed}")
        words: dict[str, None] = {}
        while len(words) < n_words:
            syllables = 1 + min(3, int((len(words) / n_words) * 3 + draw.random()))
            words["".join(draw.choice(consonants) + draw.choice(vowels) for _ in range(syllables))] = None
        return cls(tuple(words))

    def texts(self, n: int, seed: int, length: int = 8) -> list[str]:
        """n texts of so many words."""
        draw = random.Random(seed)
        weights = [1 / (rank + 1) for rank in range(len(self.words))]
        return [" ".join(draw.choices(self.words, weights, k=length)) for _ in range(n)]
