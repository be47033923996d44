"""A state that is explicit (A34): carried and edited, topics on a stack, and a tracker trained on simulated users."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import torch

from qkv.data.batch import Batch
from qkv.data.dialogues import Dialogue
from qkv.data.simulation import simulated
from qkv.decoding import Greedy
from qkv.lab.checks import above, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, NoParams, experiment, within
from qkv.tasks.dialogue.state import State
from qkv.tasks.dialogue_state import DialogueState
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.text import Words

MODEL = {
    "encoder_only": {
        "stack": {
            "d_model": 32,
            "n_layers": 1,
            "position": "rotary",
            "embedding": {"segments": 2, "dropout": 0.1},
            "block": {"placement": "pre", "dropout": 0.1, "feedforward": {"feed_forward": {"d_ff": 64}}},
        }
    }
}


def changes(rows: list[Dialogue]) -> list[list[dict[str, str]]]:
    """What each turn of each dialogue really changes."""
    found: list[list[dict[str, str]]] = []
    for row in rows:
        before: dict[str, str] = {}
        found.append([])
        for turn in row.turns:
            now = dict(turn.state or {})
            found[-1].append({slot: value for slot, value in now.items() if before.get(slot) != value})
            before = now
    return found


@experiment()
def state_stack(lab: Lab, params: NoParams) -> None:
    """Digressions and corrections leave every other slot as it was, if topics have slots of their own."""
    rows = simulated(200, random.Random(lab.seed))
    turns = [turn for row in rows for turn in row.turns]
    told = changes(rows)
    lab.number("turns", len(turns))
    replaced = sum(
        slot in (row.turns[i - 1].state or {}) for row, each in zip(rows, told, strict=True)
        for i, new in enumerate(each) for slot in new if i
    )  # fmt: skip
    lab.number("corrections", replaced)
    both = [row for row in rows if {"table/day", "taxi/day"} <= (row.turns[-1].state or {}).keys()]
    lab.number("both_topics", len(both))

    def name(slot: str, topics: bool) -> str:
        return slot if topics else slot.rpartition("/")[2]

    def wrong(topics: bool) -> int:
        """Turns after which the edited state is not the user's."""
        count = 0
        for row, each in zip(rows, told, strict=True):
            state = State()
            for turn, new in zip(row.turns, each, strict=True):
                state = replace(state, turn=state.turn + 1)
                for slot, value in new.items():
                    state = state.filled(name(slot, topics), value)
                known = {slot: state.values.get(name(slot, topics)) for slot in turn.state or {}}
                count += known != dict(turn.state or {})
        return count

    lab.claim(
        "intact",
        Text(
            "After every correction and every digression the state is the user's, in every slot.",
            "每次更正、每次跑题之后，状态的每个槽位都与用户的一致。",
        ),
        measure=wrong,
        arm=True,
        control=False,
        without=Text(
            "topics: one flat list of slots, in which two days are one", "不分话题：槽位平铺，两个“日期”成了一个"
        ),
        holds=exactly(0),
    )


@dataclass(frozen=True)
class Training:
    """rows: simulated dialogues to train on. steps: updates of 32 turns. tested: dialogues that are measured."""

    rows: Annotated[int, within(50, 2000)] = 300
    steps: Annotated[int, within(50, 2000)] = 220
    tested: Annotated[int, within(20, 500)] = 100


@experiment(long=True)
def tracked_dialogues(lab: Lab, params: Training) -> None:
    """A tracker that reads one turn and carries the state tracks it; without carrying, one turn is not enough."""
    rows = simulated(params.rows, random.Random(1))
    test = simulated(params.tested, random.Random(2))

    @cache
    def scores(carry: bool, history: int | None, seed: int) -> dict[str, float]:
        task = DialogueState(carry=carry, history=history)
        tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
        torch.manual_seed(seed)
        model = fresh(resolve(MODEL), tokenizers, task)
        source = task.batches(rows, tokenizers, seed=0)

        def batch(generator: torch.Generator) -> Batch:
            return source.load(torch.randint(len(source), (32,), generator=generator).tolist())

        lab.train(model, batch, params.steps, seed=seed, learning_rate=6e-3, loss=task.loss(True))
        return task.evaluate(System(model, tokenizers), test, Greedy())

    lab.claim(
        "joint_goal",
        Text(
            "The whole state is right in four of five turns, though only the last turn is read: the rest is carried.",
            "只读最后一轮，其余靠携带：五轮里至少四轮整个状态全对。",
        ),
        measure=lambda carry, seed: scores(carry, 1, seed)["joint_goal"],
        arm=True,
        control=False,
        without=Text("carrying: the last turn has to say the whole state", "不携带：要从最后一轮说出整个状态"),
        holds=above(0.8),
        seeds=3,
    )
    whole = scores(False, None, lab.seed)
    lab.number("all_turns", whole["joint_goal"])
    lab.number("all_turns_slots", whole["slot_accuracy"])
    lab.number("slots", scores(True, 1, lab.seed)["slot_accuracy"])
    lab.number("requests", scores(True, 1, lab.seed)["request_f1"])
