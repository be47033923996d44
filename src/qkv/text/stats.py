"""How well a tokenizer fits a corpus, in three numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from qkv.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Stats:
    """Counts over a corpus; the three ratios are 0 where there is nothing to divide by."""

    texts: int
    characters: int
    """Unicode characters of the raw texts."""
    words: int
    """Stretches between white space; says little for scripts that write none, such as Chinese."""
    tokens: int
    unknown: int
    """Tokens that are <unk>."""

    @property
    def characters_per_token(self) -> float:
        """Compression: higher means shorter sequences."""
        return self.characters / max(self.tokens, 1)

    @property
    def tokens_per_word(self) -> float:
        """Fertility: 1 where every word has a token of its own."""
        return self.tokens / max(self.words, 1)

    @property
    def unknown_rate(self) -> float:
        """Share of the tokens that are <unk>: what the model cannot see or write."""
        return self.unknown / max(self.tokens, 1)


def stats(tokenizer: Tokenizer, texts: Iterable[str]) -> Stats:
    """Measure `tokenizer` on `texts`, preferably texts it was not trained on."""
    rows = list(texts)
    ids = tokenizer.encode_batch(rows)
    return Stats(
        texts=len(rows),
        characters=sum(map(len, rows)),
        words=sum(len(text.split()) for text in rows),
        tokens=sum(map(len, ids)),
        unknown=sum(row.count(tokenizer.unk_id) for row in ids) if tokenizer.unk_id is not None else 0,
    )
