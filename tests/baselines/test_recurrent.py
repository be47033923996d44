"""Recurrent networks: causal, and trainable by the loss of Transformers."""

from __future__ import annotations

import pytest
import torch

from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.lab import small
from qkv.lab.kit import Lab


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_future_has_no_influence(cell):
    model = Recurrent(RecurrentConfig(7, 8, 2, cell)).double()
    ids = torch.randint(7, (2, 6))
    other = ids.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 7
    change = (model.logits(ids) - model.logits(other)).abs().amax((0, 2))
    assert change[:4].max() == 0 and change[4:].min() > 0


def test_it_learns_with_the_loss_of_a_transformer():
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(8, 16))

    def counting(generator: torch.Generator):
        return small.following((torch.randint(8, (16, 1), generator=generator) + torch.arange(6)) % 8)

    Lab().train(model, counting, 80, learning_rate=2e-2)
    assert small.accuracy(model, counting(torch.Generator().manual_seed(5))) > 0.9
