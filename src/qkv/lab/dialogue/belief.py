"""Belief over what a user wants (A34): the forward filter, and a Transformer that reads all turns or only the last."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Causal, Window


@dataclass(frozen=True)
class Wanting:
    """A user who wants one of `goals` things, and another with probability `change` a turn. Each turn says nothing of
    it with probability `silent`, and else names it, wrongly (or misheard) with probability `noise`. turns: of a
    dialogue. steps: of training. tested: dialogues that are measured."""

    goals: Annotated[int, within(2, 8)] = 4
    change: Annotated[float, within(0, 0.5)] = 0.1
    silent: Annotated[float, within(0, 0.9)] = 0.5
    noise: Annotated[float, within(0, 0.5)] = 0.2
    turns: Annotated[int, within(2, 24)] = 10
    steps: Annotated[int, within(50, 1000)] = 250
    tested: Annotated[int, within(50, 2000)] = 500


@dataclass(frozen=True)
class User:
    """moves [K,K]: p(s | s'). says [K,K+1]: p(o | s), the last column is silence."""

    moves: Tensor
    says: Tensor

    @classmethod
    def of(cls, params: Wanting) -> User:
        k, eye = params.goals, torch.eye(params.goals).double()
        moves = (1 - params.change) * eye + params.change * (1 - eye) / (k - 1)
        named = (1 - params.noise) * eye + params.noise * (1 - eye) / (k - 1)
        says = torch.cat([(1 - params.silent) * named, torch.full((k, 1), params.silent).double()], 1)
        return cls(moves, says)

    def draw(self, rows: int, turns: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What is wanted and what is said, [rows,turns] each."""
        goals = [torch.randint(len(self.moves), (rows,), generator=generator)]
        for _ in range(turns - 1):
            goals.append(torch.multinomial(self.moves[goals[-1]], 1, generator=generator)[:, 0])
        wanted = torch.stack(goals, 1)
        said = torch.multinomial(self.says[wanted.flatten()], 1, generator=generator).view_as(wanted)
        return wanted, said

    def filtered(self, said: Tensor) -> Tensor:
        """The belief after each turn, [rows,turns,K]: b'(s) ∝ p(o | s) Σ p(s | s') b(s')."""
        belief = torch.full((len(said), len(self.moves)), 1 / len(self.moves)).double()
        found = []
        for turn in range(said.shape[1]):
            belief = (belief @ self.moves if turn else belief) * self.says[:, said[:, turn]].T
            belief = belief / belief.sum(1, keepdim=True)
            found.append(belief)
        return torch.stack(found, 1)

    def last_only(self, said: Tensor) -> Tensor:
        """The belief that the present turn alone gives: the prior is uniform whatever was said before."""
        belief = self.says[:, said].permute(1, 2, 0)
        return belief / belief.sum(-1, keepdim=True)

    def enumerated(self, said: Tensor) -> Tensor:
        """The belief after the last turn, [rows,K], by summing over all K^turns histories of what was wanted."""
        k, turns = len(self.moves), said.shape[1]
        total = torch.zeros(len(said), k).double()
        for path in itertools.product(range(k), repeat=turns):
            p = torch.full((len(said),), 1 / k).double()
            for turn, goal in enumerate(path):
                p = p * (self.moves[path[turn - 1], goal] if turn else 1.0) * self.says[goal, said[:, turn]]
            total[:, path[-1]] += p
        return total / total.sum(1, keepdim=True)


@experiment()
def belief_update(lab: Lab, params: Wanting) -> None:
    """Carrying a belief from turn to turn loses nothing of the history."""
    user, turns = User.of(params), min(params.turns, 6)
    _, said = user.draw(50, turns, lab.generator())
    truth = user.enumerated(said)
    lab.number("histories", params.goals**turns)
    kinds = {"carried": user.filtered(said)[:, -1], "last": user.last_only(said)[:, -1]}
    lab.claim(
        "exact",
        Text(
            "The belief that is carried and updated equals the posterior by summing over all histories.",
            "逐轮携带、更新的信念，等于对所有历史求和得到的后验。",
        ),
        measure=lambda kind: (kinds[kind] - truth).abs().max(),
        arm="carried",
        control="last",
        without=Text("the belief before the turn", "不携带前一轮的信念"),
        holds=below(1e-12),
    )


@experiment(long=True)
def dialogue_filter(lab: Lab, params: Wanting) -> None:
    """A Transformer that reads all turns learns the exact filter; one that reads the last turn cannot."""
    user = User.of(params)
    wanted, said = user.draw(params.tested, params.turns, lab.generator(9))
    exact = user.filtered(said)

    def batch(generator: torch.Generator) -> Batch:
        goals, words = user.draw(64, params.turns, generator)
        return small.labelled(words, goals)

    @cache
    def belief(history: bool, seed: int) -> Tensor:
        """[rows,turns,K], in logarithms."""
        torch.manual_seed(seed)
        mask = Causal() if history else Window(back=0, ahead=0)
        model = small.decoder(params.goals + 1, mask=mask)
        lab.train(model, batch, params.steps, seed=seed)
        return small.logits(model, small.labelled(said, wanted))[..., : params.goals].double().log_softmax(-1)

    def divergence(history: bool, seed: int) -> Tensor:
        return (exact * (exact.clamp_min(1e-30).log() - belief(history, seed))).sum(-1).mean()

    lab.claim(
        "filter",
        Text("KL from the exact filter is small at every turn on average.", "平均到每一轮，与精确滤波的 KL 很小。"),
        measure=divergence,
        arm=True,
        control=False,
        without=Text("a mask that shows the present turn only", "掩码只让看当前一轮"),
        holds=below(0.05),
        unit="nats",
        seeds=3,
    )

    def right(table: Tensor) -> Tensor:
        return (table.argmax(-1) == wanted)[:, params.turns // 2 :].double().mean()

    lab.number("filter_accuracy", right(exact))
    lab.number("last_accuracy", right(user.last_only(said)))
    lab.number("history_accuracy", right(belief(True, lab.seed)))
    lab.number("turn_accuracy", right(belief(False, lab.seed)))
    names = {"exact": Text("exact filter", "精确滤波"), "all": Text("reads all turns", "读所有轮"),
             "last": Text("reads the last turn", "只读最后一轮")}  # fmt: skip
    curves = {"exact": exact, "all": belief(True, lab.seed), "last": belief(False, lab.seed)}
    lab.figure(
        "turns",
        figures.lines(
            Text("What the user wants, guessed after each turn", "每一轮之后猜中用户目标的比例"),
            Text("turn", "轮"),
            Text("share right", "正确率"),
            {
                name: list(enumerate((table.argmax(-1) == wanted).double().mean(0).tolist(), 1))
                for name, table in curves.items()
            },
            names,
        ),
    )
