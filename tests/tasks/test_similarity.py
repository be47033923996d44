"""Similarity: objectives against loops, a run that learns, vectors that do not depend on their batch."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from qkv.config import plain
from qkv.data import sources
from qkv.data.couples import SIMILARITY, Couple, Couples
from qkv.data.labelled import Labelled
from qkv.data.stsb import Stsb
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models.likeness import InBatch, Regression, TwoDropouts, contrast, cosines
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.model import fresh, resolve
from qkv.tasks.similarity import Similarity, embed
from qkv.tasks.similarity_metrics import pearson, spearman
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}
ROWS = [
    Labelled("a man eats", ("5",), "a man is eating"),
    Labelled("a cat runs", ("1",), "two boys play the guitar"),
    Labelled("a dog runs", ("4.2",), "the dog is running"),
]


def system(task: Similarity, rows: list[Labelled] = ROWS) -> System:
    torch.manual_seed(0)
    tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


def draw(rows: int, width: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_contrast_is_the_mean_log_loss_of_finding_the_partner_both_ways() -> None:
    fast = draw(10, 4).requires_grad_()
    slow = draw(10, 4).requires_grad_()
    first, second = list(slow[:5]), list(slow[5:])
    total = torch.zeros((), dtype=torch.float64)
    for i in range(5):
        for one, others in ((first[i], second), (second[i], first)):
            scores = [one @ other / (one.norm() * other.norm()) / 0.1 for other in others]
            total = total - (scores[i] - torch.stack(scores).logsumexp(0)) / 2
    loss = contrast(fast, 0.1)
    loss.backward()
    total.backward()
    torch.testing.assert_close(loss, total, rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-9, atol=1e-12)


def test_regression_fits_the_cosine_and_is_a_sum() -> None:
    vectors, right = draw(8, 3), torch.tensor([0.0, 0.5, 1.0, 0.2], dtype=torch.float64)
    slow = sum(float((F.cosine_similarity(vectors[i], vectors[4 + i], dim=0) - right[i]) ** 2) for i in range(4))
    assert float(Regression().objective(vectors, right)) == pytest.approx(slow, rel=1e-12)
    halves = [torch.cat([vectors[a : a + 2], vectors[4 + a : 6 + a]]) for a in (0, 2)]
    parts = sum(float(Regression().objective(half, right[i * 2 : i * 2 + 2])) for i, half in enumerate(halves))
    assert parts == pytest.approx(slow, rel=1e-12)


def test_only_the_regression_can_be_accumulated() -> None:
    assert Similarity(Regression()).loss(True).additive
    assert not Similarity(InBatch()).loss(True).additive
    assert not Similarity(TwoDropouts()).loss(True).additive


def test_a_batch_holds_all_first_texts_and_then_all_second_ones() -> None:
    couples = [Couple([1, 5, 2], [1, 2], 0.5), Couple([1, 2], [1, 6, 7, 2], 1.0)]
    batch = Couples(couples, size=2, seed=None).load([0, 1])
    assert batch.ids.tolist() == [[1, 5, 2, 0], [1, 2, 0, 0], [1, 2, 0, 0], [1, 6, 7, 2]]
    assert batch.tokens.valid.sum(1).tolist() == [3, 2, 2, 4]
    assert batch.extra[SIMILARITY].tolist() == [0.5, 1.0]
    mixed = Couples(couples * 20, size=8, seed=3)
    assert mixed.plan(0) == mixed.plan(0) != mixed.plan(1)
    assert sorted(i for rows in mixed.plan(1) for i in rows) == list(range(40))


def test_which_couples_an_objective_trains_on() -> None:
    tokenizers = system(Similarity()).tokenizers
    assert len(Similarity(Regression()).batches(ROWS, tokenizers, 0)) == 3
    assert len(Similarity(InBatch(least=0.8)).batches(ROWS, tokenizers, 0)) == 2
    own = Similarity(TwoDropouts()).batches(ROWS + ROWS[:1], tokenizers, 0)
    assert len(own) == 6
    assert all(couple.first == couple.second for couple in own.couples)
    with pytest.raises(UserError, match="no pair scores 5 or more"):
        Similarity(InBatch(least=1.0)).batches(ROWS[1:], tokenizers, 0)


@pytest.mark.parametrize("output", ["regression", "in_batch", "two_dropouts"])
def test_a_run_learns_which_words_mean_the_same(output: str, tmp_path: Path) -> None:
    topics = [words.split() for words in ("cat kitten tom puss", "car truck bus van", "rain snow hail fog")]
    lines = ["text\tsecond\tlabel"]
    for i, topic in enumerate(topics):
        lines += [f"the {a}\tmy {b}\t5" for a in topic for b in topic]
        lines += [f"the {a}\tmy {b}\t0" for a in topic for b in topics[(i + 1) % 3]]
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    data = {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "train.tsv")}
    settings = {"max_steps": 40, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    task = {"similarity": {"output": output, "batch": 16}}
    parts = {"task": task, "data": data, "tokenizers": {"target": "words"}, "model": MODEL, "training": settings}
    made = train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    assert made.step == 40
    run = open_run(tmp_path / "run")
    scores = run.recipe.task.evaluate(run.system, run.recipe.task.load(run.recipe.data, "dev"), Greedy())
    if output == "regression":
        assert scores["spearman"] > 0.8
        same, other = run.recipe.task.predict(run.system, ["the cat\tmy puss", "the cat\tmy van"], Greedy())
        assert same.scores[0] > 0.7 > 0.4 > other.scores[0]
        assert same.text == f"{same.scores[0]:.4f}"


def test_vectors_do_not_depend_on_their_batch() -> None:
    made = system(Similarity())
    texts = ["a man eats", "two boys play the guitar", "a"]
    together = embed(made, texts)
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(embed(made, [text])[0], vector, rtol=1e-5, atol=1e-6)
    [found] = Similarity().predict(made, ["a man eats"], Greedy())
    assert found.details["vector"] == pytest.approx(together[0].tolist(), abs=1e-5)


def test_decisions_are_the_cosines() -> None:
    made = system(Similarity())
    batch = Similarity().batches(ROWS, made.tokenizers).load([0, 1, 2])
    decided = made.model.decide(batch)[SIMILARITY]
    vectors = made.model(batch.ids, batch.tokens)[SIMILARITY]
    assert [d.probabilities[0] for d in decided] == pytest.approx(cosines(vectors).tolist())


def test_rows_that_say_nothing() -> None:
    with pytest.raises(UserError, match="no second text"):
        Similarity().score(Labelled("a", ("1",)))
    with pytest.raises(UserError, match=r"a number from 0 to 5, or set task\.similarity\.scale"):
        Similarity().score(Labelled("a", ("yes",), "b"))
    with pytest.raises(UserError, match="label '7'"):
        Similarity().score(Labelled("a", ("7",), "b"))
    with pytest.raises(ValueError, match="batch is 1"):
        Similarity(batch=1)
    with pytest.raises(ValueError, match="temperature is 0"):
        InBatch(temperature=0)
    assert plain(Similarity()) == plain(Similarity(Regression()))


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_correlations_are_those_of_scipy(pairs: list[tuple[int, int]]) -> None:
    stats = pytest.importorskip("scipy.stats")
    a, b = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert spearman(a, b) == pearson(a, b) == 0.0
        return
    assert math.isclose(spearman(a, b), stats.spearmanr(a, b).statistic, abs_tol=1e-12)
    assert math.isclose(pearson(a, b), stats.pearsonr(a, b).statistic, abs_tol=1e-12)


@pytest.mark.skipif(not sources.find("stsb", "stsb-en-train.csv"), reason="stsb is neither in $QKV_DATA nor cached")
@pytest.mark.parametrize(("language", "sizes"), [("en", [4707, 561, 1500]), ("zh", [4616, 543, 1500])])
def test_stsb_splits_share_no_sentence(language: str, sizes: list[int]) -> None:
    splits = [Stsb(language).load(split) for split in ("train", "dev", "test")]
    assert [len(rows) for rows in splits] == sizes
    train_texts, dev_texts, test_texts = ({t for r in rows for t in (r.text, r.second)} for rows in splits)
    assert not train_texts & dev_texts and not train_texts & test_texts and not dev_texts & test_texts
    assert all(0 <= Similarity().score(row) <= 1 for row in splits[2])
