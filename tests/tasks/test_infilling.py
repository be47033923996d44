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
from qkv.decoding.state import State
from qkv.errors import UserError
from qkv.nn import Tokens
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.gaps import FillInTheMiddle, Gaps, MarksInTurn, Prefix, Spans
from qkv.tasks.infilling import Infill
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
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


def test_all_that_is_told_is_asked_for() -> None:
    for seed in range(50):
        row = Prefix().row(WINDOW, GAPS, np.random.default_rng(seed))
        assert (row.targets != IGNORE).sum() == len(WINDOW) - row.fields["prefix"].sum()
        whole = FillInTheMiddle().row(WINDOW, gaps(FillInTheMiddle()), np.random.default_rng(seed))
        assert (whole.targets != IGNORE).all()


def test_a_prompt_is_read_in_both_directions() -> None:
    task = Infill(Prefix(), length=11)
    tokenizers = task.learn(["a b c d e f g h i j k l m n"], TokenizersConfig(target=Words()))
    torch.manual_seed(0)
    model: Any = fresh(resolve(OPEN), tokenizers, task).eval()
    ids = torch.tensor([[tokenizers.bos, *tokenizers.target.encode("a b c d e f g")]])
    tokens = Tokens.arange(1, 8)
    scores = model.head(model(ids, tokens.with_fields(prefix=torch.ones_like(ids))))[0, -1].detach().log_softmax(-1)
    scores[list(tokenizers.unwritten)] = float("-inf")
    [one] = task.predict(System(model, tokenizers), ["a b c d e f g"], Greedy(), max_new=1)
    assert one.scores[0] == pytest.approx(float(scores.max()), abs=1e-5)


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
    assert prompt.filling([4, 9, 9]) == [[9, 9], []] and prompt.whole([5, 10, 7]) == [20, 21, 10, 22]
    prompt = Prefix().prompt([[20]], GAPS)
    assert prompt.ids == [1, 20] and prompt.whole([9]) == [20, 9]
    with pytest.raises(ValueError, match="2 gaps"):
        FillInTheMiddle().prompt([[], [], []], GAPS)
    with pytest.raises(ValueError, match="0 gaps"):
        Spans().prompt([[20]], GAPS)
    with pytest.raises(ValueError, match="leave <mask> out"):
        Prefix().prompt([[20], []], GAPS)


def run(tmp_path: Path, objective: Any, model: dict, steps: int) -> Any:
    """A run on documents of one word, which fill a window each: before an empty prefix only what follows tells it."""
    lines = [" ".join([word] * 8) for word in "uvwxyzabcdef"] * 6
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
    [one] = made.recipe.task.predict(made.system, ["<mask> w w w"], Greedy())
    assert set(one.text.split()) == {"w"} and one.text == f"{one.details['gaps'][0]} w w w"
    with pytest.raises(UserError, match="text 1: it has 2 gaps"):
        made.recipe.task.predict(made.system, ["<mask> u <mask>"], Greedy())


def test_a_prefix_and_spans_are_answered(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    made = run(tmp_path / "p", "prefix", OPEN, 60)
    [one] = made.recipe.task.predict(made.system, ["w w w w"], Greedy(), max_new=4)
    assert one.text.startswith("w w w w w") and one.details["gaps"] == [one.text.removeprefix("w w w w ")]
    assert made.recipe.task.evaluate(made.system, ["w w w w w w w w"], Greedy())["loss"] < math.log(20)
    (tmp_path / "s").mkdir()
    made = run(tmp_path / "s", {"spans": {"rate": 0.4}}, OPEN, 200)
    [one] = made.recipe.task.predict(made.system, ["w w <mask> w w"], Greedy())
    assert one.details["gaps"][0] and one.text == f"w w {one.details['gaps'][0]} w w"
    assert set(one.text.split()) == {"w"}


def test_marks_are_told_in_turn() -> None:
    """By a loop over what may follow: the first mark, then anything but a mark, then the next mark too."""
    marks, size = (4, 5, 6), 9
    for told, allowed in [
        ([], [4]),
        ([4], [0, 1, 2, 3, 7, 8]),
        ([4, 7], [0, 1, 2, 3, 5, 7, 8]),
        ([4, 7, 5], [0, 1, 2, 3, 7, 8]),
        ([4, 7, 5, 8, 8], [0, 1, 2, 3, 6, 7, 8]),
    ]:
        state = State.start([0, 1], torch.tensor([9, 9]), 1, 1, eos=2)
        state.ids = torch.tensor([told, told], dtype=torch.long).unsqueeze(1)
        scores = MarksInTurn(marks)(torch.zeros(2, 1, size), state)
        assert (scores[1, 0] > float("-inf")).nonzero().flatten().tolist() == allowed


def test_a_mask_that_hides_the_prefix_is_refused() -> None:
    task = Infill(Prefix(), length=11)
    tokenizers = task.learn(["a b c"], TokenizersConfig(target=Words()))
    hidden = {"decoder_only": {"stack": {**STACK, "mask": {"all": ["causal", "prefix"]}}}}
    for model in (CAUSAL, hidden):
        with pytest.raises(UserError, match=r"set model\.stack\.mask to \{any: \[causal, prefix\]\}"):
            fresh(resolve(model), tokenizers, task)
    short = {"decoder_only": {"stack": {**STACK, "position": {"learned": 12}}}}
    with pytest.raises(UserError, match="positions end at 12"):
        fresh(resolve(short), tokenizers, Infill(FillInTheMiddle(), length=11))
