"""Growing: rows move by name, new tokens begin as means, a run goes on without forgetting its labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qkv.data.labelled import Labelled
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Choice
from qkv.tasks import growth
from qkv.tasks import recipe as recipes
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import Run, open_run
from qkv.tasks.incremental import Incremental, held
from qkv.tasks.labels import Labels, LabelSet
from qkv.tasks.language_model import LanguageModel
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words
from qkv.training.anchors import Anchored

SIZES = {"d_model": 16, "n_layers": 1, "position": "rotary"}
MODEL = {"encoder_only": {"stack": SIZES}}
OLD = [Labelled("a good film", ("yes",)), Labelled("a bad film", ("no",))]


def system(task, rows, labels: Labels | None = None, model=MODEL) -> System:
    torch.manual_seed(len(rows))
    tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
    if labels is not None:
        tokenizers = replace(tokenizers, labels=labels)
    return System(fresh(resolve(model), tokenizers, task).eval(), tokenizers)


def test_what_a_dimension_counts() -> None:
    task = Classify(Choice(hidden=True))
    same = Labels({LABEL: LabelSet.of(f"{i:02}" for i in range(16))})  # as many labels as the model is wide
    tokenizers = replace(system(task, OLD).tokenizers, labels=same)
    kinds = growth.dimensions(task, resolve(MODEL), tokenizers)
    assert kinds["encoder.embedding.token.weight"] == ("target", None)
    assert kinds["outputs.label.linear.weight"] == ("label:label", None)
    assert kinds["outputs.label.linear.bias"] == ("label:label",)
    counted = {name for name, found in kinds.items() if any(found)}
    assert counted <= {"encoder.embedding.token.weight", "outputs.label.linear.weight", "outputs.label.linear.bias"}


def test_rows_move_by_name_and_new_ones_begin_as_they_should() -> None:
    task, old = Classify(), system(Classify(), OLD)
    rows = [*OLD, Labelled("a dull new film", ("maybe",))]
    new = system(task, rows)
    fresh_row = new.model.outputs[LABEL].linear.weight[new.tokenizers.labels[LABEL].number("maybe")].clone()
    left = growth.extend(new.model, task, resolve(MODEL), new.tokenizers, old)
    assert left == ["outputs.label.temperature"]  # it was fitted to the old answers
    before, after = (s.model.encoder.embedding.token.weight for s in (old, new))
    for word in ("a", "good", "film"):
        torch.testing.assert_close(after[new.tokenizers.target.id(word)], before[old.tokenizers.target.id(word)])
    torch.testing.assert_close(after[new.tokenizers.target.id("dull")], before.mean(0))
    labels = new.tokenizers.labels[LABEL]
    for name in ("yes", "no"):
        kept = old.model.outputs[LABEL].linear.weight[old.tokenizers.labels[LABEL].number(name)]
        torch.testing.assert_close(new.model.outputs[LABEL].linear.weight[labels.number(name)], kept)
    torch.testing.assert_close(new.model.outputs[LABEL].linear.weight[labels.number("maybe")], fresh_row)
    [one] = task.decide(old, OLD[:1])
    [other] = task.decide(new, OLD[:1])
    odds = [dict(zip(d.labels, d.probabilities, strict=True)) for d in (one, other)]
    ratio = odds[1][labels.number("yes")] / odds[1][labels.number("no")]
    assert ratio == pytest.approx(odds[0][1] / odds[0][0], rel=1e-4)


def test_other_labels_of_the_same_number_are_not_mixed_up() -> None:
    task, old = Classify(), system(Classify(), OLD)
    swapped = system(task, OLD, Labels({LABEL: LabelSet(("yes", "no"), (1, 1))}))
    growth.extend(swapped.model, task, resolve(MODEL), swapped.tokenizers, old)
    torch.testing.assert_close(
        swapped.model.outputs[LABEL].linear.weight, old.model.outputs[LABEL].linear.weight.flip(0)
    )


def test_a_token_in_pieces_begins_as_their_mean_and_the_head_grows_too() -> None:
    from qkv.text import Characters

    task = LanguageModel()
    model = {"decoder_only": {"stack": SIZES, "head": {"tied": False, "bias": True}}}
    old_tokenizers = task.learn(["ab ba"], TokenizersConfig(target=Characters()))
    new_tokenizers = task.learn(["ab ab"], TokenizersConfig(target=Words()))
    torch.manual_seed(0)
    old = System(fresh(resolve(model), old_tokenizers, task), old_tokenizers)
    new = fresh(resolve(model), new_tokenizers, task)
    growth.extend(new, task, resolve(model), new_tokenizers, old)
    pieces, number = old_tokenizers.target.encode("ab"), new_tokenizers.target.id("ab")
    for name in ("decoder.embedding.token.weight", "head.weight", "head.bias"):
        torch.testing.assert_close(new.state_dict()[name][number], old.model.state_dict()[name][pieces].mean(0))


def test_what_is_known_of_weights_is_not_averaged() -> None:
    task, old = Classify(), system(Classify(), OLD)
    new = system(task, [*OLD, Labelled("a dull film", ("maybe",))])
    kinds = growth.dimensions(task, resolve(MODEL), new.tokenizers)
    how = growth.moves(old.tokenizers, new.tokenizers)
    given = {name: torch.ones_like(p) for name, p in old.model.named_parameters()}
    zeros = {name: torch.zeros_like(p) for name, p in new.model.named_parameters()}
    found = growth.carried(given, zeros, kinds, how, exact=True)
    rows = found["encoder.embedding.token.weight"].sum(1) / 16
    assert rows.tolist() == [float(t != "dull") for t in _tokens(new)]
    assert found[f"outputs.{LABEL}.linear.bias"].sum() == 2


def _tokens(made: System) -> list[str]:
    vocabulary = made.tokenizers.target.backend.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def test_answers_are_drawn_from_what_is_believed() -> None:
    task, made = Classify(), system(Classify(), OLD)
    [decision] = task.decide(made, OLD[:1])
    names = made.tokenizers.labels[LABEL].names
    believed = dict(zip((names[i] for i in decision.labels), decision.probabilities, strict=True))
    drawn = growth.answered(task, made, OLD[:1] * 2000)
    assert {row.text for row in drawn} == {OLD[0].text}
    for name, p in believed.items():
        assert sum(row.labels == (name,) for row in drawn) / 2000 == pytest.approx(p, abs=0.05)


def test_a_stack_of_another_shape_is_refused() -> None:
    task, old = Classify(), system(Classify(), OLD)
    other = {"encoder_only": {"stack": {**SIZES, "d_model": 8}}}
    new = system(task, OLD, model=other)
    with pytest.raises(UserError, match="does not fit"):
        growth.extend(new.model, task, resolve(other), new.tokenizers, old)


def test_union_and_replay() -> None:
    old, new = Labels({"x": LabelSet(("b", "a"), (1, 2))}), Labels({"x": LabelSet(("a", "c"), (5, 6))})
    assert growth.union(old, new)["x"] == LabelSet(("b", "a", "c"), (1, 7, 6))
    mixed = growth.replayed(list(range(90)), list(range(100, 200)), 0.1)
    assert mixed[:90] == list(range(90)) and len(mixed) == 100 and len(set(mixed)) == 100
    assert growth.replayed([1], [2], 0.0) == [1]
    with pytest.raises(UserError, match=r"replay is 1\.0"):
        growth.replayed([1], [2], 1.0)
    with pytest.raises(ValueError, match="strength is -1"):
        Incremental(strength=-1)


def recipe(tmp_path: Path, name: str, lines: list[str], **more) -> recipes.Recipe:
    path = tmp_path / f"{name}.tsv"
    path.write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    settings = {"max_steps": 50, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    data = {"train": str(path), "dev": str(path)}
    parts = {"task": "classify", "data": data, "tokenizers": {"target": "words"}, "model": MODEL}
    return recipes.from_data({**parts, "training": settings, **more})


def test_a_run_goes_on_with_new_labels_and_keeps_the_old_ones(tmp_path: Path) -> None:
    first = [f"the {word} film {i}\t{label}" for i in range(12) for word, label in (("good", "yes"), ("bad", "no"))]
    second = [f"the {word} song {i}\t{label}" for i in range(12) for word, label in (("loud", "high"), ("calm", "low"))]
    train(recipe(tmp_path, "first", first), tmp_path / "one", say=lambda _: None)
    start = open_run(tmp_path / "one")
    kept: dict[str, float] = {}
    fisher = {"strength": 1.0, "importance": "fisher", "examples": 20}
    arms = {"naive": {}, "replay": {"replay": 0.3}, "fisher": {**fisher, "replay": 0.3}}
    for name, how in arms.items():
        further = {**how, "vocabulary": "learned"}  # the new texts tell nothing apart in the old words
        made = recipe(tmp_path, "second", second, incremental=further, init=str(tmp_path / "one"))
        train(made, tmp_path / name, say=lambda _: None, start=start)
        run: Run = open_run(tmp_path / name)
        task = run.recipe.task
        assert set(run.system.tokenizers.labels[LABEL].names) == {"yes", "no", "high", "low"}
        assert task.evaluate(run.system, task.read(str(tmp_path / "second.tsv")), Greedy())["accuracy"] > 0.9
        kept[name] = task.evaluate(run.system, task.read(str(tmp_path / "first.tsv")), Greedy())["accuracy"]
    assert kept["replay"] > 0.9 and kept["fisher"] > 0.9
    assert kept["naive"] < 0.1
    _only_old_rows_are_held(open_run(tmp_path / "naive"), start)


def _only_old_rows_are_held(run: Run, start: Run) -> None:
    labels, words = run.system.tokenizers.labels[LABEL], run.system.tokenizers.target.backend.get_vocab()
    task = run.recipe.task
    for importance in ("equal", "fisher"):
        config = Incremental(strength=1.0, importance=importance, examples=5)  # type: ignore[arg-type]
        loss = held(run.recipe, config, task.loss(True), run.system.model, run.system.tokenizers, start)
        assert isinstance(loss, Anchored) and loss.importance is not None
        bias, table = (loss.importance[n] for n in (f"outputs.{LABEL}.linear.bias", "encoder.embedding.token.weight"))
        assert [bool(bias[labels.number(name)]) for name in ("yes", "no", "high", "low")] == [True, True, False, False]
        assert [bool(table[words[word]].any()) for word in ("good", "song")] == [True, False]


def test_going_on_needs_a_run(tmp_path: Path) -> None:
    made = recipe(tmp_path, "first", ["a good film\tyes", "a bad film\tno"], incremental={"replay": 0.1})
    with pytest.raises(UserError, match="--init RUN"):
        train(made, tmp_path / "run", say=lambda _: None)
    assert not (tmp_path / "run").exists()
