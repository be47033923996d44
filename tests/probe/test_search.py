"""A recorded search chooses as it would unrecorded, and what is written down adds up."""

from __future__ import annotations

import pytest
import torch

from qkv.decoding import Beam, Chooser, Greedy, Sample, generate
from qkv.nn import Tokens
from qkv.probe.search import Recorded, path
from tests.decoding.helpers import EOS, begin, log_probability, translator

CHOOSERS: list[Chooser] = [Greedy(), Beam(1), Beam(4), Beam(4, length_penalty=0.0, n_best=3), Sample(n=2, seed=3)]

SOURCES = [[5, 6, 7, 2], [4, 5, 2]]
"""Of the second, some hypotheses end while others go on."""


@pytest.mark.parametrize("chooser", CHOOSERS, ids=str)
@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_the_search_is_the_same_and_every_node_is_the_child_of_its_parent(chooser: Chooser, source: list[int]) -> None:
    model = translator()
    memory = model.encode(torch.tensor([source]), Tokens.arange(1, len(source)))
    plain = generate(model, *begin(1), memory=memory, chooser=chooser, max_new=8)
    search = Recorded(chooser)
    assert generate(model, *begin(1), memory=memory, chooser=search, max_new=8) == plain  # type: ignore[arg-type]

    written: list[list[list[int]]] = []
    for number, step in enumerate(search.steps):
        row = []
        for node in step.nodes:
            assert (node.parent == -1) == (number == 0)
            history = [] if number == 0 else written[number - 1][node.parent]
            total = 0.0 if number == 0 else search.steps[number - 1].nodes[node.parent].logp
            score = float(log_probability(model, memory, history)[-1][node.token])
            assert node.logp == pytest.approx(total + score, abs=1e-4)
            assert node.ended == (node.token == EOS)
            row.append([*history, node.token])
        written.append(row)
        for parent, candidates in step.candidates.items():
            history = [] if number == 0 else written[number - 1][parent]
            best = log_probability(model, memory, history)[-1].topk(6)
            assert [score for _, score in candidates] == pytest.approx(best.values.tolist(), abs=1e-4)
    for hypothesis in plain[0]:
        places = path(search.steps, hypothesis.ids, hypothesis.finished, EOS)
        last = search.steps[len(places) - 1].nodes[places[-1]]
        assert last.logp == pytest.approx(hypothesis.logp, abs=1e-5)


def test_what_was_not_written_has_no_path() -> None:
    model = translator()
    memory = model.encode(torch.tensor([[5, 2]]), Tokens.arange(1, 2))
    search = Recorded(Greedy())
    [[best]] = generate(model, *begin(1), memory=memory, chooser=search, max_new=4)  # type: ignore[arg-type]
    assert path(search.steps, best.ids, best.finished, EOS)
    assert path(search.steps, [9, 9, 9], True, EOS) == []
    assert path(search.steps, [3] * 20, False, EOS) == []
    assert path([], [3], False, EOS) == []
