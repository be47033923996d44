"""Pretraining of encoders on texts: hidden, replaced or permuted tokens, and what is asked of a pair of segments."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from qkv.data import files
from qkv.data.batch import IGNORE
from qkv.data.corruption import Vocabulary
from qkv.data.pretraining import (
    PAIR,
    CorruptedRows,
    Examples,
    NextSentence,
    PairExamples,
    Row,
    SentenceOrder,
    StreamExamples,
    collate,
    split_documents,
)
from qkv.decoding import Chooser
from qkv.errors import UserError
from qkv.models import Choice, EncoderOnlyConfig, ModelConfig
from qkv.models.pretraining import ReplacementDetector, filler
from qkv.tasks.gaps import GAP, around
from qkv.tasks.objectives import Masked, Objective, ReplacedTokens
from qkv.tasks.pretraining_metrics import pretraining_scores
from qkv.tasks.task import Prediction, System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.text import Tokenizer
from qkv.training.losses import Loss

SPECIALS = ("mask", "cls", "sep")
RANKED = 5  # answers to a text, unless more are asked for
CELLS = 16384  # tokens that are read side by side when answering


@dataclass(frozen=True)
class MaskedLanguageModel(Task):
    """An encoder learns from texts alone; `qkv train classify --init RUN` then starts from its weights."""

    objective: Objective = field(default_factory=Masked)
    """masked | replaced_tokens | permuted, with their fields."""
    pair: NextSentence | SentenceOrder | None = None
    """next_sentence or sentence_order: rows are two segments, and the objective has this question beside it."""
    length: int = 128
    """Tokens of a row, specials included."""
    size: int = 32
    """Rows of a batch."""
    pseudo: int = 8
    """Rows of which `evaluate` hides every token in turn, for the pseudo-perplexity; 0 leaves it out."""

    rows: ClassVar[str] = "texts"
    shape: ClassVar[str] = "encoder_only"
    column: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if self.length < 8 or self.size < 1 or self.pseudo < 0:
            raise ValueError(
                f"length {self.length}, size {self.size}, pseudo {self.pseudo}: give at least 8, 1 and 0 of them"
            )
        if self.pair is not None and not isinstance(self.objective, Masked):
            raise ValueError("pair is asked beside masked tokens only; leave it out, or set objective: masked")

    @property
    def outputs(self) -> dict[str, Any]:
        """What is asked of the whole row."""
        return {PAIR: Choice(pooling="first", hidden=True)} if self.pair is not None else {}

    def read(self, path: str) -> list[str]:
        """The documents of a .txt file (one) or of the column `text` of a TSV or JSONL file."""
        return files.documents(path)

    def learn(self, rows: Sequence[str], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, with <mask>, <cls> and <sep>."""
        return learn(config, rows, specials=SPECIALS)

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Any:
        """The encoder with what the objective and the pair need beside it."""
        assert isinstance(config, EncoderOnlyConfig)
        bound = getattr(config.stack.position, "max_length", None)
        if bound is not None and self.length > bound:
            raise UserError(
                f"task: rows of {self.length} tokens, but the model's positions end at {bound}; shorten them"
            )
        segments = config.stack.embedding.segments
        if self.pair is not None and segments < 2:
            raise UserError(
                f"task: a pair needs two segments, and the model has {segments}; "
                "set model.stack.embedding.segments to 2"
            )
        try:
            return self.objective.build(config, self.outputs, {PAIR: (1, 1)})
        except ValueError as error:
            raise UserError(f"task: {error}; set another task.masked_language_model.objective") from error

    def examples(self, rows: Sequence[str], tokenizers: Tokenizers, pairs: bool = True) -> Examples:
        """Texts as windows, or, where a pair is asked for, as pairs."""
        own = tokenizers.target
        cls, *_, sep = tokenizers.framed([])
        if pairs and self.pair is not None:
            return PairExamples(split_documents(own, rows), self.pair, self.length, cls, sep)
        return StreamExamples(own.encode_batch(rows), self.length, (cls,), (sep,), sep)

    def batches(
        self, rows: Sequence[str], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> CorruptedRows:
        """Rows, spoilt; to measure on, each in one way for ever."""
        vocabulary = Vocabulary.of(tokenizers.target)
        return CorruptedRows(
            self.examples(rows, tokenizers),
            lambda example, random: self.objective.row(example, vocabulary, random),
            self.size,
            seed,
            self.objective.dynamic,
            limit,
            tokenizers.target.pad_id or 0,
        )

    def loss(self, training: bool) -> Loss:
        """The objective's own, and the pair's."""
        return self.objective.loss(self.outputs, training)

    @torch.inference_mode()
    def evaluate(self, system: System, rows: Sequence[str], chooser: Chooser) -> dict[str, Any]:
        """Loss in nats and perplexity per hidden token, and the share that is told right; the pair's accuracy, or how
        well replaced tokens are detected; and the pseudo-perplexity exp(-1/N Σ log p(token | all others)) of Salazar et
        al. 2020, over `pseudo` rows."""
        found = pretraining_scores(system, self.batches(rows, system.tokenizers))
        nats: list[float] = []
        if self.pseudo:
            examples = self.examples(rows, system.tokenizers, pairs=False)
            for number in spaced(range(len(examples)), self.pseudo):
                nats += self._each_hidden(system, examples, number)
            found["pseudo_perplexity"] = math.exp(min(700.0, sum(nats) / len(nats)))
        return {"rows": len(rows), **found}

    def _each_hidden(self, system: System, examples: Examples, number: int) -> list[float]:
        """-log p of each token of a row, given all others."""
        vocabulary = Vocabulary.of(system.tokenizers.target)
        example = examples.example(number, np.random.default_rng(0))
        places = np.flatnonzero(example.free).tolist()
        asked = [self.objective.asking(example.ids, [place], vocabulary) for place in places]
        log_p = torch.cat([part.log_softmax(-1) for part in _told(system, asked)])
        return (-log_p[torch.arange(len(places)), torch.from_numpy(example.ids[places])]).tolist()

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Each text with its <mask>s filled, most probable first; of several masks, each is filled without knowledge of
        the others, as they were in training. `details` ranks the tokens of each mask.

        Raises UserError for a text without <mask>, and for one that is longer than the model's positions."""
        if isinstance(self.objective, ReplacedTokens) and not isinstance(system.model, ReplacementDetector):
            raise UserError("this folder has no generator to fill masks with; train with objective: masked")
        tokenizer, vocabulary = system.tokenizers.target, Vocabulary.of(system.tokenizers.target)
        n = chooser.n_best if chooser.n_best > 1 else RANKED
        rows, parts = [], []
        for number, text in enumerate(texts, first + 1):
            ids, pieces = masked_ids(system.tokenizers, text, number)
            if (bound := system.model.max_length) is not None and len(ids) > bound:
                raise UserError(f"text {number} has {len(ids)} tokens, and the model reads {bound}; shorten it")
            places = np.flatnonzero(np.array(ids) == vocabulary.mask).tolist()
            rows.append(self.objective.asking(np.array(ids), places, vocabulary))
            parts.append(pieces)
        special = torch.tensor(sorted(tokenizer.special_ids.values()))
        found = []
        for text, pieces, logits in zip(texts, parts, _told(system, rows), strict=True):
            words = logits.index_fill(-1, special, float("-inf"))
            p, best = words.softmax(-1).topk(min(n, words.shape[-1]))
            found.append(_ranked(tokenizer, text, pieces, best, p, n))
        return found


def masked_ids(tokenizers: Tokenizers, text: str, number: int = 1) -> tuple[list[int], list[list[int]]]:
    """A text with <mask> (or as its tokenizer spells it) in it, as the encoder reads it, and the ids between masks.
    Raises UserError where there is none."""
    mask = tokenizers.target.mask_id
    assert mask is not None
    pieces = around(tokenizers.target, text)
    if len(pieces) < 2:
        raise UserError(f"text {number} has no {GAP}; write one where a word is to be filled in")
    joined = [token for piece in pieces for token in (mask, *piece)][1:]
    return tokenizers.framed(joined), pieces


def _ranked(
    tokenizer: Tokenizer, text: str, pieces: Sequence[list[int]], best: Tensor, p: Tensor, n: int
) -> Prediction:
    """The n most probable fillings of masks that are filled independently: best [M,K] of M masks, with p [M,K]."""
    beams: list[tuple[float, list[int]]] = [(1.0, list(pieces[0]))]
    for mask, piece in enumerate(pieces[1:]):
        pairs = list(zip(p[mask].tolist(), best[mask].tolist(), strict=True))
        wider = [(chance * q, [*ids, token, *piece]) for chance, ids in beams for q, token in pairs]
        beams = heapq.nlargest(n, wider, key=lambda beam: beam[0])
    words = [
        [{"word": tokenizer.decode([t]).strip(), "p": q} for t, q in zip(row.tolist(), chance.tolist(), strict=True)]
        for row, chance in zip(best, p, strict=True)
    ]
    texts = tokenizer.decode_batch([ids for _, ids in beams])
    return Prediction(text, texts, [chance for chance, _ in beams], [True] * len(beams), details={"masks": words})


@torch.inference_mode()
def _told(system: System, rows: Sequence[Row]) -> list[Tensor]:
    """What the model says at the places that each row asks for, logits [M,V]."""
    model = filler(system.model)
    most = max((len(row.ids) for row in rows), default=1)
    size = max(1, CELLS // most)
    found = []
    for start in range(0, len(rows), size):
        batch = collate(rows[start : start + size], system.tokenizers.target.pad_id or 0).to(system.device)
        hidden = model(batch.ids, batch.tokens)
        found += [model.head(hidden[i][batch.targets[i] != IGNORE]).cpu() for i in range(len(batch.ids))]
    return found
