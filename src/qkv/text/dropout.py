"""BPE-dropout (Provilkov et al. 2020, arXiv:1910.13267): segmentations that vary from one reading to the next.

At every step of the encoding each merge that could be made is left out with probability p, and the earliest learned of
the rest is made; when all are left out the word is done. With p = 0 it is the tokenizer itself, with p = 1 every word
falls apart into characters (or bytes). A model that is trained so sees the parts of frequent words too. The library
has this too, but draws from a generator that cannot be seeded; a run of ours can be repeated.
"""

from __future__ import annotations

import json
import random
from itertools import pairwise

from qkv.errors import UserError
from qkv.text.tokenizer import Tokenizer


class DroppedMerges:
    """A trained `BPE` or `ByteBPE` tokenizer, read with dropout. Raises UserError for a tokenizer of another kind."""

    def __init__(self, tokenizer: Tokenizer):
        model = json.loads(tokenizer.backend.to_str())["model"]
        if model.get("type") != "BPE":
            raise UserError(
                f"dropout leaves out merges, and a {model.get('type')} tokenizer has none; use bpe or byte_bpe"
            )
        pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
        self.tokenizer = tokenizer
        self.vocabulary: dict[str, int] = model["vocab"]
        self.rank = {pair: i for i, pair in enumerate(pairs)}
        self.spelled = bool(model.get("byte_fallback"))

    def encode(self, text: str, p: float, draw: random.Random) -> list[int]:
        """Ids of `text`; merges are left out with probability p."""
        if not 0 <= p <= 1:
            raise UserError(f"dropout is {p}; give a share of merges from 0 to 1")
        backend = self.tokenizer.backend
        normal = self.tokenizer.normalize(text)
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]
        return [i for word in words for symbol in self._word(word, p, draw) for i in self._ids(symbol)]

    def _word(self, word: str, p: float, draw: random.Random) -> list[str]:
        symbols = list(word)
        while True:
            fitting = [(self.rank[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in self.rank]
            kept = [merge for merge in fitting if p == 0 or draw.random() >= p]
            if not kept:
                return symbols
            _, i = min(kept)
            symbols[i : i + 2] = ["".join(symbols[i : i + 2])]

    def _ids(self, symbol: str) -> list[int]:
        if symbol in self.vocabulary:
            return [self.vocabulary[symbol]]
        if self.spelled:
            return [self.vocabulary[f"<0x{byte:02X}>"] for byte in symbol.encode()]
        return [] if self.tokenizer.unk_id is None else [self.tokenizer.unk_id]
