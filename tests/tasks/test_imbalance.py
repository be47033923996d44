"""Answers to rare labels: weights by effective number in closed form, and drawing by power in the task."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from qkv.data.labelled import Labelled
from qkv.models import Choice, Several
from qkv.models.outputs import effective_weights
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.text import Words

ROWS = [Labelled(f"text {i}", ("rare" if i % 50 == 0 else "often",)) for i in range(200)]


def test_effective_numbers_are_sums_of_a_geometric_series() -> None:
    counts = torch.tensor([1.0, 3.0, 40.0])
    numbers = [sum(0.9**k for k in range(int(n))) for n in counts]  # what is new in the k-th of n texts
    slow = torch.tensor([1 / number for number in numbers])
    slow = slow * counts.sum() / (slow * counts).sum()
    torch.testing.assert_close(effective_weights(counts, 0.9), slow)
    torch.testing.assert_close(effective_weights(counts, 0.0), torch.ones(3))
    torch.testing.assert_close(effective_weights(counts, 1 - 1e-9), counts.sum() / (3 * counts), rtol=1e-4, atol=0)


def test_the_loss_is_weighted_in_training_alone() -> None:
    torch.manual_seed(0)
    output = Choice(effective=0.99, dropout=0.0).build(LABEL, 4, [100, 5])
    scores, right = torch.randn(3, 2, requires_grad=True), torch.tensor([0, 1, 1])
    batch = type("Batch", (), {"extra": {LABEL: right}, "ids": scores})()
    weights = effective_weights(torch.tensor([100.0, 5.0]), 0.99)
    slow = -sum(weights[y] * scores[i].log_softmax(0)[y] for i, y in enumerate(right.tolist()))
    found = output.loss(scores, batch)
    torch.testing.assert_close(found, slow)
    torch.testing.assert_close(*(torch.autograd.grad(loss, scores)[0] for loss in (found, slow)))
    plain = F.cross_entropy(scores, right, reduction="sum")
    torch.testing.assert_close(output.loss(scores, batch, training=False), plain)
    smoothed = Choice(smoothing=0.1, dropout=0.0).build(LABEL, 4, [100, 5]).loss(scores, batch)
    torch.testing.assert_close(smoothed, F.cross_entropy(scores, right, reduction="sum", label_smoothing=0.1))


def test_a_task_draws_rare_labels_more_often_to_train_and_not_to_measure() -> None:
    task = Classify(power=0.0)
    tokenizers = task.learn(ROWS, TokenizersConfig(target=Words()))
    plan = task.batches(ROWS, tokenizers, seed=0).plan(0)
    assert Counter(ROWS[i].labels[0] for batch in plan for i in batch) == {"rare": 100, "often": 100}
    assert sum(map(len, task.batches(ROWS, tokenizers).plan(0))) == len(ROWS)
    assert task.batches(ROWS, tokenizers).shares is None


def test_what_cannot_be() -> None:
    for make in (lambda: Choice(effective=1.0), lambda: Classify(power=2.0), lambda: Classify(Several(), power=0.5)):
        with pytest.raises(ValueError, match=r"give 0|leave it at 1"):
            make()
