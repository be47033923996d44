"""Classification: labels learned, predicted, measured; pairs, several labels, imbalance."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Choice, Decision, Several
from qkv.tasks import recipe as recipes
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import open_run
from qkv.tasks.labels import Labels, LabelSet
from qkv.tasks.metrics import choice_scores, several_scores
from qkv.tasks.model import fresh, resolve
from qkv.tasks.reading import cut
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}
ROWS = [Labelled("a good film", ("yes",)), Labelled("a bad film", ("no",)), Labelled("good good", ("yes",))]


def system(task: Classify, rows: list[Labelled]) -> System:
    torch.manual_seed(0)
    tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


def test_a_run_learns_and_answers(tmp_path: Path) -> None:
    words = ["good fine great", "bad poor awful"]
    lines = [f"the {w} film {i}\t{'yn'[k]}" for i in range(30) for k in (0, 1) for w in words[k].split()]
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    data = {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "train.tsv")}
    settings = {"max_steps": 60, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    parts = {"task": "classify", "data": data, "tokenizers": {"target": "words"}, "model": MODEL, "training": settings}
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    assert (tmp_path / "run" / "labels.json").is_file()
    scores = run.recipe.task.evaluate(run.system, run.recipe.task.load(run.recipe.data, "dev"), Greedy())
    assert scores["accuracy"] > 0.95
    good, bad = run.recipe.task.predict(run.system, ["the great film", "the awful film"], Greedy())
    assert (good.text, bad.text) == ("y", "n")
    assert math.isclose(sum(good.scores), 1.0, abs_tol=1e-5)


def test_an_answer_does_not_depend_on_its_batch() -> None:
    task = Classify()
    made = system(task, ROWS)
    [alone] = task.predict(made, ["a good film"], Greedy())
    [_, among] = task.predict(made, ["a film that is not as good as one would like it to be", "a good film"], Greedy())
    assert alone.texts == among.texts
    assert alone.scores == pytest.approx(among.scores, abs=1e-5)


def test_a_pair_has_two_segments_and_its_order_counts() -> None:
    task = Classify()
    model = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "embedding": {"segments": 2}}}}
    tokenizers = task.learn(ROWS, TokenizersConfig(target=Words()))
    torch.manual_seed(0)
    made = System(fresh(resolve(model), tokenizers, task).eval(), tokenizers)
    one, other = task.predict(made, ["good\tbad", "bad\tgood"], Greedy())
    assert dict(zip(one.texts, one.scores, strict=True)) != dict(zip(other.texts, other.scores, strict=True))
    [reading] = task.readings([Labelled("good", (), "bad film")], tokenizers)
    batch = task.batches([Labelled("good", ("no",), "bad film")], tokenizers).load([0])
    assert reading.second == 3
    assert batch.tokens.fields["segment"].tolist() == [[0, 0, 0, 1, 1, 1]]


def test_several_labels() -> None:
    task = Classify(Several(threshold=0.5))
    rows = [Labelled("a", ("x", "y")), Labelled("b", ("y",)), Labelled("c", ())]
    made = system(task, rows)
    batch = task.batches(rows[:2], made.tokenizers).load([0, 1])
    assert batch.extra[LABEL].tolist() == [[1, 1], [0, 1]]
    total = task.loss(True)(made.model, batch)[LABEL]
    scores = made.model(batch.ids, batch.tokens)[LABEL]
    p = scores.sigmoid()
    right = batch.extra[LABEL].bool()
    slow = -torch.where(right, p, 1 - p).log().sum()
    assert float(total[0].detach()) == pytest.approx(float(slow.detach()), rel=1e-5)
    assert total[1] == 2


def test_adjusted_logits_are_the_balanced_posterior() -> None:
    """With scores log p(x|y) the adjusted softmax is Bayes' rule with the training prior; answers leave it out."""
    output = Choice(adjustment=1.0, dropout=0.0).build(LABEL, 4, [90, 10])
    scores = torch.tensor([[0.3, 0.1]])
    batch = type("Batch", (), {"extra": {LABEL: torch.tensor([1])}, "ids": scores})()
    joint = scores.exp() * torch.tensor([0.9, 0.1])
    assert float(output.loss(scores, batch)) == pytest.approx(-math.log(float(joint[0, 1] / joint.sum())), rel=1e-5)
    [decision] = output.decide(scores, batch)
    assert decision.labels == [0, 1]


def test_labels_that_cannot_be() -> None:
    task = Classify()
    with pytest.raises(UserError, match="2 labels; give one each"):
        task.labels([Labelled("a", ("x", "y")), Labelled("b", ("y",))])
    with pytest.raises(UserError, match="at least two"):
        task.labels([Labelled("a", ("x",))])
    with pytest.raises(UserError, match="was not in the training data"):
        task.evaluate(system(task, ROWS), [Labelled("a", ("perhaps",))], Greedy())


def test_every_label_has_its_own_count() -> None:
    """Whichever is met first."""
    for labels in (["b", "a", "b"], ["a", "b", "b"], ["b", "b", "a"]):
        found = LabelSet.of(labels)
        assert (found.names, found.counts, found.number("b")) == (("a", "b"), (1, 2), 1)


def test_labels_survive_the_disk(tmp_path: Path) -> None:
    labels = Labels({"label": LabelSet.of(["ü", "a", "a"])})
    labels.save(tmp_path)
    assert Labels.load(tmp_path) == labels
    (tmp_path / "labels.json").write_text("[1]")
    with pytest.raises(UserError, match="damaged"):
        Labels.load(tmp_path)


@pytest.mark.parametrize("a", range(6))
@pytest.mark.parametrize("b", range(6))
def test_two_texts_are_cut_at_the_longer_one(a: int, b: int) -> None:
    """The slow twin drops one token after another from the longer text, the first where both are as long."""
    for most in range(12):
        first, second = list(range(a)), list(range(b))
        while len(first) + len(second) > most:
            (first if len(first) >= len(second) else second).pop()
        assert cut(list(range(a)), list(range(b)), most) == (first, second)


def test_scores_of_one_label() -> None:
    decided = [Decision([0, 1], [0.8, 0.2]), Decision([1, 0], [0.6, 0.4]), Decision([1, 0], [0.9, 0.1])]
    scores = choice_scores(decided, [0, 1, 0])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["log_loss"] == pytest.approx(-(math.log(0.8) + math.log(0.6) + math.log(0.1)) / 3)
    assert scores["calibration_error"] == pytest.approx((0.2 + 0.4 + 0.9) / 3)


def test_scores_of_several_labels() -> None:
    decided = [Decision([0, 1], [0.9, 0.8]), Decision([], [])]
    scores = several_scores(decided, [[0], []])
    assert scores == {"micro_f1": pytest.approx(2 / 3), "row_f1": pytest.approx((2 / 3 + 1) / 2), "exact_match": 0.5}


def test_init_takes_the_encoder_and_leaves_the_output_fresh(tmp_path: Path) -> None:
    from qkv.tasks.model import take_over

    task = Classify()
    one = system(task, ROWS)
    other = fresh(resolve(MODEL), replace(one.tokenizers, labels=Labels({LABEL: LabelSet.of("abc")})), task)
    left = take_over(other, one.model)
    assert left == ["outputs.label.linear.weight", "outputs.label.linear.bias"]
    weights = one.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in other.state_dict().items() if name not in left)
    small = fresh(resolve({"encoder_only": {"stack": {"d_model": 8, "n_layers": 1}}}), one.tokenizers, task)
    with pytest.raises(UserError, match="does not fit"):
        take_over(small, one.model)
