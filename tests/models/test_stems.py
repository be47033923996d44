"""Stems: what they may see, what padding does to them, and what they refuse."""

from __future__ import annotations

import pytest
import torch

from qkv.lab import small
from qkv.models import DecoderOnly
from qkv.models.stems import Convolution, Recurrence, add_stem
from qkv.nn import Cache, Tokens

STEMS = [Convolution(3), Convolution(1), Recurrence("lstm"), Recurrence("gru"), Recurrence("rnn")]


def stemmed(stem) -> DecoderOnly:
    model = small.decoder(7, d_model=8, n_layers=1).double().eval()
    add_stem(model.decoder, stem)
    return model.double()


@pytest.mark.parametrize("stem", STEMS, ids=repr)
def test_the_future_has_no_influence(stem):
    model, ids = stemmed(stem), torch.randint(7, (2, 6))
    other = ids.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 7
    change = (model(ids, Tokens.arange(2, 6)) - model(other, Tokens.arange(2, 6))).abs().amax((0, 2))
    assert change[:4].max() == 0 and change[4:].min() > 0


@pytest.mark.parametrize("stem", [*STEMS, Convolution(3, causal=False)], ids=repr)
def test_padding_on_the_right_changes_nothing(stem):
    model, ids = stemmed(stem), torch.randint(7, (2, 6))
    tokens = Tokens.from_lengths([6, 4])
    alone = model(ids[1:, :4], Tokens.arange(1, 4))
    assert torch.allclose(model(ids, tokens)[1:, :4], alone, atol=1e-12)


def test_a_convolution_looks_no_further_than_its_width():
    stem, x = Convolution(3).build(4).double(), torch.randn(1, 6, 4, dtype=torch.float64)
    reach = torch.autograd.functional.jacobian(lambda z: stem(z)[0, 4].sum(), x)[0].abs().sum(-1)
    assert (reach > 0).tolist() == [False, False, True, True, True, False]


def test_an_even_or_open_convolution_keeps_the_length():
    for stem in (Convolution(4), Convolution(4, causal=False), Convolution(5, causal=False)):
        assert stem.build(4)(torch.randn(2, 6, 4)).shape == (2, 6, 4)


@pytest.mark.parametrize(
    "tokens",
    [
        Tokens.from_lengths([6, 4], side="left"),
        Tokens.arange(2, 6, start=3),
        Tokens.arange(2, 6).with_fields(doc=torch.zeros(2, 6, dtype=torch.long)),
    ],
    ids=["left padding", "a later stretch", "documents"],
)
def test_what_it_cannot_read_is_refused(tokens):
    with pytest.raises(ValueError, match="from its beginning"):
        stemmed(Recurrence())(torch.randint(7, (2, 6)), tokens)


def test_a_cache_is_refused_at_the_second_step():
    model, cache = stemmed(Recurrence()), Cache()
    model.decode(torch.tensor([[1]]), Tokens.arange(1, 1), cache=cache)
    with pytest.raises(ValueError, match="no cache"):
        model.decode(torch.tensor([[2]]), Tokens.arange(1, 1, start=1), cache=cache)


def test_one_stem_is_enough():
    with pytest.raises(ValueError, match="already"):
        add_stem(stemmed(Recurrence()).decoder, Convolution())
