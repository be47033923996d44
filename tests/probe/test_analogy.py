"""Analogies: both scorings against loops, and the source on which they are exact."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from qkv.baselines.cooccurrence import cooccurrences, factorised, pmi
from qkv.data.factors import FactoredWords
from qkv.probe import analogy


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", ["add", "mul"])
@pytest.mark.parametrize("exclude", [True, False])
def test_answers_are_those_of_a_loop(method, exclude):
    vectors = torch.randn(12, 4, generator=generator(), dtype=torch.float64)
    questions = torch.tensor(list(itertools.permutations(range(5), 3)))
    found = analogy.answers(vectors, questions, method, exclude)
    for question, answer in zip(questions.tolist(), found.tolist(), strict=True):
        scores = {}
        for d in range(12):
            if exclude and d in question:
                continue
            a, b, c = (float(F.cosine_similarity(vectors[w], vectors[d], dim=0)) for w in question)
            shifted = (b + 1) / 2 * (c + 1) / 2 / ((a + 1) / 2 + analogy.EPSILON)
            scores[d] = b - a + c if method == "add" else shifted
        assert answer == max(scores, key=scores.__getitem__)


def test_epsilon_keeps_a_word_opposite_to_the_first_from_winning_by_that_alone():
    """In the plane, with b = c: of two words opposite to a, one exactly, the other is nearer to b by more than half."""
    angles = torch.tensor([0.0, 0.261, torch.pi, torch.pi - 0.06326], dtype=torch.float64)
    vectors = torch.stack([angles.cos(), angles.sin()], dim=-1)
    assert analogy.answers(vectors, torch.tensor([[0, 1, 1]]), "mul").tolist() == [3]
    opposite, other = ((vectors[1] @ vectors[d] + 1) ** 2 / (vectors[0] @ vectors[d] + 1 + 1e-3) for d in (2, 3))
    assert opposite > other  # with half of ε


def test_the_plain_question_often_returns_what_was_put_in():
    """Offsets that are short beside the words: excluding the inputs hides that the answer is c."""
    base = 10 * F.normalize(torch.randn(20, 8, generator=generator()), dim=-1)
    offset = torch.randn(8, generator=generator(1))
    vectors = torch.cat([base, base + offset / 2 + torch.randn(20, 8, generator=generator(2)) / 2])
    questions = torch.tensor([[i, 20 + i, j, 20 + j] for i in range(20) for j in range(20) if i != j])
    assert analogy.accuracy(vectors, questions) > 0.9
    plain = analogy.accuracy(vectors, questions, exclude=False)
    assert plain < 0.5
    assert analogy.returned(vectors, questions) == pytest.approx(1 - plain, abs=0.1)


def test_factored_words_have_exact_offsets_and_interactions_break_them():
    for interaction in (False, True):
        source = FactoredWords.draw((2, 5, 3), 12, generator(), interaction=interaction)
        torch.testing.assert_close(source.table.sum(1), torch.ones(30, dtype=torch.float64))
        table = pmi(source.joint())
        a, b, c, d = (table[column] for column in source.analogies(0).T)
        gap = float((b - a + c - d).abs().max())
        assert gap > 0.5 if interaction else gap < 1e-10
        exact = analogy.parallelism(factorised(table, 12, power=1.0), source.analogies(0))
        assert exact < 0.9 if interaction else exact == pytest.approx(1.0, abs=1e-9)


def test_the_analogies_of_a_feature_change_it_and_nothing_else():
    source = FactoredWords.draw((2, 3), 4, generator())
    questions = source.analogies(0)
    assert len(questions) == 2 * 3 * 2
    a, b, c, d = (source.values[column] for column in questions.T)
    assert (a[:, 0] == c[:, 0]).all() and (b[:, 0] == d[:, 0]).all() and (a[:, 0] != b[:, 0]).all()
    assert (a[:, 1] == b[:, 1]).all() and (c[:, 1] == d[:, 1]).all() and (a[:, 1] != c[:, 1]).all()


def test_samples_follow_the_table():
    source = FactoredWords.draw((2, 2), 3, generator())
    words, contexts = source.sample(40_000, generator(1))
    counts = torch.zeros(4, 6).index_put_((words, contexts[:, 0]), torch.ones(40_000), accumulate=True)
    torch.testing.assert_close((counts / counts.sum(1, keepdim=True)).double(), source.table, rtol=0, atol=0.02)


def test_pmi_is_its_definition():
    counts = torch.randint(0, 5, (6, 4), generator=generator()).double()
    table, p = pmi(counts, shift=0.3), counts / counts.sum()
    for w in range(6):
        for c in range(4):
            ratio = p[w, c] / (p[w].sum() * p[:, c].sum())
            assert float(table[w, c]) == pytest.approx(float(ratio.log()) - 0.3 if counts[w, c] else 0.0, abs=1e-12)
    assert float(pmi(counts, positive=True).min()) == 0


def test_counting_is_symmetric_and_knows_its_window():
    texts = [[0, 1, 2, 1], [3], [2, 0]]
    slow = torch.zeros(4, 4, dtype=torch.float64)
    for text in texts:
        for i, j in itertools.permutations(range(len(text)), 2):
            if abs(i - j) <= 2:
                slow[text[i], text[j]] += 1
    torch.testing.assert_close(cooccurrences(texts, 4, window=2), slow)


def test_full_rank_factors_keep_all_angles():
    table = torch.randn(7, 9, generator=generator(), dtype=torch.float64)
    vectors = factorised(table, 7, power=1.0)
    torch.testing.assert_close(vectors @ vectors.T, table @ table.T, rtol=0, atol=1e-10)


def test_questions_are_read_by_section():
    text = ": capitals\nParis France Rome Italy\nOslo Norway Rome Italy\n: family\nboy girl king queen\n"
    found = analogy.read(text, ["paris", "france", "rome", "italy", "boy", "girl", "king", "queen"])
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "capitals": [[0, 1, 2, 3]],
        "family": [[4, 5, 6, 7]],
    }
