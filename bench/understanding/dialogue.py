"""Dialogue state on WoZ 2.0: how much is read, what is carried, markers; beside rules and logistic regression.

Trained on 532 dialogues; weights are chosen on 68 of the same file, and the file `validate` (200 dialogues, 830 turns)
is what is reported: no figure here is of the published test file, which was not used.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from bench.understanding.records import Cell, Results, spread, table, trained
from qkv.baselines import tfidf
from qkv.data.dialogues import Dialogue, Turn, Woz
from qkv.tasks.dialogue.matching import Matching
from qkv.tasks.dialogue_metrics import request_scores, state_scores
from qkv.tasks.dialogue_state import NONE, SLOT, DialogueState
from qkv.tasks.mentions import Ontology, is_marker

ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "carried, last turn": ({}, "en"),
    "carried, last turn, no markers": ({"markers": False}, "en"),
    "carried, all turns": ({"history": None}, "en"),
    "whole state, all turns": ({"carry": False, "history": None}, "en"),
    "whole state, last turn": ({"carry": False}, "en"),
    "carried, last turn, German": ({}, "de"),
    "carried, last turn, Italian": ({}, "it"),
    "carried, last turn, stem, 500 steps": ({"stem": "convolution"}, "en"),
}
"""Settings of the task, and the language."""
SHORT = ("training.max_steps=500", "training.eval_every=100", "training.schedule={cosine: {warmup: 50, final: 0.01}}")
"""A third of the recipe's steps."""
FIGURES = ("joint_goal", "slot_accuracy", "request_f1", "request_accuracy")
SLOTS = ("area", "food", "price range")


def run(settings: dict[str, Any], language: str, folder: Path, seed: int) -> Cell:
    """Train and evaluate; the folder goes when its figures are known."""
    overrides = [f"task.dialogue_state.{name}={json.dumps(value)}" for name, value in settings.items()]
    overrides += [f"data.woz.language={language}", f"training.seed={seed}", "training.tensorboard=false"]
    overrides += SHORT if "stem" in settings else ()
    found = trained("woz", overrides, folder, ("--split", "test"))
    shutil.rmtree(folder)
    return found


def scored(rows: Sequence[Dialogue], states: Sequence[dict[str, str]], asked: Sequence[Sequence[str]]) -> Cell:
    """The measures of tracked states."""
    turns = [turn for row in rows for turn in row.turns]
    right = state_scores(states, [turn.state or {} for turn in turns], SLOTS)
    return {**right, **request_scores(asked, [turn.requests for turn in turns])}


def majority() -> Cell:
    """The most frequent state and the most frequent set of requests, in every turn."""
    turns = [turn for row in Woz().load("train") for turn in row.turns]
    state = Counter(tuple(sorted((turn.state or {}).items())) for turn in turns).most_common(1)[0][0]
    asked = Counter(turn.requests for turn in turns).most_common(1)[0][0]
    test = Woz().load("test")
    count = sum(len(row.turns) for row in test)
    return scored(test, [dict(state)] * count, [asked] * count)


def ontology(rows: Sequence[Dialogue]) -> Ontology:
    """The values of training."""
    return DialogueState().ontology(DialogueState().labels(rows))


def matching() -> Cell:
    """Values by their words, the last one said; what is asked for by its name; carried."""
    train, test = Woz().load("train"), Woz().load("test")
    names = sorted({name for row in train for turn in row.turns for name in turn.requests})
    tracker = Matching(ontology(train), names)
    states, asked = [], []
    for row in test:
        state: dict[str, str] = {}
        for turn in row.turns:
            heard = tracker([turn])
            state = state | {slot: value for slot, (value, _) in heard.updates.items()}
            states.append(state)
            asked.append(heard.requests)
    return scored(test, states, asked)


def linear() -> Cell:
    """TF-IDF of what the recipe's model reads, markers and acts included, and logistic regression: one a slot, one for
    each request; features and C chosen on the same dev dialogues by accuracy. As of the Transformer, the likeliest
    label that can be holds; carried."""
    task = DialogueState()
    known = ontology(Woz().load("train"))
    sides: dict[str, list[tuple[str, dict[str, str], Sequence[Turn], dict[str, str]]]] = {}
    for split in ("train", "dev", "test"):
        sides[split] = []
        for row in Woz().load(split):  # type: ignore[arg-type]
            for end in range(1, len(row.turns) + 1):
                view, _ = task.view(known, row.turns[:end])
                sides[split].append(
                    (_counted(view.texts), task.right(known, row.turns[:end]), row.turns[:end], view.values)
                )

    def ranked(label: Any, features: Sequence[tfidf.Features], strengths: Sequence[float]) -> list[list[str]]:
        """Labels of each turn of the test file, the likeliest first."""
        (texts, right), (dev_texts, dev_right), (test_texts, _) = (
            ([row[0] for row in sides[split]], [label(row) for row in sides[split]]) for split in sides
        )
        learned = tfidf.learn(texts, right, dev_texts, dev_right, features, strengths)
        return [[learned.labels[i] for i in p.argsort()[::-1]] for p in learned.probabilities(test_texts)]

    both, few = [tfidf.Features(1), tfidf.Features(2)], (3.0, 10.0, 30.0)
    slots = {slot: ranked(lambda row, slot=slot: row[1][slot], both, few) for slot in SLOTS}  # type: ignore[misc]
    names = sorted({name for *_, turns, _ in sides["train"] for name in turns[-1].requests})
    wanted = {
        name: ranked(lambda row, name=name: str(name in row[2][-1].requests), both[:1], few)  # type: ignore[misc]
        for name in names
    }
    states: list[dict[str, str]] = []
    state: dict[str, str] = {}
    for number, (_, _, turns, values) in enumerate(sides["test"]):
        best = {slot: next(x for x in found[number] if "@" not in x or x in values) for slot, found in slots.items()}
        new = {slot: values.get(label, label) for slot, label in best.items() if label != NONE}
        state = (state if len(turns) > 1 else {}) | new
        states.append(state)
    asked = [[name for name in names if wanted[name][number][0] == "True"] for number in range(len(states))]
    return scored(Woz().load("test"), states, asked)


def _counted(texts: Sequence[Sequence[str]]) -> str:
    """System and user as one text whose words tell who said them, markers and acts as words."""
    system, user = texts
    words = [*(f"system_{word}" for word in system), *user]
    return " ".join(word.replace("@", "_").replace("?", "_asked") if len(word) > 1 else word for word in words)


def ceiling(settings: dict[str, Any], language: str) -> Cell:
    """What the right labels of an arm give: less than 1 where a value was never seen in training. cut: turns of which
    not all is read. longest: words of the longest, begin and ends included. idle: of the slots that a turn as it is
    read names a value of, the share whose label is none of the values named."""
    task, data = DialogueState(**{name: value for name, value in settings.items() if name != "stem"}), Woz(language)  # type: ignore[arg-type]
    labels = task.labels(data.load("train"))
    known, states, lengths, idle = task.ontology(labels), [], [], []
    for row in data.load("test"):
        state: dict[str, str] = {}
        for end in range(1, len(row.turns) + 1):
            view, _ = task.view(known, row.turns[:end])
            right = task.right(known, row.turns[:end])
            given = {slot: x for slot, x in right.items() if x != NONE and x in labels[SLOT + slot].numbers}
            state = (state if task.carry else {}) | {slot: view.values.get(x, x) for slot, x in given.items()}
            states.append(state)
            lengths.append(1 + sum(len(text) + 1 for text in view.texts))
            named = {slot for slot in right for name in view.values if is_marker(name, slot)}
            idle += [right[slot] not in view.values for slot in named]
    turns = [turn for row in data.load("test") for turn in row.turns]
    cut = sum(length > task.longest for length in lengths)
    read = {"cut": cut, "longest": max(lengths), "idle": sum(idle) / max(1, len(idle))}
    return {**state_scores(states, [turn.state or {} for turn in turns], SLOTS), **read}


def main(results: Results) -> str:
    """Measure, and the table."""
    rules = {
        "most frequent state": [results.cell("majority", majority)],
        "string matching, carried": [results.cell("matching", matching)],
        "TF-IDF + logistic regression, carried": [results.cell("linear", linear)],
    }
    best = {
        name: results.cell(f"ceiling, {name}", lambda arm=arm: ceiling(*arm))  # type: ignore[misc]
        for name, arm in ARMS.items()
    }
    runs = {
        name: results.seeds(name, lambda seed, a=arm, n=name: run(*a, results.runs / f"{n} {seed}", seed))
        for name, arm in ARMS.items()
    }
    head = ["", "joint goal", "slots", "request F1", "requests exact", "right labels give", "seconds"]
    lines = [
        [name, *(spread(cells, figure) for figure in FIGURES), "", spread(cells, "seconds", 1, 0)]
        for name, cells in rules.items()
    ]
    lines += [
        [f"Transformer, {name}", *(spread(cells, figure) for figure in FIGURES),
         spread([best[name]], "joint_goal"), spread(cells, "seconds", 1, 0)]
        for name, cells in runs.items()
    ]  # fmt: skip
    cut = sum(cell.get("cut", 0) for cell in best.values())
    longest = max((cell.get("longest", 0) for cell in best.values()), default=0)
    last, whole = (spread([best[name]], "idle", digits=0) for name in ("carried, last turn", "carried, all turns"))
    why = (
        f"Of {cut} turns not all is read (the longest is {longest} words), so what is lost over all turns is lost in "
        "learning: where a slot's value is named in what is read, it is not what the turn says of the slot in "
        f"{whole} % of the cases; where the last turn is read, in {last} %."
    )
    seen = {name: spread(cells, "joint_goal") for name, cells in runs.items() if cells and ARMS[name][1] == "en"}
    top = max(seen, key=lambda name: mean(cell["joint_goal"] for cell in runs[name]), default="")
    outcome = (
        f"On the same markers logistic regression has {spread(list(rules.values())[-1], 'joint_goal')}, the best "
        f"Transformer ({top}) {seen.get(top, '–')}."
    )
    return (
        "## Dialogue state\n\nWoZ 2.0, English unless said, % of the 830 turns of `validate`; 532 dialogues to train "
        "on, 68 to choose weights by; mean (range) of three seeds. The published test file was not used, so these "
        "figures are not comparable with published ones. *Right labels give*: joint goal accuracy if every label that "
        f"training has were right. {why}\n\n{table(head, lines)}\n\n{outcome}\n\n{results.machine()}"
    )
