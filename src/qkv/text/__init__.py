"""Text to token ids and back: tokenizers trained by Hugging Face `tokenizers`, and readable twins that prove them.

tokenizer = train(BPE(vocab_size=8000), texts)
ids = tokenizer.encode("Ein Hund läuft.")          # no <bos>, no <eos>: the data layer adds them
tokenizer.decode(ids)                              # "Ein Hund läuft."
"""

from __future__ import annotations

from qkv.text.configs import BPE, ByteBPE, Characters, TokenizerConfig, Unigram, WordPiece, Words, train
from qkv.text.foreign import from_tokenizer_json, from_wordpiece_vocab
from qkv.text.stats import Stats, stats
from qkv.text.tokenizer import BOS, EOS, PAD, UNK, Tokenizer

__all__ = [
    "BOS",
    "BPE",
    "EOS",
    "PAD",
    "UNK",
    "ByteBPE",
    "Characters",
    "Stats",
    "Tokenizer",
    "TokenizerConfig",
    "Unigram",
    "WordPiece",
    "Words",
    "from_tokenizer_json",
    "from_wordpiece_vocab",
    "stats",
    "train",
]
