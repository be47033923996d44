"""The chain against enumeration, in values and gradients: every labelling scored, with gaps and ragged rows."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from qkv.models.crf import Chain, LinearChain, join, legal, part
from qkv.models.stack import Memory
from qkv.models.tagging import IGNORE, Tagging
from qkv.nn import Tokens

BIO = ["O", "B-x", "I-x", "B-y", "I-y"]
BIOES = ["O", "B-x", "I-x", "E-x", "S-x"]
LENGTHS = [4, 1, 0, 3]


def drawn(n_labels: int, rows: int = 4, units: int = 4) -> tuple[Chain, Tensor, Tensor]:
    """A random chain, emissions and ragged validity; everything wants gradients."""
    generator = torch.Generator().manual_seed(n_labels)
    shapes = ([n_labels], [n_labels, n_labels], [n_labels], [rows, units, n_labels])
    start, transition, end, emissions = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    chain = Chain(*(each.requires_grad_() for each in (start, transition, end)))
    valid = torch.arange(units) < torch.tensor(LENGTHS[:rows]).unsqueeze(1)
    return chain, emissions.requires_grad_(), valid


def slow_score(chain: Chain, emissions: Tensor, labels: tuple[int, ...]) -> Tensor:
    """The definition, for one row of exactly len(labels) units."""
    if not labels:
        return emissions.sum() * 0
    total = chain.start[labels[0]] + chain.end[labels[-1]]
    for t, label in enumerate(labels):
        total = total + emissions[t, label]
    for a, b in itertools.pairwise(labels):
        total = total + chain.transition[a, b]
    return total


def all_scores(chain: Chain, emissions: Tensor, n: int) -> dict[tuple[int, ...], Tensor]:
    """Every labelling of the first n units of a row, with its score."""
    found = itertools.product(range(len(chain.start)), repeat=n)
    return {labels: slow_score(chain, emissions, labels) for labels in found}


def gradients(value: Tensor, chain: Chain, emissions: Tensor) -> list[Tensor]:
    inputs = [chain.start, chain.transition, chain.end, emissions]
    return list(torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("n_labels", [1, 2, 4])
def test_the_partition_and_its_gradient_are_those_of_enumeration(n_labels: int) -> None:
    chain, emissions, valid = drawn(n_labels)
    fast = chain.log_partition(emissions, valid)
    slow = [
        torch.stack(list(all_scores(chain, e, n).values())).logsumexp(0)
        for e, n in zip(emissions, LENGTHS, strict=True)
    ]
    torch.testing.assert_close(fast, torch.stack(slow), rtol=0, atol=1e-10)
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    for a, b in zip(
        gradients((fast * weights).sum(), chain, emissions),
        gradients((torch.stack(slow) * weights).sum(), chain, emissions),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_labelling_is_scored_by_the_definition() -> None:
    chain, emissions, valid = drawn(4)
    labels = torch.randint(4, valid.shape, generator=torch.Generator().manual_seed(0))
    labels = labels.where(valid, IGNORE)
    fast = chain.score(emissions, labels, valid)
    rows = [tuple(row[:n]) for row, n in zip(labels.tolist(), LENGTHS, strict=True)]
    slow = torch.stack([slow_score(chain, e, row) for e, row in zip(emissions, rows, strict=True)])
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-12)
    for a, b in zip(gradients(fast.sum(), chain, emissions), gradients(slow.sum(), chain, emissions), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("names", [["a", "b", "c"], BIO, BIOES], ids=["free", "bio", "bioes"])
def test_viterbi_and_marginals_are_those_of_enumeration(names: list[str]) -> None:
    chain, emissions, valid = drawn(len(names))
    chain = legal(names).forbid(chain)
    path, score = chain.best(emissions, valid)
    p = chain.marginals(emissions, valid)
    for row, n in enumerate(LENGTHS):
        table = {labels: float(s.detach()) for labels, s in all_scores(chain, emissions[row], n).items()}
        best = max(table, key=table.__getitem__)
        assert tuple(path[row, :n].tolist()) == best
        assert float(score[row].detach()) == pytest.approx(table[best], abs=1e-10)
        total = sum(map(math.exp, table.values()))
        for t in range(n):
            for label in range(len(names)):
                share = sum(math.exp(s) for labels, s in table.items() if labels[t] == label) / total
                assert float(p[row, t, label].detach()) == pytest.approx(share, abs=1e-10)
    assert float(p[~valid].detach().abs().sum()) == 0


def test_marginals_are_the_gradient_of_the_partition() -> None:
    chain, emissions, valid = drawn(3)
    [gradient] = torch.autograd.grad(chain.log_partition(emissions, valid).sum(), [emissions])
    torch.testing.assert_close(chain.marginals(emissions, valid), gradient, rtol=0, atol=1e-10)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    """In single precision, emissions of hundreds and transitions 60 apart: the matrix product against logsumexp."""
    generator = torch.Generator().manual_seed(0)
    chain = Chain(
        torch.zeros(3), torch.tensor([[0.0, -60.0, 5.0], [1.0, 0.0, -60.0], [-60.0, 2.0, 0.0]]), torch.zeros(3)
    )
    emissions, valid = 300 * torch.randn(2, 6, 3, generator=generator), torch.ones(2, 6, dtype=torch.bool)
    emissions.requires_grad_()
    alpha = chain.start + emissions[:, 0].double()
    for t in range(1, 6):
        alpha = (alpha.unsqueeze(2) + chain.transition).logsumexp(1) + emissions[:, t]
    fast, slow = chain.log_partition(emissions, valid), alpha.logsumexp(1)
    torch.testing.assert_close(fast.double(), slow, rtol=1e-6, atol=0)
    [gradient] = torch.autograd.grad(fast.sum(), [emissions])
    assert gradient.isfinite().all()


def test_gaps_anywhere_change_nothing() -> None:
    """Loss, labels and probabilities with gaps before, between and after the units are those of the units alone."""
    torch.manual_seed(0)
    output = Tagging(crf=True, dropout=0.0).build("tags", 6, [1] * len(BIO)).constrain(BIO).double()
    torch.nn.init.normal_(output.chain.transition)
    x, labels = torch.randn(2, 7, 6, dtype=torch.float64), torch.tensor([[1, 2, 0], [3, 4, 4]])
    places = torch.tensor([[1, 2, 5], [0, 3, 6]])
    targets = torch.full((2, 7), IGNORE).scatter(1, places, labels)
    apart = memory(x), batch(targets)
    close = memory(x.gather(1, places.unsqueeze(2).expand(-1, -1, 6))), batch(labels)
    losses = [output.loss(output(m), b) for m, b in (apart, close)]
    assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-12)
    one, other = (output.decide(output(m), b) for m, b in (apart, close))
    assert [d.labels for d in one] == [d.labels for d in other]
    assert one[0].probabilities == pytest.approx(other[0].probabilities, abs=1e-12)


def test_a_batch_without_any_unit() -> None:
    for crf in (False, True):
        output = Tagging(crf=crf).build("tags", 4, [1, 1]).constrain(["O", "B-x"]).eval()
        x = torch.randn(2, 3, 4, requires_grad=True)
        nothing = batch(torch.full((2, 3), IGNORE))
        loss = output.loss(output(memory(x)), nothing)
        loss.backward()
        assert float(loss.detach()) == 0 and float(x.grad.abs().sum()) == 0
        assert [d.labels for d in output.decide(output(memory(x)), nothing)] == [[], []]


def test_a_fresh_chain_is_a_softmax() -> None:
    torch.manual_seed(0)
    x, targets = torch.randn(2, 3, 4), batch(torch.tensor([[0, 1, IGNORE], [2, IGNORE, 1]]))
    chain, plain = (Tagging(crf=crf, dropout=0.0).build("tags", 4, [1] * 3) for crf in (True, False))
    plain.load_state_dict(chain.state_dict(), strict=False)
    losses = [float(output.loss(output(memory(x)), targets).detach()) for output in (chain, plain)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_the_loss_learns_what_neighbours_say() -> None:
    """Labels that alternate, emissions that say nothing: only the transitions can know."""
    torch.manual_seed(0)
    chain, valid = LinearChain(2), torch.ones(1, 8, dtype=torch.bool)
    labels, emissions = torch.tensor([[0, 1] * 4]), torch.zeros(1, 8, 2)
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        own = chain.chain()
        (own.log_partition(emissions, valid) - own.score(emissions, labels, valid)).sum().backward()
        optimizer.step()
    assert chain.chain().best(emissions, valid)[0].tolist() == labels.tolist()


@pytest.mark.parametrize("names", [BIO, BIOES, [n.replace("I-", "M-") for n in BIOES]], ids=["bio", "bioes", "bmes"])
def test_what_is_legal_is_what_entities_can_be_read_from(names: list[str]) -> None:
    """A sequence is allowed exactly if it can be written by putting entities side by side."""
    allowed, n = legal(names), 4
    explicit = any(name[0] in "ES" for name in names)
    kinds = {part(name)[1] for name in names} - {""}

    def write(length: int) -> set[tuple[str, ...]]:
        if not length:
            return {()}
        found = {("O", *rest) for rest in write(length - 1)}
        inner = "M" if "M-x" in names else "I"
        for kind, size in itertools.product(kinds, range(1, length + 1)):
            if explicit:
                tags = [f"S-{kind}"] if size == 1 else [f"B-{kind}", *[f"{inner}-{kind}"] * (size - 2), f"E-{kind}"]
            else:
                tags = [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
            found |= {(*tags, *rest) for rest in write(length - size)}
        return found

    def passes(labels: tuple[int, ...]) -> bool:
        inner = all(bool(allowed.follow[a, b]) for a, b in itertools.pairwise(labels))
        return bool(allowed.start[labels[0]]) and inner and bool(allowed.end[labels[-1]])

    found = {labels for labels in itertools.product(range(len(names)), repeat=n) if passes(labels)}
    assert {tuple(names[i] for i in labels) for labels in found} == write(n)


def test_what_no_sequence_allows_is_decided_freely() -> None:
    """No label may begin a sequence of more than none: each row gets what it would get without constraint."""
    torch.manual_seed(0)
    names, x, targets = ["I-x", "I-y"], torch.randn(2, 3, 4), torch.tensor([[0, 0, 0], [0, IGNORE, IGNORE]])
    bound, free = (
        Tagging(crf=True, constrained=c).build("tags", 4, [1, 1]).constrain(names).eval() for c in (True, False)
    )
    free.load_state_dict(bound.state_dict())
    one, other = (output.decide(output(memory(x)), batch(targets)) for output in (bound, free))
    assert one == other and [len(d.labels) for d in one] == [3, 1]


def test_a_row_that_is_stuck_frees_no_other() -> None:
    """With E but without S a single word has no legal tags but O; here not even that: only the longer row is bound."""
    output = Tagging(dropout=0.0).build("tags", 3, [1] * 3).constrain(["B-x", "E-x", "I-x"]).eval()
    torch.nn.init.eye_(output.linear.weight)
    x = torch.tensor([[[0.0, 1, 5], [0, 0, 9], [2, 0, 9]], [[0, 0, 9], [0, 0, 0], [0, 0, 0]]])
    targets = torch.tensor([[0, 0, 0], [0, IGNORE, IGNORE]])
    first, second = output.decide(output(memory(x)), batch(targets))
    assert first.labels == [0, 2, 1] and second.labels == [2]
    assert first.probabilities == pytest.approx([1.0, 1.0, 1.0])
    assert second.probabilities[0] == pytest.approx(math.exp(9) / (math.exp(9) + 2))


def test_join_keeps_the_order() -> None:
    scores, units = (
        torch.arange(8.0).reshape(2, 4),
        torch.tensor([[False, True, False, True], [True, False, False, False]]),
    )
    joined, valid = join(scores, units)
    assert joined[valid].tolist() == [1, 3, 4] and valid.tolist() == [[True, True], [True, False]]


def memory(x: Tensor) -> Memory:
    return Memory(x, Tokens.arange(*x.shape[:2]))


def batch(targets: Tensor):
    return type("Batch", (), {"targets": targets})()
