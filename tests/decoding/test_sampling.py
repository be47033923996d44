"""Sampling: the right distribution, the right truncation, and draws that depend on (seed, row, sample, step) alone."""

from __future__ import annotations

import pytest
import torch

from qkv.decoding import Sample, generate
from qkv.decoding.choosers import uniform
from qkv.decoding.state import State
from qkv.nn import Tokens

from .helpers import begin, sources, translator, writer


def test_uniform_numbers_are_uniform_and_independent() -> None:
    draws = torch.tensor([[uniform(3, row, 0, step) for step in range(60)] for row in range(200)])
    assert abs(draws.mean().item() - 0.5) < 0.01
    assert abs(draws.var().item() - 1 / 12) < 0.003
    pairs = torch.corrcoef(torch.stack((draws[:, :-1].flatten(), draws[:, 1:].flatten())))
    assert abs(pairs[0, 1].item()) < 0.03
    assert draws.min() >= 0 and draws.max() < 1
    assert uniform(3, 1, 0, 0) != uniform(4, 1, 0, 0) != uniform(4, 0, 1, 0)


def frequencies(chooser: Sample, logits: torch.Tensor, rows: int = 20000) -> torch.Tensor:
    state = State.start(list(range(rows)), torch.full((rows,), 5), 1, 1, 2)
    scores = logits.log_softmax(-1).expand(rows, 1, -1)
    tokens, parents, logp = chooser(scores, state)
    assert parents is None
    assert torch.allclose(logp, scores.gather(2, tokens.unsqueeze(2)).squeeze(2))
    return torch.bincount(tokens.flatten(), minlength=len(logits)) / rows


def test_samples_follow_the_distribution() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    for temperature in (0.5, 1.0, 2.0):
        expected = (logits / temperature).softmax(-1)
        assert (frequencies(Sample(temperature=temperature), logits) - expected).abs().max() < 0.012


@pytest.mark.parametrize(
    ("chooser", "kept"),
    [
        (Sample(top_k=2), {1, 2}),
        (Sample(top_p=0.55), {2}),
        (Sample(top_p=0.6), {1, 2}),
        (Sample(min_p=0.3), {1, 2}),
        (Sample(temperature=0.01), {2}),
        (Sample(top_k=3, top_p=0.99, min_p=0.2), {1, 2, 4}),
    ],
)
def test_truncation_keeps_the_likelier_part(chooser: Sample, kept: set[int]) -> None:
    logits = torch.tensor([0.08, 0.22, 0.57, 0.01, 0.12]).log()
    shares = frequencies(chooser, logits)
    assert set(shares.nonzero().flatten().tolist()) == kept
    expected = torch.zeros(5)
    expected[list(kept)] = (logits / chooser.temperature).softmax(-1)[list(kept)]
    assert (shares - expected / expected.sum()).abs().max() < 0.012


def test_a_sample_depends_on_its_row_number_and_not_on_its_batch() -> None:
    model = translator(seed=5)
    source, tokens, lengths = sources(5, seed=6)
    memory = model.encode(source, tokens)
    chooser = Sample(n=3, temperature=1.5, seed=11)
    together = generate(model, *begin(5), memory=memory, chooser=chooser, max_new=8)
    assert len({tuple(h.ids) for row in together for h in row}) > 8
    for row, length in enumerate(lengths):
        alone = model.encode(source[row : row + 1, :length], tokens[row : row + 1, :length])
        again = generate(model, *begin(1), memory=alone, chooser=chooser, max_new=8, rows=[row])[0]
        assert [h.ids for h in again] == [h.ids for h in together[row]]
    other = generate(model, *begin(5), memory=memory, chooser=Sample(n=3, temperature=1.5, seed=12), max_new=8)
    assert [h.ids for h in other[0]] != [h.ids for h in together[0]]


def test_samples_of_one_prompt_are_those_of_separate_rows() -> None:
    """W hypotheses side by side in one row's cache see their own past only."""
    model = writer()
    ids, tokens = torch.tensor([[4, 5, 6]]), Tokens.arange(1, 3)
    found = generate(model, ids, tokens, chooser=Sample(n=4, temperature=2.0), max_new=6)[0]
    for hypothesis in found:
        whole = torch.tensor([[4, 5, 6, *hypothesis.ids]])
        with torch.no_grad():
            table = model.head(model(whole, Tokens.arange(1, whole.shape[1]))).log_softmax(-1)[0]
        end = [2] if hypothesis.finished else []
        total = sum(float(table[2 + t, w]) for t, w in enumerate([*hypothesis.ids, *end]))
        assert hypothesis.logp == pytest.approx(total, abs=1e-3)


def test_each_step_draws_anew() -> None:
    scores, found = torch.zeros(1, 1, 1000).log_softmax(-1), set()
    for step in range(20):
        state = State.start([3], torch.tensor([99]), 1, 1, 2)
        state.ids = torch.zeros(1, 1, step, dtype=torch.long)
        found.add(int(Sample()(scores, state)[0]))
    assert len(found) > 15


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"min_p": -0.1}, {"n": 0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        Sample(**wrong)
