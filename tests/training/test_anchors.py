"""Held weights: the penalty's gradient, accumulation, the Fisher diagonal of a logistic regression."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qkv.data.batch import Batch
from qkv.nn import Tokens
from qkv.training.anchors import ANCHOR, Anchored, fisher_diagonal


class Logistic(nn.Module):
    """Features [B,3] -> logits of two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2, bias=False).double()


class CrossEntropy:
    additive = True

    def __call__(self, model, batch):
        logits = model.linear(batch.extra["x"])
        return {"loss": (F.cross_entropy(logits, batch.extra["y"], reduction="sum"), len(batch.ids), 1.0)}

    def counts(self, batch):
        return {"loss": len(batch.ids)}


def batch(x, y) -> Batch:
    ids = torch.zeros(len(x), 1, dtype=torch.long)
    return Batch(ids, Tokens.arange(len(x), 1), ids, extra={"x": x, "y": y})


def drawn(rows: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (rows,), generator=generator)


def test_the_penalty_and_its_gradient() -> None:
    torch.manual_seed(0)
    model, at = Logistic(), {"linear.weight": torch.randn(2, 3, dtype=torch.float64)}
    weights = {"linear.weight": torch.rand(2, 3, dtype=torch.float64)}
    for importance, f in ((None, torch.ones(2, 3).double()), (weights, weights["linear.weight"])):
        model.zero_grad()
        terms = Anchored(CrossEntropy(), at, 0.7, importance)(model, batch(*drawn(4)))
        total, count, strength = terms[ANCHOR]
        gap = model.linear.weight.detach() - at["linear.weight"]
        assert float(total.detach()) == pytest.approx(float((f * gap**2).sum() / 2), rel=1e-12)
        (strength * total / count).backward()
        torch.testing.assert_close(model.linear.weight.grad, 0.7 * f * gap, rtol=1e-12, atol=0)


def test_micro_batches_are_one_batch() -> None:
    torch.manual_seed(0)
    model, (x, y) = Logistic(), drawn(6)
    loss = Anchored(CrossEntropy(), {"linear.weight": torch.zeros(2, 3)}, 0.3)
    grads = []
    for cuts in ([(0, 6)], [(0, 2), (2, 6)]):
        parts = [batch(x[a:b], y[a:b]) for a, b in cuts]
        counts = {name: sum(loss.counts(part)[name] for part in parts) for name in ("loss", ANCHOR)}
        model.zero_grad()
        for part in parts:
            for name, (total, _, weight) in loss(model, part).items():
                (weight * total / counts[name]).backward()
        grads.append(model.linear.weight.grad.clone())
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)
    assert loss.additive


def test_the_fisher_diagonal_is_p_times_one_minus_p_times_x_squared() -> None:
    """Two classes: the gradient of log p(y) by a weight of row c is (1[y=c] − p_c)·x; its mean square under the model's
    own answers is p₀p₁x²."""
    torch.manual_seed(0)
    model, (x, _) = Logistic(), drawn(300, 1)
    p = model.linear(x).detach().softmax(-1)
    exact = (p.prod(1, keepdim=True) * x**2).mean(0)
    weighted = torch.zeros(3, dtype=torch.float64)
    for label in (0, 1):  # the mean over the model's answers, in full instead of drawn
        for row in range(300):
            one = batch(x[row : row + 1], torch.tensor([label]))
            found = fisher_diagonal(model, CrossEntropy(), [one])["linear.weight"]
            weighted += p[row, label] * found[0] / 300
    torch.testing.assert_close(weighted, exact, rtol=1e-9, atol=1e-12)


def test_it_is_a_mean_and_leaves_the_model_as_it_was() -> None:
    model, (x, y) = Logistic(), drawn(5)
    model.train()
    single = [fisher_diagonal(model, CrossEntropy(), [batch(x[i : i + 1], y[i : i + 1])]) for i in range(5)]
    every = fisher_diagonal(model, CrossEntropy(), [batch(x[i : i + 1], y[i : i + 1]) for i in range(5)])
    mean = torch.stack([found["linear.weight"] for found in single]).mean(0)
    torch.testing.assert_close(every["linear.weight"], mean)
    assert model.training and model.linear.weight.grad is None
    with pytest.raises(ValueError, match="there are none"):
        fisher_diagonal(model, CrossEntropy(), [])
    with pytest.raises(ValueError, match="no parameter"):
        Anchored(CrossEntropy(), {"other": torch.zeros(1)}, 1.0)(model, batch(x, y))


def test_the_fisher_is_measured_without_dropout() -> None:
    torch.manual_seed(0)
    model, (x, y) = Logistic(), drawn(1)
    plain = fisher_diagonal(model, CrossEntropy(), [batch(x, y)])["linear.weight"]
    model.linear = nn.Sequential(nn.Dropout(0.9), model.linear)
    for _ in range(3):
        found = fisher_diagonal(model.train(), CrossEntropy(), [batch(x, y)])["linear.1.weight"]
        torch.testing.assert_close(found, plain)
