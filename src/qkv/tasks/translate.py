"""One text to another: translation, pronunciation, transliteration, correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch

from qkv.data import files
from qkv.data.batch import Batch, Ids
from qkv.data.buckets import BucketConfig
from qkv.data.cmudict import without_stress
from qkv.data.files import Pair
from qkv.data.pairs import PairSource
from qkv.decoding import Chooser, Constraint, Forbidden, Hypothesis, generate
from qkv.errors import UserError
from qkv.models import EncoderDecoder, EncoderDecoderConfig, ModelConfig
from qkv.nn import Tokens
from qkv.tasks.metrics import exact_match, pronunciation_errors, translation_scores
from qkv.tasks.rewriting import Avoid, Guide, Guided, Judges, probability, rewriting_scores, word_file
from qkv.tasks.task import Prediction, System, Task, spaced
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig, learn
from qkv.text import Tokenizer
from qkv.training.losses import TokenCrossEntropy

CELLS = 8192  # source tokens times hypotheses that are decoded side by side


class Examples(PairSource):
    """Pairs of ids, batched, with the begin and end tokens that the tokenizers have: foreign ones have their own."""

    def __init__(
        self, examples: Sequence[tuple[Ids, Ids]], config: BucketConfig, seed: int | None, tokenizers: Tokenizers
    ):
        super().__init__(examples, config, seed)
        self.tokenizers = tokenizers

    def load(self, indices: list[int]) -> Batch:
        batch, own = super().load(indices), self.tokenizers
        assert batch.source_ids is not None and batch.source_tokens is not None
        rows = torch.arange(len(indices))
        batch.ids[:, 0] = own.bos
        batch.targets[rows, batch.tokens.valid.sum(1) - 1] = own.eos
        batch.source_ids[rows, batch.source_tokens.valid.sum(1) - 1] = own.source_eos
        return batch


@dataclass(frozen=True)
class Translate(Task):
    """An encoder reads the source, a decoder writes the target (Vaswani et al. 2017)."""

    measure: Literal["translation", "pronunciation", "rewriting", "exact"] = "translation"
    """What `evaluate` computes besides exact match: BLEU and chrF; word and phoneme error; style, similarity and
    fluency by `judges`; or nothing."""
    judges: Judges | None = None
    """Runs that judge rewrites."""
    avoid: str = ""
    """A text file of words, one a line, that no answer holds."""
    guide: Guide | None = None
    """A run of classify that is asked at every step what the answer is to be like."""
    batch: BucketConfig = field(default_factory=BucketConfig)
    """How training batches are cut."""
    label_smoothing: float = 0.1
    """Share of the target's mass that training spreads over the vocabulary (Szegedy et al. 2016)."""
    longest: int = 1024
    """Tokens of the longest text that is answered; a longer one is refused."""
    growth: float = 2.0
    """An answer ends at growth · (source tokens) + 10 tokens, if it has not ended by itself."""

    rows: ClassVar[str] = "pairs"
    shape: ClassVar[str] = "encoder_decoder"

    def __post_init__(self) -> None:
        if self.longest < 1 or self.growth <= 0:
            raise ValueError(f"longest and growth must be above 0, not {self.longest} and {self.growth}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}; give 0 or more, below 1")
        if self.measure == "rewriting" and self.judges is None:
            raise ValueError("measure: rewriting needs judges: {style: RUN, fluency: RUN}")

    def agree(self, config: ModelConfig) -> None:
        """Raise UserError where the model's positions end before the longest text of a batch."""
        assert isinstance(config, EncoderDecoderConfig)
        bounds = [getattr(stack.position, "max_length", None) for stack in (config.encoder, config.decoder)]
        most = min((bound for bound in bounds if bound is not None), default=None)
        if most is not None and (self.batch.max_length or most + 1) > most:
            raise UserError(
                f"task: the model's positions end at {most}; set task.translate.batch.max_length to at most that, "
                "and overlong: truncate if longer texts are to be cut"
            )

    def read(self, path: str) -> list[Pair]:
        """The pairs of a TSV or JSONL file."""
        return files.pairs(path)

    def learn(self, rows: Sequence[Pair], config: TokenizersConfig) -> Tokenizers:
        """Each side's tokenizer learns from that side, a shared one from both."""
        return learn(config, (t for row in rows for t in row.targets), (row.source for row in rows))

    def batches(
        self, rows: Sequence[Pair], tokenizers: Tokenizers, seed: int | None = None, limit: int | None = None
    ) -> Examples:
        """Every reference is an example of its own in training; the dev loss counts the first of each row."""
        assert tokenizers.source is not None
        if seed is None:
            texts = [(row.source, row.targets[0]) for row in spaced(rows, limit)]
        else:
            texts = list(files.examples(rows))
        sources = tokenizers.source.encode_batch([source for source, _ in texts])
        targets = tokenizers.target.encode_batch([target for _, target in texts])
        return Examples(list(zip(sources, targets, strict=True)), self.batch, seed, tokenizers)

    def loss(self, training: bool) -> TokenCrossEntropy:
        """Cross-entropy of the tokens that are written, smoothed in training."""
        return TokenCrossEntropy(self.label_smoothing if training else 0.0)

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """Answers in the texts' order; inside, texts of like length share a batch.

        Raises UserError for a text that is longer than the task or the model allows.
        """
        assert system.tokenizers.source is not None
        sources = system.tokenizers.source.encode_batch(texts)
        self._check_lengths(sources, system, first)
        if not sources:
            return []
        cells = max(CELLS // chooser.width, max(map(len, sources)) + 2)
        batches = Examples([(ids, []) for ids in sources], BucketConfig(tokens=cells), None, system.tokenizers)
        found: dict[int, list[Hypothesis]] = {}
        for rows in batches.plan(0):
            hypotheses = self._decode(system, batches, rows, chooser, max_new, first)
            found |= dict(zip(rows, hypotheses, strict=True))
        decode = system.tokenizers.target.decode_batch
        return [Prediction.of(text, found[row], decode([h.ids for h in found[row]])) for row, text in enumerate(texts)]

    @torch.inference_mode()
    def _decode(
        self, system: System, source: Examples, rows: list[int], chooser: Chooser, max_new: int | None, first: int
    ) -> list[list[Hypothesis]]:
        model, batch = system.model, source.load(rows).to(system.device)
        assert isinstance(model, EncoderDecoder)
        assert batch.source_ids is not None and batch.source_tokens is not None
        memory = model.encode(batch.source_ids, batch.source_tokens)
        lengths = batch.source_tokens.valid.sum(1)
        limit = (self.growth * lengths).long() + 10 if max_new is None else torch.full_like(lengths, max_new)
        prompt = torch.full((len(rows), 1), system.tokenizers.bos, device=system.device)
        tokens = Tokens.arange(len(rows), 1, device=system.device)
        return generate(
            model,
            prompt,
            tokens,
            memory=memory,
            chooser=chooser,
            max_new=limit,
            eos=system.tokenizers.eos,
            constraints=(Forbidden(system.tokenizers.unwritten), *self._wishes(system.tokenizers.target)),
            rows=[first + row for row in rows],
        )

    def _wishes(self, tokenizer: Tokenizer) -> Iterator[Constraint]:
        """What the recipe wants of answers: words that they avoid, a classifier that guides them."""
        if self.avoid:
            yield Avoid(tokenizer, word_file(self.avoid))
        if self.guide is not None:
            judge = probability(self.guide.style, self.guide.wanted)
            yield Guided(tokenizer, judge, self.guide.power, self.guide.tried)

    def _check_lengths(self, sources: Sequence[Sequence[int]], system: System, first: int) -> None:
        assert isinstance(system.model, EncoderDecoder)
        bound = min(system.model.encoder.max_length or self.longest, self.longest)
        for number, ids in enumerate(sources, first + 1):
            if len(ids) + 1 > bound:
                raise UserError(f"text {number} has {len(ids)} tokens, and at most {bound - 1} are allowed; split it")

    def evaluate(self, system: System, rows: Sequence[Pair], chooser: Chooser) -> dict[str, Any]:
        """The share that is exactly right and what `measure` names, on rows with references."""
        sources = [row.source for row in rows]
        predictions = [p.text for p in self.predict(system, sources, chooser)]
        references = [row.targets for row in rows]
        if self.judges is not None and self.measure == "rewriting":
            return {"rows": len(rows), **rewriting_scores(sources, predictions, references, self.judges)}
        return {"rows": len(rows), **self.score(predictions, references)}

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
        """The measures of predictions, without a model."""
        exact = {"exact_match": exact_match(predictions, references)}
        if self.measure == "translation":
            return translation_scores(predictions, references) | exact
        if self.measure in ("exact", "rewriting"):  # judges of rewrites see the sources too: `evaluate`
            return exact
        bare = [[_bare(r) for r in listed] for listed in references]
        scores: dict[str, Any] = pronunciation_errors([_bare(p) for p in predictions], bare)
        if bare != [list(listed) for listed in references]:
            stressed = pronunciation_errors(predictions, references)
            scores |= {f"{name}_with_stress": value for name, value in stressed.items()}
        return scores


def _bare(phonemes: str) -> str:
    return " ".join(without_stress(phonemes.split()))
