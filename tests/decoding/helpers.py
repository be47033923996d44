"""Small random models to search, and the searches done the slow way."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch

from qkv.models import build, llama, vaswani
from qkv.nn import Tokens

EOS = 2


def translator(vocab: int = 11, seed: int = 0):
    """An encoder-decoder with random weights, sharpened so that its choices differ from step to step."""
    torch.manual_seed(seed)
    config = vaswani("tiny", vocab, dropout=0.0)

    def small(stack):
        return replace(stack, d_model=32, n_layers=2)

    model = build(replace(config, encoder=small(config.encoder), decoder=small(config.decoder))).eval()
    with torch.no_grad():
        model.decoder.embedding.token.weight.mul_(3.0)
    return model


def writer(vocab: int = 11, seed: int = 0):
    """A decoder with rotary positions and grouped keys, random weights large enough for the past to count."""
    torch.manual_seed(seed)
    model = build(llama(vocab, d_model=32, n_layers=2, n_heads=4, n_groups=2, d_ff=64, tied=True)).eval()
    with torch.no_grad():
        model.decoder.embedding.token.weight.mul_(20.0)
        for linear in (m for m in model.decoder.blocks.modules() if isinstance(m, torch.nn.Linear)):
            linear.weight.mul_(12.0)
    return model


def sources(rows: int, longest: int = 9, vocab: int = 11, seed: int = 1):
    """Ragged right-padded sources [B,S] with their tokens and lengths."""
    torch.manual_seed(seed)
    lengths = torch.randint(2, longest + 1, (rows,)).tolist()
    tokens = Tokens.from_lengths(lengths)
    ids = torch.randint(4, vocab, tuple(tokens.shape)).masked_fill(~tokens.valid, 0)
    return ids, tokens, lengths


def begin(rows: int):
    """The prompt of a translation: a begin token a row."""
    return torch.ones(rows, 1, dtype=torch.long), Tokens.arange(rows, 1)


def log_probability(model, memory, ids: list[int]) -> list[float]:
    """log p of each of `ids` and then of each possible next token, without a cache: the slow twin's only tool."""
    given = torch.tensor([[1, *ids]])
    with torch.no_grad():
        logits = model.head(model.decode(given, Tokens.arange(1, given.shape[1]), memory))
    return logits.log_softmax(-1)[0]


def every_output(model, memory, vocab: int, longest: int, penalty: float):
    """All outputs of at most `longest` tokens with their scores, best first."""
    words = [w for w in range(vocab) if w != EOS]
    found = []
    for length in range(longest + 1):
        for ids in product(words, repeat=length):
            table = log_probability(model, memory, list(ids))
            total = sum(float(table[t, w]) for t, w in enumerate(ids))
            if length < longest:
                found.append(((total + float(table[length, EOS])) / (length + 1) ** penalty, list(ids), True))
            else:
                found.append((total / length**penalty, list(ids), False))
    return sorted(found, key=lambda f: -f[0])
