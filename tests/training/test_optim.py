from __future__ import annotations

import pytest
import torch
from torch import nn

from qkv.config import parse, plain
from qkv.errors import UserError
from qkv.training.config import TrainingConfig
from qkv.training.muon import orthogonal
from qkv.training.optim import AdamW, Muon, Sgd

from . import kit


def test_adamw_is_the_equation_and_spares_vectors():
    model = nn.Linear(3, 2).double()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = AdamW((0.9, 0.98), 1e-9, weight_decay=0.1).build(model, 0.01)
    means = [(torch.zeros_like(p), torch.zeros_like(p)) for p in before]
    for t in range(1, 4):
        grads = [torch.randn_like(p) for p in before]
        for p, g in zip(model.parameters(), grads, strict=True):
            p.grad = g.clone()
        optimizer.step()
        for p, g, (m, v), decay in zip(before, grads, means, (0.1, 0.0), strict=True):
            m.lerp_(g, 0.1)
            v.mul_(0.98).add_(0.02 * g * g)
            p.sub_(0.01 * decay * p + 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.98**t)).sqrt() + 1e-9))
    for p, expected in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("config", [AdamW(weight_decay=0.1), Sgd(0.9, 0.1)])
def test_every_weight_is_in_one_group_and_fused(config):
    model = kit.model()
    optimizer = config.build(model, 0.1)
    decayed, spared = optimizer.param_groups
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    assert decayed["weight_decay"] == 0.1 and all(p.dim() >= 2 for p in decayed["params"])
    assert spared["weight_decay"] == 0.0 and all(p.dim() == 1 for p in spared["params"])
    assert decayed["fused"]


def test_config_round_trip():
    data = {"max_steps": 10, "optimizer": {"adam_w": {"weight_decay": 0.1}}, "schedule": {"cosine": {"warmup": 5}}}
    config = parse(TrainingConfig, data)
    assert config.optimizer == AdamW(weight_decay=0.1)
    assert parse(TrainingConfig, plain(config)) == config


@pytest.mark.parametrize(
    "data,words",
    [
        ({}, "max_steps or max_minutes"),
        ({"max_steps": 1, "max_minutes": 1.0}, "not both"),
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_steps": 1, "accumulate": -1}, "accumulate is -1"),
        ({"max_steps": 1, "ema_decay": 1.0}, "ema_decay"),
        ({"max_steps": 1, "average_last": 5, "checkpoint_every": None}, "set checkpoint_every"),
        ({"max_steps": 1, "average_last": 1, "ema_decay": 0.9}, "choose one"),
        ({"max_steps": 1, "precision": "fp16"}, "bf16"),
    ],
)
def test_bad_settings_are_one_sentence(data, words):
    with pytest.raises(UserError, match=words):
        parse(TrainingConfig, data)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_orthogonal_updates_keep_directions_and_level_their_sizes(shape):
    """Against the singular value decomposition: U and V stay, S comes out near one."""
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    sizes = u.mT @ orthogonal(matrices) @ v.mT
    diagonal = sizes.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(sizes, torch.diag_embed(diagonal), rtol=0, atol=1e-10)
    assert float(diagonal.min()) > 0.6 and float(diagonal.max()) < 1.3


def test_muon_is_its_equation_matrix_by_matrix():
    """A fused product is turned as the several matrices it holds; what is no hidden matrix moves as Adam moves it."""
    torch.manual_seed(0)
    model = kit.model().double()
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    momentum = {name: torch.zeros_like(p) for name, p in expected.items()}
    several = {"query_key_value": 3, "key_value": 2, "query": 1, "out": 1, "up": 1, "down": 1}
    optimizer = Muon(momentum=0.9, weight_decay=0.1).build(model, 0.01)
    table = torch.randn_like(expected["encoder.embedding.token.weight"])
    turned = 0
    for _ in range(2):
        for name, p in model.named_parameters():
            p.grad = table.clone() if p.shape == table.shape else torch.randn_like(p)
            parts = several.get(name.split(".")[-2], 0) if p.dim() == 2 else 0
            if parts:
                momentum[name] = 0.9 * momentum[name] + p.grad
                ahead = p.grad + 0.9 * momentum[name]
                size = 0.2 * max(len(p) // parts, p.shape[1]) ** 0.5
                step = size * torch.cat([orthogonal(part[None])[0] for part in ahead.chunk(parts)])
                turned += 1
            elif p.dim() == 2:
                step = p.grad.sign()  # Adam's, of a gradient that stays
            else:
                continue
            expected[name] = expected[name] * (1 - 0.001) - 0.01 * step
        optimizer.step()
    assert turned == 2 * 11
    for name, p in model.named_parameters():
        if p.dim() == 2:
            torch.testing.assert_close(p.detach(), expected[name], rtol=1e-6, atol=1e-9)
