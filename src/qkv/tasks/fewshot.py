"""Few examples, or none: labels as points in a space of texts that an encoder brings along.

prototypes  a label is the mean of its examples' vectors (Snell et al. 2017): a linear classifier without training
described   a label is the vector of its own description: no example at all (Chang et al. 2008)
contrast    the encoder learns from pairs of examples, which are alike if their labels are (Tunstall et al. 2022)

An encoder here is any function from texts to vectors [N,E]: `SentenceEncoder.embed`, or `vectors_of(system)`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.couples import SIMILARITY, Couple, Couples
from qkv.data.labelled import Labelled
from qkv.data.readings import Reading
from qkv.errors import UserError
from qkv.models import Reader, pooled
from qkv.models.likeness import Regression
from qkv.tasks.reading import framed, side_by_side
from qkv.tasks.task import System
from qkv.training.config import TrainingConfig
from qkv.training.fit import fit
from qkv.training.objectives import OutputLosses

Encode = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Points:
    """A label is a point. names [C]; points [C,E]. Answers with the label whose point is nearest."""

    names: tuple[str, ...]
    points: Tensor

    def linear(self) -> tuple[Tensor, Tensor]:
        """weight [C,E], bias [C] with weight·x + bias = |x|² − |x − point|²: what is nearest is what scores most.

        −|x − c|² = 2c·x − |c|² − |x|², and |x|² is the same for all labels: a linear classifier with weight 2c and bias
        −|c|² (Snell et al. 2017, §2.4)."""
        return 2 * self.points, -self.points.square().sum(1)

    def scores(self, vectors: Tensor) -> Tensor:
        """vectors [N,E] -> [N,C]."""
        weight, bias = self.linear()
        return F.linear(vectors, weight, bias)

    def predict(self, vectors: Tensor) -> list[str]:
        """The nearest label of each vector."""
        return [self.names[i] for i in self.scores(vectors).argmax(1).tolist()]

    def accuracy(self, vectors: Tensor, labels: Sequence[str]) -> float:
        """The share of vectors whose nearest label is theirs."""
        return sum(a == b for a, b in zip(self.predict(vectors), labels, strict=True)) / max(1, len(labels))


def prototypes(vectors: Tensor, labels: Sequence[str]) -> Points:
    """A point a label: the mean of its examples' vectors [N,E]. Raises UserError where there are none."""
    if not labels:
        raise UserError("there are no examples; give at least one a label, or describe the labels")
    names = tuple(sorted(set(labels)))
    of = torch.tensor([[label == name for label in labels] for name in names], dtype=vectors.dtype)
    return Points(names, of @ vectors / of.sum(1, keepdim=True))


def described(encode: Encode, labels: Sequence[str] | Mapping[str, str]) -> Points:
    """A point a label: the vector, of length 1, of its description; of its name in words where only names are given."""
    texts = dict(labels) if isinstance(labels, Mapping) else {label: in_words(label) for label in sorted(set(labels))}
    if not texts:
        raise UserError("there are no labels to describe; give at least two")
    return Points(tuple(texts), F.normalize(encode(list(texts.values())), dim=-1))


def in_words(label: str) -> str:
    """A label's name as a reader would say it.

    >>> in_words("Refund_not_showing_up"), in_words("DESC:manner")
    ('refund not showing up', 'desc manner')
    """
    return " ".join(label.replace("_", " ").replace("-", " ").replace(":", " ").lower().split())


def shots(rows: Sequence[Labelled], count: int, seed: int = 0) -> list[Labelled]:
    """So many examples of each label, drawn by the seed; all of a label that has fewer."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    left = dict.fromkeys({row.labels for row in rows}, count)
    chosen = []
    for i in order:
        if left[rows[i].labels] > 0:
            left[rows[i].labels] -= 1
            chosen.append(i)
    return [rows[i] for i in sorted(chosen)]


def pairs(labels: Sequence[Any], rounds: int, seed: int = 0) -> list[tuple[int, int, float]]:
    """Pairs of examples: in each round, each example with one of its own label (1.0) and one of another (0.0).

    An example that is alone with its label is paired with itself."""
    rng = random.Random(seed)
    groups: dict[Any, list[int]] = {}
    for i, label in enumerate(labels):
        groups.setdefault(label, []).append(i)
    if len(groups) < 2:
        raise UserError(f"the examples have {len(groups)} label; contrast needs two or more")
    found: list[tuple[int, int, float]] = []
    for _ in range(rounds):
        for i, label in enumerate(labels):
            own = [j for j in groups[label] if j != i] or [i]
            other = rng.choice([key for key in groups if key != label])
            found += [(i, rng.choice(own), 1.0), (i, rng.choice(groups[other]), 0.0)]
    return found


def contrast(
    system: System, rows: Sequence[Labelled], config: TrainingConfig, out: Path, rounds: int = 5, size: int = 32
) -> System:
    """An encoder fine-tuned so that cosines are 1 within a label and 0 between labels, by `fit` in the folder `out`.

    The system's encoder is trained in place; what comes back holds it without its outputs. rounds: pairs of either kind
    an example. size: pairs a batch. Raises UserError for a model without an encoder."""
    encoder = getattr(system.model, "encoder", None)
    if encoder is None:
        raise UserError("contrast trains an encoder, and this model has none; give a run of a task that reads")
    made: Any = Reader(system.model.config, {SIMILARITY: Regression()}, {SIMILARITY: ()})  # type: ignore[arg-type]
    made.encoder = encoder
    texts = [row.text for row in rows]
    ids = [x for x, _ in framed(system.tokenizers, texts, [None] * len(texts), made.max_length or 512)]
    couples = [Couple(ids[a], ids[b], like) for a, b, like in pairs([r.labels for r in rows], rounds, config.seed)]
    source = Couples(couples, size, config.seed, system.tokenizers.target.pad_id or 0)
    fit(made, OutputLosses({SIMILARITY: Regression()}), source, config, out, progress=False)
    return System(made, system.tokenizers)


def vectors_of(system: System, longest: int = 256) -> Encode:
    """Texts -> the mean of their hidden states in a system's encoder, of length 1, [N,E]."""

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Tensor:
        model: Any = system.model.eval()
        found = torch.zeros(len(texts), model.config.stack.d_model)
        ids = framed(system.tokenizers, texts, [None] * len(texts), min(longest, model.max_length or longest))
        source = side_by_side(system, [Reading(x) for x, _ in ids])
        for rows in source.plan(0):
            batch = source.load(rows).to(system.device)
            memory = model.encode(batch.ids, batch.tokens)
            found[rows] = F.normalize(pooled(memory.x, memory.tokens), dim=-1).cpu()
        return found

    return encode
