"""Intent and slots together: arms, weights, surgery, conditioning, and what training never saw."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from qkv.data.batch import IGNORE
from qkv.data.labelled import Tagged
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Choice
from qkv.models.tagging import Tagging
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.intent_slots import INTENT, SLOTS, Fixed, IntentSlots, Learned
from qkv.tasks.model import fresh, resolve
from qkv.tasks.tag_metrics import joint_scores
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words
from qkv.training.objectives import OutputLosses
from qkv.training.weighting import LogVariances, Surgery, Uncertain, conflict, projected

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary", "block": {"dropout": 0.0}}}}
ROWS = [
    Tagged(("fly", "to", "boston"), ("O", "O", "B-city"), "flight"),
    Tagged(("fares", "to", "new", "york"), ("O", "O", "B-city", "I-city"), "airfare"),
]
QUIET = {"intent": Choice(dropout=0.0), "slots": Tagging(dropout=0.0)}


def system(task: IntentSlots) -> System:
    torch.manual_seed(0)
    tokenizers = task.learn(ROWS, TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


def test_a_run_learns_and_answers(tmp_path: Path) -> None:
    pytest.importorskip("seqeval")
    cities = ["boston", "denver", "dallas", "miami"]
    lines = [
        f"{verb} to {c}\tO O B-city\t{intent}"
        for verb, intent in (("fly", "flight"), ("fare", "price"))
        for c in cities
    ]
    (tmp_path / "train.tsv").write_text("words\ttags\tintent\n" + "\n".join(lines * 4) + "\n")
    data = {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "train.tsv")}
    settings = {"max_steps": 50, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    settings |= {"metric": "sentence_accuracy", "mode": "max"}
    task = {"intent_slots": {"weights": "learned", "conditioned": True, "surgery": True, "slots": {"crf": True}}}
    parts = {"task": task, "data": data, "tokenizers": {"target": "words"}, "model": MODEL, "training": settings}
    train(recipes.from_data({**parts, "evaluation": {"scored": 32}}), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    scores = run.recipe.task.evaluate(run.system, run.recipe.task.load(run.recipe.data, "dev"), Greedy())
    assert scores["sentence_accuracy"] == scores["intent_accuracy"] == scores["slot_f1"] == 1
    [prediction] = run.recipe.task.predict(run.system, ["fly to miami"], Greedy())
    assert prediction.text == "flight: fly to [miami](city)"
    assert sum(prediction.details["intents"].values()) == pytest.approx(1, abs=1e-5)
    assert run.system.model.log_variances.values.abs().max().item() > 0.01


def test_what_training_never_saw_is_counted_as_wrong() -> None:
    pytest.importorskip("seqeval")
    task = IntentSlots()
    made = system(task)
    rows = [Tagged(("to", "boston"), ("O", "B-airline"), "ground_service")]
    batch = task.batches(rows, made.tokenizers).load([0])
    assert batch.extra[INTENT].tolist() == [IGNORE] and batch.targets[0, 2] == IGNORE
    loss = task.loss(False)(made.model, batch)
    assert loss[INTENT][0].item() == 0 and math.isfinite(float(loss[SLOTS][0].detach()))
    scores = task.evaluate(made, rows, Greedy())
    assert scores["intent_accuracy"] == scores["slot_f1"] == scores["sentence_accuracy"] == 0


def test_scores_by_hand() -> None:
    pytest.importorskip("seqeval")
    right = [["O", "B-x"], ["B-x", "I-x"], ["O", "O"]]
    given = [["O", "B-x"], ["B-x", "O"], ["O", "O"]]
    scores = joint_scores(given, right, ["a", "b", "c"], ["a", "b", "d"], "bio")
    assert scores["intent_accuracy"] == pytest.approx(2 / 3)
    assert scores["slot_f1"] == pytest.approx(0.5)
    assert scores["sentence_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("only", ["intent", "slots"])
def test_one_alone(only: str) -> None:
    pytest.importorskip("seqeval")
    task = IntentSlots(only=only)
    made = system(task)
    assert list(made.model.outputs) == [only] == list(made.tokenizers.labels.sets)
    assert list(task.loss(True)(made.model, task.batches(ROWS, made.tokenizers).load([0, 1]))) == [only]
    scores = task.evaluate(made, ROWS, Greedy())
    assert ("intent_accuracy" in scores, "slot_f1" in scores) == (only == "intent", only == "slots")
    assert task.predict(made, ["fly to boston"], Greedy())[0].text


def test_rows_without_an_intent_train_slots_alone() -> None:
    bare = [Tagged(row.words, row.tags) for row in ROWS]
    assert list(IntentSlots(only="slots").labels(bare).sets) == [SLOTS]
    with pytest.raises(UserError, match="row 1 has no intent"):
        IntentSlots().labels(bare)
    with pytest.raises(ValueError, match="set only to both"):
        IntentSlots(only="intent", surgery=True)


def test_slots_depend_on_intents_only_if_they_are_told() -> None:
    for conditioned in (False, True):
        task = IntentSlots(conditioned=conditioned, **QUIET)
        made = system(task)
        batch = task.batches(ROWS, made.tokenizers).load([0, 1])
        before = made.model(batch.ids, batch.tokens)[SLOTS]
        with torch.no_grad():
            made.model.outputs[INTENT].linear.bias += torch.tensor([5.0, -5.0])
        assert torch.equal(before, made.model(batch.ids, batch.tokens)[SLOTS]) is not conditioned


def test_what_slots_want_reaches_the_intent_only_if_they_are_told() -> None:
    for conditioned in (False, True):
        task = IntentSlots(conditioned=conditioned, **QUIET)
        made = system(task)
        batch = task.batches(ROWS, made.tokenizers).load([0, 1])
        task.loss(True)(made.model, batch)[SLOTS][0].backward()
        gradient = made.model.outputs[INTENT].linear.weight.grad
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is conditioned


def test_what_is_measured_is_not_smoothed() -> None:
    task = IntentSlots(intent=Choice(dropout=0.0, smoothing=0.3), slots=Tagging(dropout=0.0))
    made = system(task)
    batch = task.batches(ROWS, made.tokenizers).load([0, 1])
    with torch.no_grad():
        made.model.outputs[INTENT].linear.bias += torch.tensor([3.0, 0.0])
    p = made.model(batch.ids, batch.tokens)[INTENT].log_softmax(-1)
    nats = -p.gather(1, batch.extra[INTENT].unsqueeze(1)).sum()
    smoothed = 0.7 * nats - 0.3 * p.mean(1).sum()
    for training, expected in ((False, nats), (True, smoothed)):
        found = task.loss(training)(made.model, batch)[INTENT][0]
        assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_learned_weights_are_kendalls() -> None:
    task = IntentSlots(weights=Learned(), **QUIET)
    made = system(task)
    batch = task.batches(ROWS, made.tokenizers).load([0, 1])
    with torch.no_grad():
        made.model.log_variances.values.copy_(torch.tensor([0.5, -1.0]))
    plain = OutputLosses(task.outputs)(made.model, batch)
    terms = task.loss(True)(made.model, batch)
    total = sum(weight * s / count for s, count, weight in terms.values())
    losses = [s / count for s, count, _ in plain.values()]
    expected = math.exp(-0.5) * losses[0] + math.exp(1.0) * losses[1] + (0.5 - 1.0) / 2
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert task.loss(True).counts(batch) == {name: count for name, (_, count, _) in terms.items()}
    assert "log_variances.values" in made.model.state_dict()


def test_log_variances_settle_where_the_loss_says() -> None:
    """At the optimum s = log 2L, whatever the scale of the loss."""
    losses = {"intent": 0.1, "slots": 3.0}

    class Constant:
        def __call__(self, model, batch):
            return {name: (torch.tensor(value), 1.0, 1.0) for name, value in losses.items()}

    model = torch.nn.Module()
    model.log_variances = LogVariances(list(losses))
    batch = type("Batch", (), {"ids": [0]})()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        sum(s for s, _, _ in Uncertain(Constant())(model, batch).values()).backward()
        optimizer.step()
    expected = [math.log(2 * value) for value in losses.values()]
    assert model.log_variances.values.tolist() == pytest.approx(expected, abs=0.02)


def test_surgery_gives_the_gradient_of_the_paper() -> None:
    """Each task's gradient by a backward pass of its own, projected in a loop over weights; the heads' stay."""
    task = IntentSlots(weights=Fixed(intent=2.0), surgery=True, **QUIET)
    made = system(task)
    model = made.model.double()
    batch = task.batches(ROWS, made.tokenizers).load([0, 1])
    apart = {}
    for name, (s, count, weight) in OutputLosses(task.outputs, weights={INTENT: 2.0})(model, batch).items():
        model.zero_grad()
        (weight * s / count).backward(retain_graph=True)
        apart[name] = {
            n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()
        }
    shared = [n for n in apart[INTENT] if n.startswith("encoder.")]
    dot = sum(float((apart[INTENT][n] * apart[SLOTS][n]).sum()) for n in shared)
    norms = {k: sum(float((g[n] ** 2).sum()) for n in shared) for k, g in apart.items()}
    model.zero_grad()
    terms = task.loss(True)(model, batch)
    sum(weight * s / count for s, count, weight in terms.values()).backward()
    assert float(terms["surgery"][0].detach()) == 0
    for name, parameter in model.named_parameters():
        one, other = apart[INTENT][name], apart[SLOTS][name]
        expected = one + other
        if dot < 0 and name in shared:
            expected = expected - dot / norms[SLOTS] * other - dot / norms[INTENT] * one
        torch.testing.assert_close(parameter.grad, expected, rtol=0, atol=1e-10)
    expected_cosine = dot / math.sqrt(norms[INTENT] * norms[SLOTS])
    assert conflict(model, OutputLosses(task.outputs), batch) == pytest.approx(expected_cosine, abs=1e-8)


def test_surgery_where_gradients_conflict() -> None:
    """Two opposite tasks on one weight, and what is left of them."""
    model = torch.nn.Module()
    model.encoder = torch.nn.Linear(2, 1, bias=False)

    class Opposed:
        def __call__(self, model, batch):
            w = model.encoder.weight[0]
            return {"a": (w[0], 1.0, 1.0), "b": (w[1] - w[0], 1.0, 1.0)}

        def counts(self, batch):
            return {"a": 1.0, "b": 1.0}

    terms = Surgery(Opposed())(model, None)
    sum(s for s, _, _ in terms.values()).backward()
    slow = sum(projected([torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])]))
    torch.testing.assert_close(model.encoder.weight.grad[0], slow)
    assert slow.tolist() == [0.5, 1.5]
    assert Surgery.additive is False


def test_projection_leaves_no_conflict_and_no_agreement_touched() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        one, other = torch.randn(2, 5, generator=generator, dtype=torch.float64)
        first, second = projected([one, other])
        assert float(first @ other) >= -1e-12 and float(second @ one) >= -1e-12
        if float(one @ other) >= 0:
            assert torch.equal(first, one) and torch.equal(second, other)
