"""How alike two texts are: an encoder reads each by itself, and the cosine of their vectors says it (a bi-encoder).

A file of one's own has the columns `text`, `second` and `label`, the label being a number: how alike people find the
two, from 0 to `scale`. Contrastive training takes the pairs that reach `least` of that; training without labels
(`two_dropouts`) reads the texts only, and any number will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data import labelled
from qkv.data.batch import pad
from qkv.data.couples import SIMILARITY, Couple, Couples
from qkv.data.labelled import Labelled
from qkv.decoding import Chooser
from qkv.errors import UserError
from qkv.models import EncoderOnlyConfig, ModelConfig, Reader
from qkv.models.likeness import InBatch, Likeness, Regression
from qkv.nn import Tokens
from qkv.tasks.labels import Labels
from qkv.tasks.reading import CELLS, framed
from qkv.tasks.similarity_metrics import correlations
from qkv.tasks.task import Prediction, System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.training.objectives import OutputLosses


@dataclass(frozen=True)
class Similarity(Task):
    """An encoder turns every text into one vector; alike are those at a small angle."""

    output: Likeness = field(default_factory=Regression)
    """regression: cosines fitted to scores; in_batch: pairs that mean the same, the rest of the batch as negatives;
    two_dropouts: the same with each text as its own pair, without labels."""
    scale: float = 5.0
    """The score of two texts that mean the same; 0 is the score of those that have nothing in common."""
    batch: int = 64
    """Pairs of a training batch, texts of all lengths mixed."""
    longest: int = 128
    """Tokens of the longest text, specials included; the end of a longer one is not read."""

    rows: ClassVar[str] = "labelled"
    shape: ClassVar[str] = "encoder_only"
    column: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"scale is {self.scale}; give the highest score, a number above 0")
        if self.batch < 2:
            raise ValueError(f"batch is {self.batch}; give 2 pairs or more")
        if self.longest < 3:
            raise ValueError(f"longest is {self.longest}; give 3 or more, for a begin, an end and a word")

    def read(self, path: str) -> list[Labelled]:
        """The rows of a TSV or JSONL file with `text`, `second` and `label`."""
        rows = labelled.labelled(path)
        for row in rows:
            self.score(row)
        return rows

    def score(self, row: Labelled) -> float:
        """How alike the two texts of a row are, from 0 to 1. Raises UserError for a row that does not say it."""
        if row.second is None:
            raise UserError(f"{row.text[:40]!r} has no second text; give the columns text, second and label")
        text = row.labels[0] if len(row.labels) == 1 else ""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= self.scale:
            raise UserError(
                f"{row.text[:40]!r} has the label {text!r}; give a number from 0 to {self.scale:g}, or set "
                "task.similarity.scale to the highest score"
            )
        return value / self.scale

    def learn(self, rows: Sequence[Labelled], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, from all texts."""
        texts = [text for row in rows for text in (row.text, row.second) if text is not None]
        return Tokenizers(learn(config, texts).target, None, Labels())

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Reader:
        """The encoder of the config; its vectors are an output without weights."""
        assert isinstance(config, EncoderOnlyConfig)
        return Reader(config, {SIMILARITY: self.output}, {SIMILARITY: ()})

    def batches(
        self, rows: Sequence[Labelled], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> Couples:
        """Batches of the couples that the objective trains on."""
        chosen = self._couples(spaced(rows, limit) if seed is None else rows)
        seconds = [None] * len(chosen)
        first, second = (
            [ids for ids, _ in framed(tokenizers, texts, seconds, self.longest)]
            for texts in ([row[0] for row in chosen], [row[1] for row in chosen])
        )
        couples = [Couple(a, b, row[2]) for a, b, row in zip(first, second, chosen, strict=True)]
        return Couples(couples, self.batch, seed, tokenizers.target.pad_id or 0)

    def _couples(self, rows: Sequence[Labelled]) -> list[tuple[str, str, float]]:
        if self.output.own:
            texts = dict.fromkeys(text for row in rows for text in (row.text, row.second) if text is not None)
            return [(text, text, 1.0) for text in texts]
        scored = [(row.text, row.second or "", self.score(row)) for row in rows]
        if not isinstance(self.output, InBatch):
            return scored
        alike = [row for row in scored if row[2] >= self.output.least]
        if not alike:
            raise UserError(
                f"no pair scores {self.output.least * self.scale:g} or more, so there is nothing to draw together; "
                "lower task.similarity.output.in_batch.least"
            )
        return alike

    def loss(self, training: bool) -> OutputLosses:
        """The objective's."""
        return OutputLosses({SIMILARITY: self.output}, training)

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """The cosine of two texts with a tab between them; of one text its vector, in the details for JSON."""
        parts = [text.split("\t", 1) for text in texts]
        vectors = iter(embed(system, [part for pair in parts for part in pair], self.longest))
        found = []
        for text, pair in zip(texts, parts, strict=True):
            own = [next(vectors) for _ in pair]
            if len(own) == 1:
                plain = [round(x, 6) for x in own[0].tolist()]
                found.append(Prediction(text, [f"a vector of {len(plain)}"], [1.0], [True], details={"vector": plain}))
            else:
                cosine = float(F.cosine_similarity(own[0], own[1], dim=0))
                found.append(Prediction(text, [f"{cosine:.4f}"], [cosine], [True]))
        return found

    def evaluate(self, system: System, rows: Sequence[Labelled], chooser: Chooser) -> dict[str, Any]:
        """Spearman's and Pearson's correlation of cosines with scores."""
        scores = [self.score(row) for row in rows]
        texts = [row.text for row in rows] + [row.second or "" for row in rows]
        first, second = embed(system, texts, self.longest).chunk(2)
        found = F.cosine_similarity(first, second, dim=-1)
        return {"rows": len(rows), **correlations(found.tolist(), scores)}


@torch.inference_mode()
def embed(system: System, texts: Sequence[str], longest: int = 128) -> Tensor:
    """One vector a text, [N,E], as the model pools it, not normalised; the same whatever it is batched with.

    Raises UserError for a model that was trained for something else."""
    model = system.model
    if not isinstance(model, Reader) or SIMILARITY not in model.outputs:
        raise UserError("this model gives no vectors for texts; train one with the task similarity")
    ids = [
        x for x, _ in framed(system.tokenizers, texts, [None] * len(texts), min(longest, model.max_length or longest))
    ]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    found = torch.empty(len(ids), model.config.stack.d_model, device=system.device)
    while order:
        most = max(1, CELLS // len(ids[order[0]]))
        rows, order = order[:most], order[most:]
        tokens = Tokens.from_lengths([len(ids[i]) for i in rows]).to(system.device)
        batch = pad([ids[i] for i in rows], system.tokenizers.target.pad_id or 0).to(system.device)
        found[rows] = model.outputs[SIMILARITY](model.encode(batch, tokens))
    return found
