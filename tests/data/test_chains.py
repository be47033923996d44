"""Markov chains: the entropy that is claimed is the one that samples show."""

from __future__ import annotations

import pytest
import torch

from qkv.data.chains import MarkovChain


@pytest.mark.parametrize("order", [0, 1, 2])
def test_samples_have_the_chains_entropy(order):
    chain = MarkovChain.random(4, order, torch.Generator().manual_seed(order))
    ids = chain.sample(200, 200, torch.Generator().manual_seed(9))
    seen = -chain.log_prob(ids)[:, 20:]
    assert float(seen.mean()) == pytest.approx(chain.entropy_rate(), abs=0.02)


def test_a_known_chain():
    chain = MarkovChain(torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64))
    assert chain.stationary().tolist() == pytest.approx([5 / 6, 1 / 6])
    assert chain.log_prob(torch.tensor([[0, 1]])).exp().flatten().tolist() == pytest.approx([0.5, 0.1])
