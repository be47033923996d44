"""Language models that see more than the past: a prefix read in both directions, or what comes after a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from qkv.data import files
from qkv.data.batch import pad
from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.data.pretraining import CorruptedRows, StreamExamples
from qkv.data.spans import piece_begins
from qkv.decoding import Chooser, Forbidden, generate
from qkv.errors import UserError
from qkv.models import DecoderOnlyConfig, ModelConfig, build
from qkv.nn import Tokens
from qkv.tasks.gaps import FillInTheMiddle, Gaps, Prefix, Prompt, Spans, around
from qkv.tasks.pretraining_metrics import mean_nats
from qkv.tasks.task import Prediction, System, Task
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.training.losses import TokenCrossEntropy

CELLS = 16384  # tokens of prompts and of what is written to them, that are held side by side
MIDDLES = 512  # windows of which `evaluate` asks for the middle alone


@dataclass(frozen=True)
class Infill(Task):
    """A decoder learns from texts to go on from a prefix or to fill gaps, each written as <mask>."""

    objective: Prefix | FillInTheMiddle | Spans = field(default_factory=FillInTheMiddle)
    """prefix | fill_in_the_middle | spans, with their fields."""
    length: int = 128
    """Tokens of a window, its begin included; what marks gaps comes on top."""
    size: int = 32
    """Windows of a batch."""
    max_new: int = 64
    """Tokens that `predict` writes at most."""

    rows: ClassVar[str] = "texts"
    shape: ClassVar[str] = "decoder_only"
    column: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        if self.length < 8 or self.size < 1 or self.max_new < 1:
            raise ValueError(f"length {self.length}, size {self.size}, max_new {self.max_new}: at least 8, 1 and 1")

    def read(self, path: str) -> list[str]:
        """The documents of a .txt file (one) or of the column `text` of a TSV or JSONL file."""
        return files.documents(path)

    def learn(self, rows: Sequence[str], config: TokenizersConfig) -> Tokenizers:
        """One tokenizer, with the marks that the objective writes."""
        return learn(config, rows, specials=self.objective.specials)

    def build(self, config: ModelConfig, tokenizers: Tokenizers) -> Any:
        """The decoder. Raises UserError where its mask hides the prefix, or its positions end too early."""
        assert isinstance(config, DecoderOnlyConfig)
        pair = Tokens.arange(1, 2).with_fields(prefix=torch.ones(1, 2, dtype=torch.long))
        mask = config.stack.mask
        if self.objective.open_prefix and (mask is None or not mask(pair, pair)[..., 0, 1].all()):
            raise UserError(
                "task: this objective reads a prefix in both directions; "
                "set model.stack.mask to {any: [causal, prefix]}"
            )
        bound, need = getattr(config.stack.position, "max_length", None), self.length + self.objective.extra
        if bound is not None and need > bound:
            raise UserError(f"task: rows of {need} tokens, but the model's positions end at {bound}; shorten length")
        return build(config)

    def gaps(self, tokenizers: Tokenizers) -> Gaps:
        """What the objective knows of the tokenizer."""
        own = tokenizers.target
        marks = [own.special_ids[name] for name in self.objective.specials]
        return Gaps(tokenizers.bos, tokenizers.eos, marks, piece_begins(own))

    def batches(
        self, rows: Sequence[str], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> CorruptedRows:
        """Windows with gaps, new ones in every epoch; to measure on, each in one way for ever."""
        gaps, documents = self.gaps(tokenizers), tokenizers.target.encode_batch(rows)
        return CorruptedRows(
            StreamExamples(documents, self.length, (gaps.bos,), (), gaps.bos),
            lambda example, random: self.objective.row(example.ids, gaps, random),
            self.size,
            seed,
            limit=limit,
            padding=tokenizers.target.pad_id or 0,
        )

    def loss(self, training: bool) -> TokenCrossEntropy:
        """Cross-entropy of the tokens that are written."""
        return TokenCrossEntropy()

    @torch.inference_mode()
    def evaluate(self, system: System, rows: Sequence[str], chooser: Chooser) -> dict[str, Any]:
        """Loss in nats and perplexity per token that is written; of gaps in the middle, also of what stands in them
        alone, with the text behind and without it."""
        source = self.batches(rows, system.tokenizers)
        found: dict[str, Any] = {"rows": len(rows), **mean_nats(system, map(source.load, source.plan(0)))}
        if isinstance(self.objective, FillInTheMiddle):
            gaps, middle = self.gaps(system.tokenizers), self.objective.middle

            def asked(ahead: bool) -> CorruptedRows:
                return CorruptedRows(
                    source.examples,
                    lambda example, random: middle(example.ids, gaps, random, ahead),
                    self.size,
                    seed=None,
                    limit=MIDDLES,
                )

            for name, alone in (("middle", asked(True)), ("middle_without_suffix", asked(False))):
                found[f"{name}_loss"] = mean_nats(system, map(alone.load, alone.plan(0)))["loss"]
        return found

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Each text with its gaps filled, or, without any, its continuation; `details` has what stands in each gap.

        Raises UserError for gaps that the objective cannot fill and texts longer than the model's positions."""
        own, gaps = system.tokenizers.target, self.gaps(system.tokenizers)
        prompts = []
        for number, text in enumerate(texts, first + 1):
            try:
                prompts.append(self.objective.prompt(around(own, text), gaps))
            except ValueError as error:
                raise UserError(f"text {number}: {error}") from error
            bound = system.model.max_length
            if bound is not None and len(prompts[-1].ids) >= bound:
                raise UserError(f"text {number} leaves no room in the model's {bound} positions; shorten it")
        best = self._written(system, prompts, chooser, max_new or self.max_new, first)
        found = []
        for text, prompt, hypotheses in zip(texts, prompts, best, strict=True):
            answer = Prediction.of(text, hypotheses, own.decode_batch([prompt.whole(h.ids) for h in hypotheses]))
            filled = own.decode_batch(prompt.filling(hypotheses[0].ids))
            found.append(replace(answer, details={"gaps": [part.strip() for part in filled]}))
        return found

    def _written(
        self, system: System, prompts: Sequence[Prompt], chooser: Chooser, max_new: int, first: int
    ) -> list[list[Any]]:
        """The hypotheses of each prompt, in batches by length."""
        found: dict[int, list[Any]] = {}
        cells = [len(prompt.ids) + chooser.width * max_new for prompt in prompts]
        own = self.objective.constraint(self.gaps(system.tokenizers))
        for batch in TokenBuckets(cells, BucketConfig(tokens=max(CELLS, *cells)), None).plan(0):
            chosen = [prompts[i] for i in batch]
            tokens = Tokens.from_lengths([len(prompt.ids) for prompt in chosen])
            if self.objective.open_prefix:
                tokens = tokens.with_fields(prefix=tokens.valid.long())
            best = generate(
                system.model,  # type: ignore[arg-type]
                pad([prompt.ids for prompt in chosen]).to(system.device),
                tokens.to(system.device),
                chooser=chooser,
                max_new=max_new,
                eos=system.tokenizers.eos,
                constraints=(Forbidden(system.tokenizers.unwritten), own),
                rows=[first + i for i in batch],
            )
            found |= dict(zip(batch, best, strict=True))
        return [found[i] for i in range(len(prompts))]
