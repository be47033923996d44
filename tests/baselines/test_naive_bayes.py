"""Naive Bayes: the library's posteriors, and a generator that it would recognise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from qkv.baselines.naive_bayes import NaiveBayes


def drawn(seed: int = 0) -> tuple[NaiveBayes, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(3, 7, generator=generator, dtype=torch.float64)
    model = NaiveBayes(torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64).log(), scores.log_softmax(-1))
    return model, *model.sample(4000, 5, generator)


@pytest.mark.parametrize("smoothing", [0.5, 1.0])
def test_it_says_what_the_library_says(smoothing):
    sklearn = pytest.importorskip("sklearn.naive_bayes", reason="needs scikit-learn: pip install 'qkv[tasks]'")
    _, ids, labels = drawn()
    ids, labels = ids[:60], labels[:60]
    counts = F.one_hot(ids, 7).sum(1).numpy()
    theirs = sklearn.MultinomialNB(alpha=smoothing).fit(counts, labels.numpy()).predict_proba(counts)
    ours = NaiveBayes.fit(ids, labels, 7, 3, smoothing).posterior(ids)
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-12)


def test_it_finds_the_source_that_it_was_drawn_from():
    model, ids, labels = drawn()
    found = NaiveBayes.fit(ids, labels, 7, 3)
    assert (found.log_prior.exp() - model.log_prior.exp()).abs().max() < 0.03
    assert (found.log_words.exp() - model.log_words.exp()).abs().max() < 0.03
    assert found.accuracy(ids, labels) > 0.5


def test_the_probabilities_of_all_texts_sum_to_one():
    model = drawn()[0]
    every = torch.cartesian_prod(torch.arange(7), torch.arange(7), torch.arange(7))
    assert float(model.log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-12)
