"""Language modelling: the next token from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch

from qkv.data import files
from qkv.data.batch import BatchSource, pad
from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.data.packing import PackedSource, PackingConfig
from qkv.data.windows import StridedWindows, WindowConfig, Windows
from qkv.decoding import Chooser, Forbidden, Hypothesis, Sample, generate
from qkv.errors import UserError
from qkv.models import DecoderOnlyConfig, ModelConfig
from qkv.nn import Tokens
from qkv.tasks.metrics import language_model_scores
from qkv.tasks.task import Prediction, System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.text import BOS, EOS
from qkv.training.losses import TokenCrossEntropy

CELLS = 16384  # tokens of prompts and of what is written to them, that are held side by side


@dataclass(frozen=True)
class LanguageModel(Task):
    """p(text) = Π_t p(token_t | tokens before). Texts become one stream, <bos> before each, that windows are cut from;
    or, with `packing`, each is a document of its own and several share a row without seeing one another."""

    windows: WindowConfig = field(default_factory=WindowConfig)
    """How windows are cut from the stream."""
    packing: PackingConfig | None = None
    """Pack documents instead. The model's mask must then keep them apart: {all: [causal, same_document]}."""
    label_smoothing: float = 0.0
    """Share of the target's mass that training spreads over the vocabulary."""
    max_new: int = 200
    """Tokens that `predict` adds to a prompt, unless the text ends before."""

    rows: ClassVar[str] = "texts"
    shape: ClassVar[str] = "decoder_only"

    def __post_init__(self) -> None:
        if self.max_new < 1:
            raise ValueError(f"max_new is {self.max_new}; give 1 or more")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; give 0 or more, below 1")

    def agree(self, config: ModelConfig) -> None:
        """Raise UserError where the mask lets packed documents see each other, or the positions end too early."""
        assert isinstance(config, DecoderOnlyConfig)
        mask, bound = repr(config.stack.mask), getattr(config.stack.position, "max_length", None)
        if self.packing and "SameDocument" not in mask:
            raise UserError(
                "task: packing needs a mask that keeps documents apart; "
                "set model.stack.mask to {all: {parts: [causal, same_document]}}"
            )
        length = self.packing.length if self.packing else self.windows.length
        if bound is not None and length > bound:
            raise UserError(f"task: windows of {length} tokens, but the model's positions end at {bound}; shorten them")

    def read(self, path: str) -> list[str]:
        """The documents of a .txt file (one) or of the column `text` of a TSV or JSONL file."""
        return files.documents(path)

    def learn(self, rows: Sequence[str], config: TokenizersConfig) -> Tokenizers:
        """The one tokenizer."""
        return learn(config, rows)

    def batches(
        self, rows: Sequence[str], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> BatchSource:
        """Random windows or packed documents to train on; every token once to measure on, `limit` rows at most."""
        documents = tokenizers.target.encode_batch(rows)
        if self.packing is not None:
            if (tokenizers.bos, tokenizers.eos) != (BOS, EOS):
                raise UserError("task: packing needs a tokenizer that qkv trained; use windows with this one")
            return PackedSource(spaced(documents, limit) if seed is None else documents, self.packing, seed)
        stream = [token for document in documents for token in (tokenizers.bos, *document)]
        if seed is not None:
            return Windows(stream, self.windows, seed)
        return StridedWindows(stream, self.windows, limit=limit)

    def loss(self, training: bool) -> TokenCrossEntropy:
        """Cross-entropy of the tokens that are written, smoothed in training."""
        return TokenCrossEntropy(self.label_smoothing if training else 0.0)

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Each text and its continuation, in the texts' order; inside, texts of like length share a batch. A model with
        bounded positions that writes past them goes on from the second half of what it sees; where several answers a
        text are asked for, they end there, unfinished. An empty text starts from <bos>.

        Raises UserError for a prompt that is longer than the model's positions.
        """
        tokenizer, bound = system.tokenizers.target, system.model.max_length
        prompts = tokenizer.encode_batch(texts)
        for number, ids in enumerate(prompts, first + 1):
            if bound is not None and len(ids) + 1 > bound:
                raise UserError(f"text {number} has {len(ids)} tokens, and the model reads {bound - 1}; shorten it")
        start = [[system.tokenizers.bos] if self.packing is not None or not ids else [] for ids in prompts]
        read = [[*begin, *ids] for begin, ids in zip(start, prompts, strict=True)]
        found = self._continue(system, read, chooser, max_new or self.max_new, first)
        return [
            Prediction.of(text, best, tokenizer.decode_batch([[*ids, *h.ids] for h in best]))
            for text, ids, best in zip(texts, prompts, found, strict=True)
        ]

    def _continue(
        self, system: System, prompts: Sequence[list[int]], chooser: Chooser, max_new: int, first: int
    ) -> list[list[Hypothesis]]:
        """What each prompt goes on with: all of them up to the positions' end, then those that go on beyond it."""
        found = [[Hypothesis([], 0.0, 0.0, False)] for _ in prompts]
        going = list(range(len(prompts)))
        while going:
            seen = [[*prompts[row], *found[row][0].ids] for row in going]
            limits = [max_new - len(found[row][0].ids) for row in going]
            parts = self._decode(system, seen, limits, chooser, [first + row for row in going])
            for row, best in zip(going, parts, strict=True):
                found[row] = [_joined(found[row][0], h) for h in best]
            more = [row for row in going if chooser.n_best == 1 and not found[row][0].finished]
            going = [row for row in more if len(found[row][0].ids) < max_new]
            if isinstance(chooser, Sample):
                chooser = replace(chooser, seed=chooser.seed + 1)  # each part draws anew
        return found

    def _decode(
        self, system: System, seen: Sequence[list[int]], limits: Sequence[int], chooser: Chooser, rows: Sequence[int]
    ) -> list[list[Hypothesis]]:
        """The hypotheses of each row up to the positions' end, in batches by length."""
        bound = system.model.max_length
        if bound is not None:
            seen = [ids if len(ids) < bound else ids[-(bound // 2) :] for ids in seen]
        cells = [len(ids) + chooser.width * limit for ids, limit in zip(seen, limits, strict=True)]
        found: dict[int, list[Hypothesis]] = {}
        for batch in TokenBuckets(cells, BucketConfig(tokens=max(CELLS, *cells)), None).plan(0):
            ids = [seen[i] for i in batch]
            best = generate(
                system.model,  # type: ignore[arg-type]
                pad(ids).to(system.device),
                Tokens.from_lengths([len(row) for row in ids], device=system.device),
                chooser=chooser,
                max_new=torch.tensor([limits[i] for i in batch], device=system.device),
                eos=system.tokenizers.eos,
                constraints=(Forbidden(system.tokenizers.unwritten),),
                rows=[rows[i] for i in batch],
            )
            found |= dict(zip(batch, best, strict=True))
        return [found[i] for i in range(len(seen))]

    @torch.inference_mode()
    def evaluate(self, system: System, rows: Sequence[str], chooser: Chooser) -> dict[str, Any]:
        """Loss in nats and perplexity per token, bits per character and byte: every token is asked for once, and sees
        what its window holds before it."""
        source = self.batches(rows, system.tokenizers)
        nats = tokens = 0.0
        for indices in source.plan(0):
            batch = source.load(indices).to(system.device)
            total, count, _ = self.loss(training=False)(system.model, batch)["cross_entropy"]
            nats, tokens = nats + float(total), tokens + count
        text = rows
        if isinstance(source, PackedSource) and source.config.overlong == "truncate":
            text = system.tokenizers.target.decode_batch(source.documents)  # what was cut off has cost no bits
        return {"rows": len(rows), "tokens": int(tokens), **language_model_scores(nats, tokens, "".join(text))}


def _joined(first: Hypothesis, second: Hypothesis) -> Hypothesis:
    """One after the other."""
    ids, score, logp = [*first.ids, *second.ids], first.score + second.score, first.logp + second.logp
    return Hypothesis(ids, score, logp, second.finished)
