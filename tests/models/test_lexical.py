"""What is seen of a word before the first block: its letters against a loop, unknown words, what a stem needs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.models import EmbeddingConfig, StackConfig
from qkv.models.lexical import SPELLING, Lexical, LexicalEmbedding, Speller, Spelling, add_lexical
from qkv.models.stems import Convolution
from qkv.nn import Tokens

WORDS = torch.tensor([[[1, 2, 3, 4], [2, 2, 0, 0], [0, 0, 0, 0]], [[5, 0, 0, 0], [1, 2, 3, 4], [3, 2, 1, 0]]])


def slow(speller: Speller, word: list[int]) -> Tensor:
    """One word by itself: a window around each of its letters, zeros outside, the largest answer of each filter."""
    if not word:
        return torch.zeros(speller.linear.out_features, dtype=torch.float64)
    reach, before = speller.config.reach, speller.config.reach // 2
    table = torch.cat([torch.zeros(1, speller.config.width, dtype=torch.float64), speller.symbol.weight[1:]])
    padded = [0] * before + word + [0] * reach
    answers = []
    for i in range(len(word)):
        window = table[torch.tensor(padded[i : i + reach])]
        answers.append((speller.conv.weight * window.T).sum((1, 2)) + speller.conv.bias)
    return speller.linear(F.gelu(torch.stack(answers)).amax(0))


@pytest.mark.parametrize("reach", [1, 2, 3])
def test_letters_are_read_as_by_a_loop_over_words(reach: int) -> None:
    torch.manual_seed(0)
    speller = Speller(Spelling(width=3, filters=5, reach=reach), 6, 4).double()
    fast = speller(WORDS)
    rows = [[slow(speller, [c for c in word if c]) for word in row] for row in WORDS.tolist()]
    expected = torch.stack([torch.stack(row) for row in rows])
    torch.testing.assert_close(fast, expected, rtol=0, atol=1e-12)
    weights = torch.randn(fast.shape, dtype=torch.float64)
    own, other = (
        torch.autograd.grad((x * weights).sum(), list(speller.parameters()), retain_graph=True)
        for x in (fast, expected)
    )
    for a, b in zip(own, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_room_for_longer_words_changes_nothing() -> None:
    torch.manual_seed(0)
    speller = Speller(Spelling(width=3, filters=5), 6, 4)
    torch.testing.assert_close(speller(F.pad(WORDS, (0, 3))), speller(WORDS))


def embedding(config: Lexical, kept: tuple[int, ...] = ()) -> LexicalEmbedding:
    torch.manual_seed(0)
    stack = StackConfig(d_model=8, n_layers=1, embedding=EmbeddingConfig(vocab_size=10, dropout=0.0)).build()
    found = add_lexical(stack, config, n_symbols=6, unknown=1, kept=kept).embedding
    assert isinstance(found, LexicalEmbedding)
    return found


def test_words_are_read_as_unknown_at_the_given_rate_and_never_those_that_are_kept() -> None:
    own = embedding(Lexical(unknown=0.3), kept=(2, 3)).train()
    ids = torch.arange(2, 6).repeat(64, 100)
    tokens = Tokens.arange(*ids.shape)
    x = own(ids, tokens)
    lost = (x == own.embedding(torch.ones_like(ids), tokens)).all(-1)
    assert not lost[ids < 4].any()
    assert 0.28 < float(lost[ids >= 4].float().mean()) < 0.32
    assert torch.equal(x[~lost], own.embedding(ids, tokens)[~lost])


def test_a_word_read_as_unknown_keeps_its_letters() -> None:
    own = embedding(Lexical(unknown=0.99, spelling=Spelling(3, 5))).train()
    ids, tokens = torch.full((2, 3), 7), Tokens.arange(2, 3)
    seen = own(ids, tokens.with_fields(spelling=WORDS)) - own.embedding(torch.ones_like(ids), tokens)
    torch.testing.assert_close(seen, own.speller(WORDS))


def test_letters_that_are_not_given_are_missed() -> None:
    own = embedding(Lexical(spelling=Spelling(3, 5)))
    with pytest.raises(ValueError, match=SPELLING):
        own(torch.ones(1, 2, dtype=torch.long), Tokens.arange(1, 2))
    assert own.token is own.embedding.token


def test_a_stem_reads_words_with_their_letters() -> None:
    stack = StackConfig(d_model=8, n_layers=1, embedding=EmbeddingConfig(vocab_size=10)).build()
    config = Lexical(spelling=Spelling(3, 5), stem=Convolution(width=3, causal=False))
    stack = add_lexical(stack, config, n_symbols=6, unknown=1, kept=()).eval()
    ids, tokens = torch.full((2, 3), 7), Tokens.arange(2, 3)
    other = WORDS.clone()
    other[0, 0] = 5
    one, two = (stack(ids, tokens.with_fields(spelling=letters)) for letters in (WORDS, other))
    assert not torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
