"""Low-rank adaptation: the old function at the start, gradients of the product, exact merging."""

from __future__ import annotations

import pytest
import torch

from qkv.compress.lora import LowRank, add_lora, merge_lora, trainable
from qkv.lab import small
from qkv.nn import Tokens


def model():
    torch.manual_seed(0)
    return small.encoder(11, d_model=8, n_layers=2).double().eval()


IDS = torch.randint(11, (3, 5), generator=torch.Generator().manual_seed(1))
TOKENS = Tokens.arange(3, 5)


def test_it_starts_from_the_old_function_and_only_the_correction_learns() -> None:
    before, after = model(), model()
    paths = add_lora(after, rank=2, names=("query_key_value", "out", "up", "down"), free=())
    assert len(paths) == 8
    torch.testing.assert_close(after(IDS, TOKENS), before(IDS, TOKENS), rtol=0, atol=1e-12)
    after(IDS, TOKENS).sum().backward()
    learns = {name for name, p in after.named_parameters() if p.requires_grad}
    assert all(name.endswith(("down", "up")) and "linear" not in name for name in learns)
    assert all(p.grad is None for p in after.parameters() if not p.requires_grad)
    sizes = [(p.shape[0], p.shape[1]) for n, p in before.named_parameters() if n.removesuffix(".weight") in paths]
    assert trainable(after) == sum(2 * (rows + columns) for rows, columns in sizes)


def test_the_gradient_is_that_of_the_product() -> None:
    torch.manual_seed(0)
    layer = LowRank(torch.nn.Linear(4, 3).double(), rank=2, alpha=6.0)
    torch.nn.init.normal_(layer.up)
    x = torch.randn(5, 4, dtype=torch.float64)
    (layer(x) ** 2).sum().backward()
    fast = layer.down.grad.clone(), layer.up.grad.clone()
    layer.zero_grad()
    slow = x @ (layer.linear.weight + 3.0 * layer.up @ layer.down).T + layer.linear.bias
    torch.testing.assert_close(layer(x), slow, rtol=0, atol=1e-12)
    (slow**2).sum().backward()
    torch.testing.assert_close((layer.down.grad, layer.up.grad), fast, rtol=1e-9, atol=1e-12)
    assert layer.linear.weight.grad is None


def test_a_merged_model_is_the_same_function_with_the_old_names() -> None:
    changed, names = model(), list(model().state_dict())
    add_lora(changed, rank=3, free=())
    for part in changed.modules():
        if isinstance(part, LowRank):
            torch.nn.init.normal_(part.up)
    expected = changed(IDS, TOKENS).detach()
    merged = merge_lora(changed)
    assert list(merged.state_dict()) == names
    torch.testing.assert_close(merged(IDS, TOKENS), expected, rtol=0, atol=1e-10)
    assert all(p.requires_grad for p in merged.parameters())
    assert float((merged(IDS, TOKENS) - model()(IDS, TOKENS)).detach().abs().max()) > 1e-3


def test_a_correction_has_the_rank_it_is_given() -> None:
    layer = LowRank(torch.nn.Linear(6, 5), rank=2, alpha=2.0)
    torch.nn.init.normal_(layer.up)
    assert int(torch.linalg.matrix_rank(layer.correction())) == 2
    with pytest.raises(ValueError, match="takes 1 to 5"):
        LowRank(torch.nn.Linear(6, 5), rank=6, alpha=1.0)
    with pytest.raises(ValueError, match="no linear layer called nothing"):
        add_lora(model(), names=("nothing",))
