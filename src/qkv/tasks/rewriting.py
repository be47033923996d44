"""Rewriting in another style: three measures in one, and decoding that avoids words or asks a classifier."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qkv.data.files import lines
from qkv.decoding import Greedy
from qkv.decoding.state import DEAD, State
from qkv.errors import UserError
from qkv.text import Tokenizer


@dataclass(frozen=True)
class Judges:
    """Who judges rewrites: runs of our own."""

    style: str
    """A run of classify."""
    fluency: str
    """A run of language_model."""
    wanted: str = "civil"
    """The label that a rewrite should have."""


@dataclass(frozen=True)
class Guide:
    """A classifier that decoding asks at every step; to be judged by it as well would be to grade one's own work."""

    style: str
    """A run of classify."""
    power: float = 2.0
    """γ of p(output) · p(wanted | output)^γ, which is searched for."""
    tried: int = 4
    """How many of the likeliest next pieces are asked about; no other is written."""
    wanted: str = "civil"
    """The label that an output should have."""

    def __post_init__(self) -> None:
        if self.power < 0 or self.tried < 1:
            raise ValueError(f"power is {self.power} and tried {self.tried}; give 0 or more, and 1 or more")


def rewriting_scores(
    sources: Sequence[str], outputs: Sequence[str], references: Sequence[Sequence[str]], judges: Judges
) -> dict[str, float]:
    """Style accuracy, similarity, fluency, and their product in each row, on average: J (Krishna et al. 2020, as in
    Logacheva et al. 2022). Each is a number from 0 to 1:

    style: the judge gives the output the wanted label. similarity: chrF of the output to its source. fluency: the
    judge of fluency needs no more bits a character than for 95 of 100 references. An empty output has none of the
    three. chrF to the references is told beside them, and is no part of J.
    """
    style, score = probability(judges.style, judges.wanted), _bits(judges.fluency)
    bound = float(np.quantile(score([refs[0] for refs in references]), 0.95))
    filled = [i for i, output in enumerate(outputs) if output.strip()]
    texts = [outputs[i] for i in filled]
    parts = np.zeros((3, len(outputs)))
    parts[0, filled] = [p >= 0.5 for p in style(texts)]
    parts[1, filled] = [chrf(outputs[i], [sources[i]]) for i in filled]
    parts[2, filled] = [bits <= bound for bits in score(texts)]
    means = dict(zip(("style_accuracy", "similarity", "fluency"), map(float, parts.mean(1)), strict=True))
    to_references = float(np.mean([chrf(o, r) for o, r in zip(outputs, references, strict=True)]))
    return {"joint": float(parts.prod(0).mean()), **means, "chrf_to_references": to_references}


def chrf(output: str, references: Sequence[str]) -> float:
    """chrF of one sentence, from 0 to 1. Raises UserError when sacrebleu is not installed."""
    try:
        from sacrebleu import sentence_chrf
    except ImportError as error:
        raise UserError("chrF needs sacrebleu, which is not installed; pip install 'qkv[tasks]'") from error
    return sentence_chrf(output, list(references)).score / 100


def probability(folder: str, wanted: str) -> Callable[[Sequence[str]], list[float]]:
    """Texts -> the probability of a label, by a run of classify. Raises UserError for another run, or label."""
    from qkv.tasks.classify import LABEL, Classify
    from qkv.tasks.folder import open_run

    run = open_run(folder)
    task: Any = run.recipe.task
    if not isinstance(task, Classify) or wanted not in run.system.tokenizers.labels[LABEL].names:
        raise UserError(f"style: {folder} is no run of classify with a label {wanted!r}")

    def probabilities(texts: Sequence[str]) -> list[float]:
        found = task.predict(run.system, list(texts), Greedy())
        return [dict(zip(p.texts, p.scores, strict=True))[wanted] for p in found]

    return probabilities


def _bits(folder: str) -> Any:
    """texts -> bits a character that a language model needs for each."""
    from qkv.tasks.folder import open_run
    from qkv.tasks.language_model import LanguageModel

    run = open_run(folder)
    task: Any = run.recipe.task
    if not isinstance(task, LanguageModel):
        raise UserError(f"judges.fluency: {folder} is no run of language_model; train one on civil texts")

    def bits(texts: Sequence[str]) -> list[float]:
        return [float(task.evaluate(run.system, [text], Greedy())["bits_per_char"]) for text in texts]

    return bits


def word_file(path: str) -> list[str]:
    """The words of a text file, one a line."""
    return [line.strip() for _, line in lines(path) if line.strip()]


class Avoid:
    """Words that an output never holds, however they are cut into pieces: a constraint of `generate`.

    A piece is forbidden where the word that it begins or goes on would then be one of `forbidden`. So a longer word
    that begins with a forbidden one is lost too, if it is spelled in pieces of which the first spell that one.
    """

    def __init__(self, tokenizer: Tokenizer, forbidden: Iterable[str]):
        self.tokenizer, self.forbidden = tokenizer, frozenset(word.lower() for word in forbidden)
        self.opening: list[int] = []
        """Pieces that are, or hold, a forbidden word by themselves."""
        self.going_on: dict[str, list[int]] = {}
        """Letters -> the pieces that go on a word with them."""
        anchor = tokenizer.encode("a")
        shown = tokenizer.decode(anchor)
        for i, text in enumerate(tokenizer.decode_batch([[*anchor, i] for i in range(tokenizer.vocab_size)])):
            tail = text[len(shown) :].lower()
            if re.fullmatch(r"\w+", tail):
                self.going_on.setdefault(tail, []).append(i)
            elif self.forbidden & {*re.findall(r"\w+", tail)}:
                self.opening.append(i)
        self._after: dict[str, list[int]] = {"": self._at_start()}

    def _at_start(self) -> list[int]:
        """Where no word is under way, pieces that go on a word begin one."""
        return [*self.opening, *(i for word in self.forbidden for i in self.going_on.get(word, ()))]

    def after(self, word: str) -> list[int]:
        """The pieces that are forbidden after the letters of a word that is under way."""
        if word not in self._after:
            rests = [each[len(word) :] for each in self.forbidden if each.startswith(word)]
            self._after[word] = [*self.opening, *(i for rest in rests for i in self.going_on.get(rest, ()))]
        return self._after[word]

    def __call__(self, scores: Tensor, state: State) -> Tensor:
        """scores [B,W,V], with every piece that would complete a forbidden word at -inf."""
        width = scores.shape[1]
        texts = self.tokenizer.decode_batch(state.ids.flatten(0, 1).tolist())
        barred = torch.zeros_like(scores, dtype=torch.bool)
        for number, text in enumerate(texts):
            under_way = re.search(r"\w*$", text.lower())
            barred[number // width, number % width, self.after(under_way[0] if under_way else "")] = True
        return scores.masked_fill(barred, DEAD)


class Guided:
    """Decoding by a classifier of texts: a constraint of `generate` that adds to the log-probability of each next piece

        γ · (log p(wanted | text with the piece) − log p(wanted | text before it)).

    Over an output these add up to γ · log p(wanted | output), whatever is thought of its beginnings, so beams search
    for the most of p(output) · p(wanted | output)^γ; the beginnings decide what is left out on the way (FUDGE asks a
    classifier that was trained on them: Yang & Klein 2021, arXiv:2104.05218).
    """

    def __init__(
        self, tokenizer: Tokenizer, judge: Callable[[Sequence[str]], Sequence[float]], power: float, tried: int
    ):
        self.tokenizer, self.judge, self.power, self.tried = tokenizer, judge, power, tried
        self._known: dict[str, float] = {}

    def __call__(self, scores: Tensor, state: State) -> Tensor:
        """scores [B,W,V]: those of the `tried` best pieces with what the judge adds, all others at -inf."""
        best, pieces = scores.topk(min(self.tried, scores.shape[2]))
        before = state.ids.unsqueeze(2).expand(-1, -1, pieces.shape[2], -1)
        gain = self._log(torch.cat([before, pieces.unsqueeze(3)], 3)) - self._log(state.ids).unsqueeze(2)
        return torch.full_like(scores, DEAD).scatter(2, pieces, best + self.power * gain.to(best))

    def _log(self, ids: Tensor) -> Tensor:
        """ids [...,n] -> log p(wanted | text), [...]."""
        texts = self.tokenizer.decode_batch(ids.flatten(0, -2).tolist())
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known |= dict(zip(new, self.judge(new), strict=True))
        found = torch.tensor([self._known[text] for text in texts], dtype=torch.float64)
        return found.clamp_min(1e-9).log().view(ids.shape[:-1])
