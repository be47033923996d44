"""Out of scope: scores against slow twins, measures against scikit-learn and by hand, the fitted scope on the disk."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from qkv.baselines.naive_bayes import NaiveBayes
from qkv.cli.scope import scope as scope_command
from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Several
from qkv.tasks import recipe as recipes
from qkv.tasks.classify import Classify
from qkv.tasks.folder import Run, open_run
from qkv.tasks.scope import FILE, Scope, features, with_scope
from qkv.tasks.scope_metrics import (
    Costs,
    auroc,
    cheapest_margin,
    cheapest_threshold,
    cost,
    fpr_at_recall,
    keeping_threshold,
    margin_cost,
)
from qkv.tasks.scope_scores import (
    Energy,
    Features,
    Gaussians,
    Mahalanobis,
    MaxProbability,
    Neighbours,
    ScoreConfig,
    WordMixture,
)
from qkv.tasks.train import train

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}
SCORES = (MaxProbability(), Energy(), Mahalanobis(), Gaussians(), Neighbours(3), WordMixture())
WORDS = {"film": ("watch", "screen", "actor"), "food": ("eat", "cook", "taste"), "rail": ("train", "track", "seat")}


def made(n: int = 40, n_labels: int = 3, width: int = 5) -> tuple[Features, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % n_labels
    vectors = torch.randn(n, width, generator=generator, dtype=torch.float64) + 3 * labels[:, None]
    logits = torch.randn(n, n_labels, generator=generator, dtype=torch.float64)
    ids = [torch.randint(4, 9, (int(i) % 5 + 1,), generator=generator).tolist() for i in range(n)]
    return Features(logits, vectors, ids), labels


def rows(label: str, numbers: range) -> list[Labelled]:
    words = WORDS[label]
    return [Labelled(f"please {words[i % 3]} the {words[i // 3 % 3]} {i % 7}", (label,)) for i in numbers]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("scope")
    for name, numbers in (("train", range(30)), ("dev", range(30, 45))):
        lines = [f"{row.text}\t{row.labels[0]}" for label in WORDS for row in rows(label, numbers)]
        (folder / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    data = {name: str(folder / f"{name}.tsv") for name in ("train", "dev")}
    settings = {"max_steps": 60, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    parts = {"task": "classify", "data": data, "tokenizers": {"target": "words"}, "model": MODEL, "training": settings}
    train(recipes.from_data(parts), folder / "run", say=lambda _: None)
    return open_run(folder / "run")


def fitted(run: Run, score: ScoreConfig | None = None) -> Scope:
    task = run.recipe.task
    known, dev = (task.load(run.recipe.data, split) for split in ("train", "dev"))
    outside = [Labelled(f"zebra quartz {i} violet of the moon") for i in range(10)]
    return Scope.fit(run.system, task, known, dev, outside, score)


def test_energy_and_confidence_are_the_two_halves_of_the_best_logit() -> None:
    """max logit = log max p + logsumexp: what confidence keeps and what it divides away."""
    seen, labels = made()
    confidence, energy = (score.score(score.fit(seen, labels), seen) for score in (MaxProbability(), Energy()))
    assert torch.allclose(confidence.log() + energy, seen.logits.amax(-1), atol=1e-12)
    shifted = Features(seen.logits + 7, seen.vectors, seen.ids)
    assert torch.allclose(MaxProbability().score({}, shifted), confidence, atol=1e-12)
    assert torch.allclose(Energy().score({}, shifted), energy + 7, atol=1e-12)
    assert torch.allclose(Energy(1e-3).score({}, seen), seen.logits.amax(-1), atol=1e-2)


def test_mahalanobis_is_that_of_the_loops() -> None:
    seen, labels = made()
    x, y = seen.vectors.numpy(), labels.numpy()
    means = np.array([x[y == c].mean(0) for c in range(3)])
    covariance = sum(np.outer(row - means[c], row - means[c]) for row, c in zip(x, y, strict=True)) / len(x)
    covariance = 0.8 * covariance + 0.2 * np.trace(covariance) / 5 * np.eye(5)
    slow = [-min((row - m) @ np.linalg.inv(covariance) @ (row - m) for m in means) for row in x]
    score = Mahalanobis(0.2)
    assert score.score(score.fit(seen, labels), seen).numpy() == pytest.approx(slow, rel=1e-8)


def test_gaussians_are_torchs() -> None:
    seen, labels = made(38)
    score = Gaussians(0.0)
    state = score.fit(seen, labels)
    precision = state["whiten"] @ state["whiten"].T
    centres = [seen.vectors[labels == c].mean(0) for c in range(3)]
    each = [torch.distributions.MultivariateNormal(c, precision_matrix=precision) for c in centres]
    shares = torch.tensor([13, 13, 12], dtype=torch.float64) / 38
    slow = torch.stack([d.log_prob(seen.vectors) for d in each], 1) + shares.log()
    assert torch.allclose(score.score(state, seen), slow.logsumexp(-1), atol=1e-8)


def test_a_label_without_texts_has_no_gaussian() -> None:
    seen, labels = made()
    labels = torch.where(labels == 1, 2, labels)
    for score in (Mahalanobis(), Gaussians()):
        assert score.score(score.fit(seen, labels), seen).isfinite().all()


def test_neighbours_are_those_of_the_loop() -> None:
    seen, labels = made()
    x = seen.vectors / seen.vectors.norm(dim=1, keepdim=True)
    slow = [-sorted(float((a - b).norm()) for b in x)[3] for a in x]
    score = Neighbours(4)
    assert score.score(score.fit(seen, labels), seen).numpy() == pytest.approx(slow, abs=1e-6)
    assert Neighbours(1000).score(score.fit(seen, labels), seen).isfinite().all()


def test_words_are_naive_bayes() -> None:
    """The mixture over labels of texts of one length is the marginal of naive Bayes, a token."""
    ids = torch.randint(0, 6, (30, 4), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(30) % 3
    seen = Features(torch.zeros(30, 3, dtype=torch.float64), torch.zeros(30, 1), ids.tolist())
    score = WordMixture(0.5)
    bayes = NaiveBayes.fit(ids, labels, int(ids.max()) + 2, 3, 0.5)
    assert torch.allclose(score.score(score.fit(seen, labels), seen), bayes.log_prob(ids) / 4, atol=1e-10)


def test_an_unseen_word_makes_a_text_less_likely_than_a_seen_one() -> None:
    seen, labels = made()
    score = WordMixture()
    state = score.fit(seen, labels)
    known, unknown, empty = (Features(seen.logits, seen.vectors, [ids]) for ids in ([5, 6], [5, 10_000], []))
    assert score.score(state, known) > score.score(state, unknown) > score.score(state, empty)


scores = st.lists(st.integers(0, 8).map(float), min_size=1, max_size=40).map(np.array)


@given(scores, scores)
def test_measures_are_scikit_learns(inside: np.ndarray, outside: np.ndarray) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    truth = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    both = np.r_[inside, outside]
    assert auroc(inside, outside) == pytest.approx(metrics.roc_auc_score(truth, both))
    fpr, tpr, _ = metrics.roc_curve(truth, both, drop_intermediate=False)
    assert fpr_at_recall(inside, outside) == pytest.approx(fpr[np.flatnonzero(tpr >= 0.95 - 1e-12)[0]])


@given(scores, scores, st.floats(0.05, 0.95), st.floats(0, 10), st.floats(0, 10))
def test_no_threshold_is_cheaper(inside: np.ndarray, outside: np.ndarray, share: float, a: float, r: float) -> None:
    costs = Costs(outside=share, answered=a, refused=r)
    found = cost(inside, outside, cheapest_threshold(inside, outside, costs), costs)
    every = [cost(inside, outside, t, costs) for t in [-math.inf, *np.arange(-0.5, 9.5, 0.5), math.inf]]
    assert found == pytest.approx(min(every), abs=1e-9)


def test_costs_move_the_threshold() -> None:
    inside, outside = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.5, 2.5])
    assert cheapest_threshold(inside, outside, Costs(refused=0.0)) > 2.5
    assert cheapest_threshold(inside, outside, Costs(answered=0.0)) == -math.inf
    assert cheapest_threshold(inside, outside, Costs(outside=0.5)) == 2.75  # refuses two of four, answers none


def test_without_examples_a_share_is_kept() -> None:
    inside = np.arange(100.0)
    assert (inside < keeping_threshold(inside, 0.05)).mean() == 0.05
    assert (inside < keeping_threshold(inside, 0.0)).sum() == 0
    with pytest.raises(UserError, match="no text out of scope"):
        cheapest_threshold(inside, np.array([]), Costs())


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_no_margin_is_cheaper(cases: list[tuple[int, bool, bool]]) -> None:
    gap = np.array([float(c[0]) for c in cases])
    right = np.array([c[1] for c in cases])
    among = right | np.array([c[2] for c in cases])
    costs = Costs(asked=0.3)
    found = margin_cost(gap, right, among, cheapest_margin(gap, right, among, costs), costs)
    every = [margin_cost(gap, right, among, m, costs) for m in [-math.inf, *np.arange(-0.5, 6.5, 0.5), math.inf]]
    assert found == pytest.approx(min(every), abs=1e-12)


def test_features_are_the_models_own(run: Run) -> None:
    texts = ["please watch the actor 1", "please eat the cook"]
    task = run.recipe.task
    seen = features(run.system, task, [Labelled(text) for text in texts])
    answers = task.predict(run.system, texts, Greedy())
    assert [max(p) for p in seen.logits.softmax(-1).tolist()] == pytest.approx([a.scores[0] for a in answers], abs=1e-5)
    output = run.system.model.outputs["label"]
    assert torch.allclose(output.linear(seen.vectors.float()).double(), seen.logits, atol=1e-4)
    assert [len(ids) for ids in seen.ids] == [5, 4]


@pytest.mark.parametrize("score", SCORES)
def test_a_scope_survives_the_disk(run: Run, score: ScoreConfig, tmp_path: Path) -> None:
    scope = fitted(run, score)
    scope.save(tmp_path)
    again = Scope.load(tmp_path)
    assert again is not None
    texts = [Labelled("please watch the actor 1"), Labelled("zebra quartz")]
    assert again.tell(run.system, run.recipe.task, texts) == scope.tell(run.system, run.recipe.task, texts)
    assert (again.score, again.threshold, again.costs) == (scope.score, scope.threshold, scope.costs)
    assert 0 <= scope.measured["auroc"] <= 1 and scope.measured["cost"] <= 0.1


def test_a_scope_is_fitted_to_the_training_texts(run: Run) -> None:
    task, scope = run.recipe.task, fitted(run, Mahalanobis())
    known = task.load(run.recipe.data, "train")
    labels = torch.tensor([run.system.tokenizers.labels["label"].number(row.labels[0]) for row in known])
    state = Mahalanobis().fit(features(run.system, task, known), labels)
    assert torch.allclose(scope.state["whiten"], state["whiten"], atol=1e-6)


def test_what_is_refused_is_not_ambiguous(run: Run) -> None:
    texts = [Labelled("please watch the actor 1"), Labelled("zebra quartz")]
    for threshold, inside in ((math.inf, False), (-math.inf, True)):
        scope = replace(fitted(run), threshold=threshold, margin=math.inf)
        told = scope.tell(run.system, run.recipe.task, texts)
        assert [(v.inside, v.ambiguous) for v in told] == [(inside, inside)] * 2


def test_a_run_that_is_trained_anew_has_no_scope(run: Run, tmp_path: Path) -> None:
    """The old one was fitted to other weights."""
    recipe = replace(run.recipe, training=replace(run.recipe.training, max_steps=1))
    train(recipe, tmp_path / "run", say=lambda _: None)
    fitted(run).save(tmp_path / "run")
    train(recipe, tmp_path / "run", fresh=True, say=lambda _: None)
    assert Scope.load(tmp_path / "run") is None


def test_predictions_tell(run: Run) -> None:
    plain = with_scope(run.folder, run.recipe.task)
    assert plain is run.recipe.task
    fitted(run, WordMixture()).save(run.folder)
    task = with_scope(run.folder, run.recipe.task)
    known, strange = task.predict(run.system, ["please watch the actor 1", "zebra quartz violet moon"], Greedy())
    assert known.details["in_scope"] and not strange.details["in_scope"]
    assert known.text == "film" and task.column == "text"
    (run.folder / FILE).unlink()


def test_what_cannot_be_fitted(run: Run, tmp_path: Path) -> None:
    task = run.recipe.task
    dev = task.load(run.recipe.data, "dev")
    with pytest.raises(UserError, match="to refuse at most"):
        Scope.fit(run.system, task, dev, dev)
    assert Scope.fit(run.system, task, dev, dev, refused=0.1).measured["refused"] <= 0.1
    with pytest.raises(UserError, match="one label a text"):
        features(run.system, Classify(Several()), dev)
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        Scope.load(tmp_path)
    for wrong in (lambda: Costs(outside=0.0), lambda: Costs(wrong=-1.0), lambda: Energy(0.0), lambda: Neighbours(0)):
        with pytest.raises(ValueError):
            wrong()


def test_the_command(run: Run, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(scope_command)
    outside = tmp_path / "outside.txt"
    outside.write_text("".join(f"zebra quartz {i} violet of the moon\n" for i in range(10)))
    told = CliRunner().invoke(app, [str(run.folder), "--outside", str(outside), "--score", "word-mixture", "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["auroc"] > 0.9
    assert Scope.load(run.folder) is not None
    (run.folder / FILE).unlink()
