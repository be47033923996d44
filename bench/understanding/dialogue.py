"""Dialogue state on WoZ 2.0: how much is read, what is carried, markers; beside rules and logistic regression.

Trained on 532 dialogues; weights are chosen on 68 of the same file, and the file `validate` (200 dialogues, 830 turns)
is what is reported: no figure here is of the published test file, which was not used.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.understanding.records import Cell, Results, spread, table, trained
from qkv.baselines import tfidf
from qkv.data.dialogues import Dialogue, Turn, Woz
from qkv.tasks.dialogue.matching import Matching
from qkv.tasks.dialogue_metrics import request_scores, state_scores
from qkv.tasks.dialogue_state import NONE, DialogueState
from qkv.tasks.mentions import Ontology

ARMS = {
    "carried, last turn": [],
    "carried, all turns": ["task.dialogue_state.history=null"],
    "whole state, last turn": ["task.dialogue_state.carry=false"],
    "whole state, all turns": ["task.dialogue_state.carry=false", "task.dialogue_state.history=null"],
    "carried, last turn, no markers": ["task.dialogue_state.markers=false"],
}
OTHERS = {"German": ["data.woz.language=de"], "Italian": ["data.woz.language=it"]}
FIGURES = ("joint_goal", "slot_accuracy", "request_f1", "request_accuracy")
SLOTS = ("area", "food", "price range")


def run(overrides: Sequence[str], folder: Path, seed: int) -> Cell:
    """Train and evaluate; the folder goes when its figures are known."""
    settings = [*overrides, f"training.seed={seed}", "training.tensorboard=false"]
    found = trained("woz", settings, folder, ("--split", "test"))
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
    each request; features and C chosen on the same dev dialogues by accuracy; carried."""
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

    def answers(label: Any, features: Sequence[tfidf.Features], strengths: Sequence[float]) -> list[str]:
        (texts, right), (dev_texts, dev_right), (test_texts, _) = (
            ([row[0] for row in sides[split]], [label(row) for row in sides[split]]) for split in sides
        )
        return tfidf.learn(texts, right, dev_texts, dev_right, features, strengths).predict(test_texts)

    both, few = [tfidf.Features(1), tfidf.Features(2)], (3.0, 10.0, 30.0)
    slots = {slot: answers(lambda row, slot=slot: row[1][slot], both, few) for slot in SLOTS}  # type: ignore[misc]
    names = sorted({name for *_, turns, _ in sides["train"] for name in turns[-1].requests})
    wanted = {
        name: answers(lambda row, name=name: str(name in row[2][-1].requests), both[:1], few)  # type: ignore[misc]
        for name in names
    }
    states: list[dict[str, str]] = []
    state: dict[str, str] = {}
    for number, (_, _, turns, values) in enumerate(sides["test"]):
        said = {slot: values.get(found[number], found[number]) for slot, found in slots.items()}
        new = {slot: value for slot, value in said.items() if value != NONE and "@" not in value}
        state = (state if len(turns) > 1 else {}) | new
        states.append(state)
    asked = [[name for name in names if wanted[name][number] == "True"] for number in range(len(states))]
    return scored(Woz().load("test"), states, asked)


def _counted(texts: Sequence[Sequence[str]]) -> str:
    """System and user as one text whose words tell who said them, markers and acts as words."""
    system, user = texts
    words = [*(f"system_{word}" for word in system), *user]
    return " ".join(word.replace("@", "_").replace("?", "_asked") if len(word) > 1 else word for word in words)


def main(results: Results) -> str:
    """Measure, and the table."""
    rules = {
        "most frequent state": [results.cell("majority", majority)],
        "string matching, carried": [results.cell("matching", matching)],
        "TF-IDF + logistic regression, carried": [results.cell("linear", linear)],
    }
    runs = {
        f"Transformer, {name}": results.seeds(
            name, lambda seed, o=o, n=name: run(o, results.runs / f"{n} {seed}", seed)
        )
        for name, o in ARMS.items()
    }
    languages = {
        f"Transformer, carried, last turn, {name}": results.seeds(
            name, lambda seed, o=o, n=name: run(o, results.runs / f"{n} {seed}", seed)
        )
        for name, o in OTHERS.items()
    }
    head = ["", "joint goal", "slots", "request F1", "requests exact", "seconds"]
    lines = [
        [name, *(spread(cells, figure) for figure in FIGURES), spread(cells, "seconds", 1, 0)]
        for name, cells in (rules | runs | languages).items()
    ]
    return (
        "## Dialogue state\n\nWoZ 2.0, English unless said, % of the 830 turns of `validate`; 532 dialogues to train "
        "on, 68 to choose weights by; mean (range) of three seeds. The published test file was not used, so these "
        f"figures are not comparable with published ones.\n\n{table(head, lines)}\n\n{results.machine()}"
    )
