"""Temperature: the minimum of its loss, found where it is known, and kept with a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Choice, Several
from qkv.tasks import reading
from qkv.tasks import recipe as recipes
from qkv.tasks.calibration import MOST, calibrate, classifier, scores_of, temperature
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import Run, open_run
from qkv.tasks.model import fresh, resolve, take_over
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.tasks.translate import Translate
from qkv.text import Words

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}


def sample(factor: float, rows: int = 20000) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores that are `factor` times too large for the labels drawn by them."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, 5, generator=generator)
    return factor * scores, torch.multinomial(scores.softmax(-1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_it_finds_by_how_much_scores_are_too_large(factor: float) -> None:
    assert temperature(*sample(factor)) == pytest.approx(factor, rel=0.05)


def test_no_temperature_near_it_loses_less() -> None:
    scores, right = sample(3.0, 500)
    found = temperature(scores, right)
    best, *others = (float(F.cross_entropy(scores / (found * k), right)) for k in (1.0, 0.98, 1.02))
    assert best < min(others)


def test_it_ends_where_there_is_no_minimum() -> None:
    scores = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert 1 / MOST <= temperature(scores, torch.tensor([0, 1])) < 0.05, "where e^-score/T is lost beside 1"
    assert temperature(scores, torch.tensor([1, 0])) == pytest.approx(MOST)


def test_a_run_keeps_it_and_answers_the_same_less_surely(tmp_path: Path) -> None:
    """A quarter of the labels is noise, which a model that has learned by heart is far too sure of on other rows."""
    rows = [(f"{'good' if i % 2 else 'bad'} film number {i}", "yn"[(i % 2) ^ (i % 8 < 2)]) for i in range(160)]
    for name, part in (("train", rows[:100]), ("dev", rows[100:])):
        (tmp_path / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(map("\t".join, part)) + "\n")
    parts = {
        "task": {"classify": {"output": {"choice": {"dropout": 0.0}}}},
        "data": {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "dev.tsv")},
        "tokenizers": {"target": "words"},
        "model": MODEL,
        "training": {
            "max_steps": 60,
            "learning_rate": 1e-2,
            "schedule": "constant",
            "threads": 1,
            "tensorboard": False,
            "eval_every": None,
            "checkpoint_every": None,
        },
    }
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    task, dev = run.recipe.task, run.recipe.task.load(run.recipe.data, "dev")
    before = task.evaluate(run.system, dev, Greedy())
    fitted = calibrate(run)
    again = open_run(tmp_path / "run")
    after = task.evaluate(again.system, dev, Greedy())
    assert float(again.system.model.outputs[LABEL].temperature) == pytest.approx(fitted) and fitted > 1
    assert after["accuracy"] == before["accuracy"] and after["log_loss"] < before["log_loss"]
    scores, right = scores_of(again.system, task, dev)
    assert after["log_loss"] == pytest.approx(float(F.cross_entropy(scores / fitted, right)), abs=1e-5)


def test_scores_are_in_the_order_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though texts of like length are read side by side, a few at a time."""
    task = Classify(Choice())
    rows = [Labelled("a " * (1 + i * 7 % 11) + "b", ("xy"[i % 2],)) for i in range(11)]
    tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
    torch.manual_seed(0)
    system = System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)
    monkeypatch.setattr(reading, "CELLS", 20)
    scores, right = scores_of(system, task, rows)
    alone = torch.cat([scores_of(system, task, [row])[0] for row in rows])
    torch.testing.assert_close(scores, alone, rtol=0, atol=1e-6)
    assert right.tolist() == [i % 2 for i in range(11)] and len(scores.unique(dim=0)) == 11


def test_init_forgets_the_other_runs_temperature() -> None:
    task = Classify(Choice())
    tokenizers = task.learn([Labelled("a", ("x",)), Labelled("b", ("y",))], TokenizersConfig(target=Words()))
    one, other = (fresh(resolve(MODEL), tokenizers, task) for _ in range(2))
    one.outputs[LABEL].temperature.fill_(3.0)
    assert take_over(other, one) == [] and float(other.outputs[LABEL].temperature) == 1.0


@pytest.mark.parametrize(
    ("task", "sentence"), [(Translate(), "does not classify"), (Classify(Several()), "any number")]
)
def test_other_runs_have_none(task: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        classifier(Run(Path("run"), SimpleNamespace(task=task), None))  # type: ignore[arg-type]
