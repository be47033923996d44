"""The table of what an encoder is pretrained on.

row(example, vocabulary, random) -> the example, spoilt             asking(ids, places, vocabulary) -> only these asked
build(config, outputs, counts) -> the model                         loss(outputs, training) -> its loss
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qkv.data.batch import IGNORE
from qkv.data.corruption import Masking, Vocabulary
from qkv.data.pretraining import Example, Row
from qkv.models import EncoderOnlyConfig
from qkv.models.pretraining import PretrainedEncoder, ReplacementDetector
from qkv.training import pretraining as losses


@dataclass(frozen=True)
class Masked(Masking):
    """Hidden tokens are to be told from the rest (Devlin et al. 2019). The fields are those of `Masking`."""

    def row(self, example: Example, vocabulary: Vocabulary, random: np.random.Generator) -> Row:
        """Some of the free tokens, masked."""
        return _masked(self, example, vocabulary, random)

    def asking(self, ids: np.ndarray, places: Sequence[int], vocabulary: Vocabulary) -> Row:
        """<mask> at these places."""
        return _with_masks(ids, places, vocabulary)

    def build(self, config: EncoderOnlyConfig, outputs: Mapping[str, Any], counts: Mapping[str, Sequence[int]]) -> Any:
        """The encoder with its head."""
        return PretrainedEncoder(config, outputs, counts)

    def loss(self, outputs: Mapping[str, Any], training: bool) -> losses.MaskedTokens:
        """Cross-entropy of the hidden tokens."""
        return losses.MaskedTokens(outputs, training)


@dataclass(frozen=True)
class ReplacedTokens(Masking):
    """A small generator fills masks; the encoder says of every token whether it was replaced (Clark et al. 2020)."""

    masked: float = 1.0
    """Share of the chosen tokens that the generator sees as <mask>."""
    random: float = 0.0
    """Share of the chosen tokens that the generator sees as a random token."""
    generator: float = 0.5
    """The generator's width, as a share of the encoder's."""
    weight: float = 50.0
    """Of the detector's loss per token, beside the generator's per masked token."""

    def row(self, example: Example, vocabulary: Vocabulary, random: np.random.Generator) -> Row:
        """Some of the free tokens, masked; and the numbers that the generator's samples are drawn with."""
        row = _masked(self, example, vocabulary, random)
        return Row(row.ids, row.targets, extra={"draw": random.integers(losses.DRAWS, size=len(row.ids))})

    def asking(self, ids: np.ndarray, places: Sequence[int], vocabulary: Vocabulary) -> Row:
        """<mask> at these places, for the generator."""
        return _with_masks(ids, places, vocabulary)

    def build(self, config: EncoderOnlyConfig, outputs: Mapping[str, Any], counts: Mapping[str, Sequence[int]]) -> Any:
        """Both networks. Raises ValueError for a generator's width that the heads do not divide."""
        return ReplacementDetector(config, self.generator)

    def loss(self, outputs: Mapping[str, Any], training: bool) -> losses.ReplacedTokens:
        """The generator's and the detector's."""
        return losses.ReplacedTokens(self.weight)


@dataclass(frozen=True)
class Permuted:
    """Tokens are told one after the other, in an order drawn at random, from the rest of the text and those told before
    (Yang et al. 2019). No <mask> is among what is read, and no independence is assumed between the tokens told."""

    rate: float = 0.15
    """Share of the tokens that is told."""
    dynamic: bool = True
    """A new order in every epoch."""

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate is {self.rate}; give more than 0, at most 1")

    def row(self, example: Example, vocabulary: Vocabulary, random: np.random.Generator) -> Row:
        """The text, then a query for each token that is told: a <mask> at its position, which nobody sees."""
        places = random.permutation(np.flatnonzero(example.free))
        places = places[: max(1, round(self.rate * len(places)))]
        return _told(example.ids, places, np.arange(1, len(places) + 1), vocabulary)

    def asking(self, ids: np.ndarray, places: Sequence[int], vocabulary: Vocabulary) -> Row:
        """Queries for these places, none of which sees the content of another."""
        asked = np.array(places, dtype=np.int64)
        return _told(ids, asked, np.ones(len(asked), dtype=np.int64), vocabulary)

    def build(self, config: EncoderOnlyConfig, outputs: Mapping[str, Any], counts: Mapping[str, Sequence[int]]) -> Any:
        """The encoder with its head; who sees whom is in the tokens' fields."""
        return PretrainedEncoder(config, outputs, counts)

    def loss(self, outputs: Mapping[str, Any], training: bool) -> losses.MaskedTokens:
        """Cross-entropy of the tokens told."""
        return losses.MaskedTokens(outputs, training)


Objective = Masked | ReplacedTokens | Permuted
"""What an encoder can be pretrained on."""


def _masked(masking: Masking, example: Example, vocabulary: Vocabulary, random: np.random.Generator) -> Row:
    ids, targets = example.ids.copy(), np.full(len(example.ids), IGNORE, dtype=np.int64)
    ids[example.free], targets[example.free] = masking.corrupt(example.ids[example.free], vocabulary, random)
    return Row(ids, targets)


def _with_masks(ids: np.ndarray, places: Sequence[int], vocabulary: Vocabulary) -> Row:
    read, targets = ids.copy(), np.full(len(ids), IGNORE, dtype=np.int64)
    read[list(places)], targets[list(places)] = vocabulary.mask, ids[list(places)]
    return Row(read, targets)


def _told(ids: np.ndarray, places: np.ndarray, turns: np.ndarray, vocabulary: Vocabulary) -> Row:
    """Content, with the turn of each place (0: seen by all from the start), and the queries."""
    order = np.zeros(len(ids), dtype=np.int64)
    order[places] = turns
    n = len(places)
    fields = {
        "pos": np.concatenate([np.arange(len(ids)), places]),
        "order": np.concatenate([order, turns]),
        "query": np.concatenate([np.zeros(len(ids), dtype=np.int64), np.ones(n, dtype=np.int64)]),
    }
    targets = np.concatenate([np.full(len(ids), IGNORE, dtype=np.int64), ids[places]])
    return Row(np.concatenate([ids, np.full(n, vocabulary.mask)]), targets, fields)
