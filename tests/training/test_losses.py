from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from qkv.data.batch import Batch
from qkv.models.presets import gpt2
from qkv.models.transformer import build
from qkv.nn.tokens import Tokens
from qkv.training.losses import TokenCrossEntropy, run, smoothed_cross_entropy

from . import kit


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_smoothed_cross_entropy_is_the_sum_over_valid_targets(smoothing):
    logits, targets = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    targets[0, 2:] = -100
    total, count = smoothed_cross_entropy(logits, targets, smoothing)
    mean = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), label_smoothing=smoothing)
    assert count == 7
    torch.testing.assert_close(total / count, mean)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_token_cross_entropy_is_its_slow_twin(smoothing):
    model, batch = kit.model(dtype=torch.float64), kit.Ragged().load([0, 1, 2, 3])
    loss = TokenCrossEntropy(smoothing)
    [(total, count, weight)] = loss(model, batch).values()
    slow, slow_count = smoothed_cross_entropy(model.head(run(model, batch)), batch.targets, smoothing)
    assert (count, weight) == (slow_count, 1.0)
    assert loss.counts(batch) == {"cross_entropy": count}
    torch.testing.assert_close(total, slow, rtol=1e-12, atol=0)
    parameters = list(model.parameters())
    for mine, other in zip(torch.autograd.grad(total, parameters), torch.autograd.grad(slow, parameters), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-11)


def test_decoder_only_models_get_their_two_arguments():
    model = build(gpt2(kit.VOCAB, 16, 1, 2, max_length=8)).eval()
    ids = torch.randint(4, kit.VOCAB, (2, 6))
    batch = Batch(ids, Tokens.arange(2, 6), ids)
    [(total, count, _)] = TokenCrossEntropy()(model, batch).values()
    expected = F.cross_entropy(model.head(model(ids, batch.tokens)).flatten(0, 1), ids.flatten(), reduction="sum")
    assert count == 12
    torch.testing.assert_close(total, expected)
