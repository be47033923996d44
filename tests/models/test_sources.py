"""Token vectors from several sources: the identity of joining and adding, gates, padding."""

import pytest
import torch

from qkv.lab import small
from qkv.models.sources import Sources, add_sources
from qkv.models.stack import Stack
from qkv.nn import Tokens


def tables():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(11, width, generator=generator) for width in (5, 3)]


def test_joining_and_projecting_is_projecting_and_adding():
    joined, added = Sources("concat").build(tables(), 8).double(), Sources("sum").build(tables(), 8).double()
    with torch.no_grad():
        for project, part in zip(added.project, joined.project[0].weight.split([5, 3], dim=1), strict=True):
            project.weight.copy_(part)
    ids = torch.arange(11).view(1, 11)
    torch.testing.assert_close(joined(ids), added(ids), rtol=0, atol=1e-12)
    (joined(ids) ** 3).sum().backward()
    (added(ids) ** 3).sum().backward()
    grads = torch.cat([project.weight.grad for project in added.project], 1)
    torch.testing.assert_close(joined.project[0].weight.grad, grads, rtol=0, atol=1e-9)


def test_a_gate_weighs_the_sources_of_each_token():
    mixer = Sources("gate").build(tables(), 4).double()
    with torch.no_grad():
        mixer.gate.weight.zero_()
        mixer.gate.bias.copy_(torch.tensor([1.0, -1.0]))
    ids = torch.tensor([[3, 7]])
    shares = torch.tensor([1.0, -1.0], dtype=torch.float64).softmax(0)
    parts = [project(table(ids)) for project, table in zip(mixer.project, mixer.tables, strict=True)]
    torch.testing.assert_close(mixer(ids), shares[0] * parts[0] + shares[1] * parts[1], rtol=0, atol=1e-12)


def test_a_stack_with_sources_keeps_padding_at_zero_and_its_tables_frozen():
    stack = add_sources(Stack(small.stack(11, d_model=8, n_layers=1)), Sources("gate"), tables())
    ids = torch.randint(11, (2, 4), generator=torch.Generator().manual_seed(1))
    tokens = Tokens.from_lengths([4, 2])
    x = stack.embedding(ids, tokens)
    assert float(x[1, 2:].detach().abs().max()) == 0
    stack(ids, tokens).sum().backward()
    mixer = stack.embedding.mixer
    assert all(table.weight.grad is None for table in mixer.tables)
    assert all(float(project.weight.grad.abs().sum()) > 0 for project in mixer.project)
    torch.testing.assert_close(stack(ids, tokens)[1, :2], stack(ids[1:, :2], Tokens.arange(1, 2))[0])


def test_what_cannot_be_fed_in():
    with pytest.raises(ValueError, match=r"sources have \[10, 11\] tokens"):
        Sources().build([torch.zeros(10, 2), torch.zeros(11, 2)], 4)
    stack = Stack(small.stack(12, d_model=8, n_layers=1))
    with pytest.raises(ValueError, match="the stack has 12 tokens"):
        add_sources(stack, Sources(), tables())
    good = Stack(small.stack(11, d_model=8, n_layers=1))
    with pytest.raises(ValueError, match="already"):
        add_sources(add_sources(good, Sources(), tables()), Sources(), tables())
