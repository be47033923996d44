"""What experiments share: a kernel by itself, counted operations, losses without data, evidence over seeds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qkv.lab import small
from qkv.lab.kit import Lab
from qkv.lab.measures import attend, counted, exponent, slope, weights
from qkv.models.config import HeadConfig
from qkv.nn import Causal, Chunked, Einsum, Full, Linear
from qkv.training.optim import Sgd


def heads(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(1, 2, n, 4, generator=generator, dtype=torch.float64) for n in lengths]


@pytest.mark.parametrize("kernel", [Einsum(), Chunked(3)])
@pytest.mark.parametrize(("queries", "mask"), [(7, Causal()), (2, Causal()), (7, Full()), (9, Full())])
def test_attention_by_itself_is_torchs(kernel, queries, mask):
    """The last query is the last key: of two queries over seven keys the first sees six."""
    q, k, v = heads(queries, 7, 7)
    seen = torch.ones(queries, 7, dtype=torch.bool)
    seen = seen.tril(7 - queries) if isinstance(mask, Causal) else seen
    expected = nn.functional.scaled_dot_product_attention(q, k, v, seen)
    torch.testing.assert_close(attend(q, k, v, mask, kernel)[0], expected)


def test_a_bias_and_a_scale_enter_the_scores():
    q, k, v = heads(3, 5, 5)
    bias = torch.randn(1, 1, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out, told = attend(q, k, v, bias=bias, scale=2.0, need_weights=True)
    table = (2.0 * q @ k.mT + bias).softmax(-1)
    torch.testing.assert_close((out, told), (table @ v, table))
    torch.testing.assert_close(weights(q, k), (q @ k.mT / 2).softmax(-1))


def test_a_causal_pass_of_all_queries_is_known_to_be_one():
    """Linear attention refuses a view of which it does not know that queries and keys are the same tokens."""
    q, k, v = heads(6, 6, 6)
    table = ((nn.functional.elu(q / 2) + 1) @ (nn.functional.elu(k) + 1).mT).tril()
    expected = table / table.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(attend(q, k, v, Causal(), Linear(2))[0], expected)


def test_operations_of_a_product_are_counted():
    assert counted(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5


def test_powers_and_lines():
    assert exponent([1, 10, 100], [7, 0.07, 0.0007]) == pytest.approx(-2)
    assert slope([0, 1, 2, 3], [1, 1, 3, 3]) == pytest.approx(0.8)


def test_a_loss_of_the_model_alone_is_minimised():
    """The mean over `count` units: (3w − 6)² / 3 has slope 12 at 0, so that one step of 0.1 goes to 1.2."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    loss = small.Objective(lambda m: (3 * m.weight - 6).square().sum(), count=3)
    Lab().train(model, small.nothing, 1, learning_rate=0.1, loss=loss, optimizer=Sgd(momentum=0.0), clip_norm=None)
    assert model.weight.item() == pytest.approx(1.2)


def test_a_question_stands_behind_or_before_what_it_is_about():
    behind = small.asking(torch.tensor([[5, 6]]), 9, torch.tensor([2]))
    assert behind.ids.tolist() == [[5, 6, 9]] and behind.targets.tolist() == [[-100, -100, 2]]
    before = small.asked_first([[5, 6], [7]], [9, 8], [2, 3])
    assert before.ids[:, 0].tolist() == [9, 8] and before.tokens.pos.tolist() == [[0, 1, 2], [0, 1, -1]]
    assert before.targets.tolist() == [[2, -100, -100], [3, -100, -100]]


def test_a_spread_is_a_mean_and_its_ends():
    lab = Lab(seed=4)
    assert lab.seeds() == (4, 5, 6) and lab.spread("x", [1.0, 2.0, 6.0], "nat") == 3.0
    assert {name: number.value for name, number in lab.numbers.items()} == {"x": 3.0, "x_least": 1.0, "x_most": 6.0}


def test_batches_ask_what_they_say():
    ids = torch.tensor([[5, 6, 7]])
    after = small.following(ids, begin=9)
    assert after.ids.tolist() == [[9, 5, 6]] and after.targets.tolist() == [[5, 6, 7]]
    pair = small.paired(torch.tensor([[1, 2]]), ids, begin=9)
    assert (
        pair.ids.tolist() == [[9, 5, 6]]
        and pair.targets.tolist() == [[5, 6, 7]]
        and pair.source_ids.tolist() == [[1, 2]]
    )


def test_only_asked_places_count():
    """A model that always says 2: right at one of two asked places, whatever stands at the third."""
    model = small.decoder(4, HeadConfig(tied=False, bias=True), d_model=8, n_layers=1)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([0.0, 0.0, 5.0, 0.0]))
    batch = small.labelled(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[2, 1, -100]]))
    assert small.accuracy(model, batch) == 0.5
    right = -torch.tensor([0.0, 0.0, 5.0, 0.0]).log_softmax(0)
    assert small.log_loss(model, batch) == pytest.approx(float(right[2] + right[1]) / 2)
