"""Decoders that see more than the past: what each row asks for, what a prompt is, and runs that fill gaps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qkv.data.batch import IGNORE
from qkv.data.pretraining import collate
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.gaps import FillInTheMiddle, Gaps, Prefix, Spans
from qkv.tasks.infilling import Infill
from qkv.tasks.model import fresh, resolve
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words

STACK = {"d_model": 32, "n_layers": 2, "position": "rotary", "embedding": {"dropout": 0.0}}
OPEN = {"decoder_only": {"stack": {**STACK, "mask": {"any": ["causal", "prefix"]}}}}
CAUSAL = {"decoder_only": {"stack": STACK}}
GAPS = Gaps(1, 2, [4, 5, 6, 7], np.ones(99, dtype=bool))
WINDOW = np.array([1, *range(20, 30)])
OBJECTIVES = [Prefix(), FillInTheMiddle(), Spans(rate=0.3)]


def gaps(objective: Any) -> Gaps:
    return Gaps(1, 2, range(4, 4 + len(objective.specials)), np.ones(99, dtype=bool))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_a_target_is_the_next_token(objective: Any) -> None:
    for seed in range(100):
        row = objective.row(WINDOW, gaps(objective), np.random.default_rng(seed))
        asked = row.targets != IGNORE
        assert asked.any() and asked[-1]
        following = np.flatnonzero(asked[:-1])
        assert (row.targets[following] == row.ids[following + 1]).all()
        if objective.open_prefix:  # what is given is read, and nothing that is told is among it
            given = row.fields["prefix"].astype(bool)
            assert not (given[1:] & asked[:-1]).any() and given[0]
        assert len(row.ids) <= len(WINDOW) + objective.extra


def test_a_prefix_is_cut_anywhere() -> None:
    lengths = [int(Prefix().row(WINDOW, GAPS, np.random.default_rng(i)).fields["prefix"].sum()) for i in range(2000)]
    assert set(lengths) == set(range(1, 11))
    assert np.mean(lengths) == pytest.approx(5.5, abs=0.3)


def test_the_middle_is_the_same_with_and_without_what_follows() -> None:
    objective, own = FillInTheMiddle(), gaps(FillInTheMiddle())
    for seed in range(50):
        both = [objective.middle(WINDOW, own, np.random.default_rng(seed), ahead) for ahead in (True, False)]
        with_suffix, without = ([x for x in row.targets.tolist() if x != IGNORE] for row in both)
        assert with_suffix == without


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_nothing_that_is_told_is_seen_before(objective: Any) -> None:
    """No gradient of a token that is told reaches an earlier state; of the prefix it reaches every state."""
    task = Infill(objective, length=11)
    tokenizers = task.learn(["a b c d e f g h i j k l m n"], TokenizersConfig(target=Words()))
    torch.manual_seed(0)
    model: Any = fresh(resolve(OPEN if objective.open_prefix else CAUSAL), tokenizers, task).eval()
    batch = collate(
        [
            objective.row(
                np.arange(4 + len(objective.specials), 15 + len(objective.specials)) % 18,
                task.gaps(tokenizers),
                np.random.default_rng(1),
            )
        ]
    )
    given = batch.tokens.get("prefix")[0].bool()
    before = model(batch.ids, batch.tokens)[0]
    for place in range(1, batch.ids.shape[1]):
        ids = batch.ids.clone()
        ids[0, place] = (ids[0, place] + 1) % 18
        moved = (model(ids, batch.tokens)[0] - before).abs().amax(-1)[:place] > 1e-7
        assert moved.all() if given[place] else not moved.any()


def test_prompts() -> None:
    prompt = FillInTheMiddle().prompt([[20, 21], [30]], gaps(FillInTheMiddle()))
    assert prompt.ids == [1, 4, 20, 21, 5, 30, 6]
    assert prompt.whole([9]) == [20, 21, 9, 30]
    prompt = Spans().prompt([[20], [21], [22]], GAPS)
    assert prompt.ids == [1, 20, 4, 21, 5, 22] and prompt.whole([8, 4, 9, 5, 10, 6]) == [20, 9, 21, 10, 22]
    assert Prefix().prompt([[20]], GAPS).ids == [1, 20]
    with pytest.raises(ValueError, match="2 gaps"):
        FillInTheMiddle().prompt([[], [], []], GAPS)
    with pytest.raises(ValueError, match="0 gaps"):
        Spans().prompt([[20]], GAPS)
    with pytest.raises(ValueError, match="leave <mask> out"):
        Prefix().prompt([[20], []], GAPS)


def run(tmp_path: Path, objective: str, model: dict, steps: int) -> Any:
    lines = [f"{a} {b} {a} {b} {a} {b} {a} {b}" for a in "uvwxyz" for b in "abcdef"] * 2
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{line}"}}\n' for line in lines))
    data = {"train": str(tmp_path / "texts.jsonl"), "dev": str(tmp_path / "texts.jsonl")}
    settings = {"max_steps": steps, "learning_rate": 5e-3, "schedule": "linear", "threads": 1, "tensorboard": False}
    task = {"infill": {"objective": objective, "length": 10, "size": 32, "max_new": 12}}
    parts = {"task": task, "data": data, "tokenizers": {"target": "words"}, "model": model, "training": settings}
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    return open_run(tmp_path / "run")


def test_what_follows_a_gap_helps_to_fill_it(tmp_path: Path) -> None:
    made = run(tmp_path, "fill_in_the_middle", CAUSAL, 120)
    scores = made.recipe.task.evaluate(made.system, made.recipe.task.load(made.recipe.data, "dev"), Greedy())
    assert scores["middle_loss"] < scores["middle_without_suffix_loss"] < math.log(20)
    [one] = made.recipe.task.predict(made.system, ["u <mask> u a"], Greedy())
    assert one.text.split()[0] == "u" and one.text.split()[-2:] == ["u", "a"]
    with pytest.raises(UserError, match="text 1: it has 2 gaps"):
        made.recipe.task.predict(made.system, ["<mask> u <mask>"], Greedy())


def test_a_prefix_and_spans_are_answered(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    made = run(tmp_path / "p", "prefix", OPEN, 60)
    [one] = made.recipe.task.predict(made.system, ["w d w d"], Greedy(), max_new=4)
    assert one.text.startswith("w d w d ")
    assert made.recipe.task.evaluate(made.system, ["w d w d w d w d w d"], Greedy())["loss"] < math.log(20)
    (tmp_path / "s").mkdir()
    made = run(tmp_path / "s", "spans", OPEN, 60)
    [one] = made.recipe.task.predict(made.system, ["w <mask> w d <mask> d"], Greedy())
    assert one.text.split()[0] == "w" and one.text.split()[-1] == "d"


def test_a_mask_that_hides_the_prefix_is_refused() -> None:
    task = Infill(Prefix(), length=11)
    tokenizers = task.learn(["a b c"], TokenizersConfig(target=Words()))
    with pytest.raises(UserError, match=r"set model\.stack\.mask to \{any: \[causal, prefix\]\}"):
        fresh(resolve(CAUSAL), tokenizers, task)
    short = {"decoder_only": {"stack": {**STACK, "position": {"learned": 12}}}}
    with pytest.raises(UserError, match="positions end at 12"):
        fresh(resolve(short), tokenizers, Infill(FillInTheMiddle(), length=11))
