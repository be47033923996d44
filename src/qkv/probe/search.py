"""A search written down: what was kept, from whom it descends and what else was considered, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from qkv.decoding import Chooser
from qkv.decoding.state import DEAD, State


@dataclass(frozen=True)
class Node:
    """A hypothesis after one step. parent: its place among the nodes of the step before (−1: the prompt). token: what
    it was given. logp: its log-probability in nats, all tokens counted. ended: it chose the end token."""

    parent: int
    token: int
    logp: float
    ended: bool


@dataclass(frozen=True)
class Step:
    """What one step kept, and for every running hypothesis that it started from (by its place among the nodes of the
    step before) the likeliest next tokens with their log-probabilities."""

    nodes: list[Node]
    candidates: dict[int, list[tuple[int, float]]]


@dataclass
class Recorded:
    """A chooser that chooses as `chooser` does and writes the first row's search into `steps`.

    considered: how many candidates it notes for each hypothesis.

    >>> import torch
    >>> from qkv.decoding import Greedy
    >>> search = Recorded(Greedy())
    >>> state = State.start([0], torch.tensor([9]), width=1, live=1, eos=2)
    >>> _ = search(torch.tensor([[[-3.0, -0.1, -2.0, -4.0]]]), state)
    >>> search.steps[0].nodes
    [Node(parent=-1, token=1, logp=-0.10000000149011612, ended=False)]
    """

    chooser: Chooser
    considered: int = 6
    steps: list[Step] = field(default_factory=list)
    _places: list[int] = field(default_factory=list)  # of each column: the node that it holds

    @property
    def width(self) -> int:
        return self.chooser.width

    @property
    def live(self) -> int:
        return self.chooser.live

    @property
    def n_best(self) -> int:
        return self.chooser.n_best

    def __call__(self, scores: Tensor, state: State) -> tuple[Tensor, Tensor | None, Tensor]:
        """As the chooser that it records."""
        running = [column for column, logp in enumerate(state.logp[0].tolist()) if logp > DEAD]
        places = self._places or [-1] * self.width
        before = list(state.pool[0])
        history = state.ids[0].tolist()
        chosen, parents, logp = self.chooser(scores, state)
        nodes: list[Node] = []
        for hypothesis in state.pool[0]:
            if not any(hypothesis is old for old in before):  # a beam takes what has ended out of the columns
                parent = next(c for c in running if history[c] == hypothesis.ids)
                nodes.append(Node(places[parent], state.eos, hypothesis.logp, True))
        held = [-1] * self.width
        sources = range(self.width) if parents is None else parents[0].tolist()
        for column, (token, source, total) in enumerate(
            zip(chosen[0].tolist(), sources, logp[0].tolist(), strict=True)
        ):
            if total > DEAD:
                held[column] = len(nodes)
                nodes.append(Node(places[source], token, total, token == state.eos))
        self.steps.append(Step(nodes, {places[c]: self._likeliest(scores[0, c]) for c in running}))
        self._places = held
        return chosen, parents, logp

    def _likeliest(self, scores: Tensor) -> list[tuple[int, float]]:
        best, tokens = scores.topk(min(self.considered, len(scores)))
        return [(t, s) for t, s in zip(tokens.tolist(), best.tolist(), strict=True) if s > DEAD]

    def rank(self, logp: float, length: int) -> float:
        """As the chooser that it records."""
        return self.chooser.rank(logp, length)

    def enough(self, state: State, row: int, best: float) -> bool:
        """As the chooser that it records."""
        return self.chooser.enough(state, row, best)


def path(steps: list[Step], ids: list[int], ended: bool, eos: int) -> list[int]:
    """The nodes, one a step, that wrote `ids` and, if it ended by itself, the end token; empty if the search wrote
    no such thing."""
    wanted = [*ids, eos] if ended else list(ids)
    if not 0 < len(wanted) <= len(steps):
        return []
    walked = steps[: len(wanted)]
    for place in range(len(walked[-1].nodes)):
        found = [place]
        for step in reversed(walked[1:]):
            found.append(step.nodes[found[-1]].parent)
        found.reverse()
        if [step.nodes[place].token for step, place in zip(walked, found, strict=True)] == wanted:
            return found
    return []
