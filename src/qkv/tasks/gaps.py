"""The table of what a decoder can be trained to write besides the next token of a plain text.

row(ids, gaps, random) -> a window, as it is or rearranged, and what of it is told
prompt(parts, gaps) -> what an answer goes on from          constraint(gaps) -> where its specials stand in an answer
specials: names of its special tokens · open_prefix: whether what is given is read in both directions
extra: tokens that a row may have beyond its window
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from qkv.data import spans
from qkv.data.batch import IGNORE
from qkv.data.corruption import cuts, fill_in_the_middle, fillings, sentinels
from qkv.data.pretraining import Row
from qkv.data.spans import SpanLengths
from qkv.decoding import Constraint, Forbidden, Forced
from qkv.decoding.state import DEAD, State
from qkv.text import Tokenizer
from qkv.text.specials import spelling

GAP = spelling("mask")
"""How a gap is written in a text that is to be filled."""
MARKS = 24  # gaps of a window that `Spans` can tell apart, and one more


def around(tokenizer: Tokenizer, text: str) -> list[list[int]]:
    """The ids of what stands before, between and behind the gaps of a text; the tokenizer's own sign is a gap too."""
    own = tokenizer.mask_id
    marks = {GAP} if own is None else {GAP, tokenizer.backend.id_to_token(own) or GAP}
    parts = re.split("|".join(map(re.escape, marks)), text)
    if tokenizer.id(" ") is None:  # a piece brings its own space along
        parts = [*(part.rstrip() for part in parts[:-1]), parts[-1]]
    return tokenizer.encode_batch(parts)


@dataclass(frozen=True)
class Gaps:
    """bos, eos: what a row begins with and an answer ends with. marks: the ids of the objective's specials. begins [V]:
    which pieces begin a word."""

    bos: int
    eos: int
    marks: Sequence[int]
    begins: np.ndarray


@dataclass(frozen=True)
class Prompt:
    """ids: what the model goes on from. parts: the text before, between and behind its gaps. filling: what the model
    wrote -> what stands in each gap; a text without gaps has one behind its end."""

    ids: list[int]
    parts: Sequence[list[int]]
    filling: Callable[[list[int]], list[list[int]]] = lambda told: [told]

    def whole(self, told: list[int]) -> list[int]:
        """What the model wrote -> the text with its gaps filled, as ids."""
        nothing: list[int] = []
        pairs = zip_longest(self.parts, self.filling(told), fillvalue=nothing)
        return [token for part, filled in pairs for token in (*part, *filled)]


@dataclass(frozen=True)
class MarksInTurn:
    """An answer begins with the first mark, and goes from each mark to the next, with something told between them."""

    marks: tuple[int, ...]

    def __call__(self, scores: Tensor, state: State) -> Tensor:
        """log-probabilities [B,W,V] -> the same, at -inf where no such answer goes on."""
        if not state.step:
            return Forced(self.marks[:1])(scores, state)
        marks = torch.tensor(self.marks, device=scores.device)
        said = torch.isin(state.ids, marks)  # [B,W,n]
        following = marks[said.sum(2).clamp_max(len(marks) - 1)].unsqueeze(2)
        told = scores.index_fill(2, marks, DEAD)
        turn = told.scatter(2, following, scores.gather(2, following))
        return torch.where(said[:, :, -1:], told, turn)


def written(tokens: Sequence[int], source: int, prefix: bool = False) -> Row:
    """A row in which each token is told from those before it, but for the first `source`, which are given; with
    `prefix`, these see one another in both directions."""
    line = np.array(tokens, dtype=np.int64)
    targets = line[1:].copy()
    targets[: max(0, source - 1)] = IGNORE
    fields = {"prefix": (np.arange(len(line) - 1) < source).astype(np.int64)} if prefix else {}
    return Row(line[:-1], targets, fields)


@dataclass(frozen=True)
class Prefix:
    """The first part of a window, cut anywhere, is read in both directions, and the rest is told (Raffel et al. 2020,
    §3.2.1; Dong et al. 2019)."""

    specials: ClassVar[tuple[str, ...]] = ()
    open_prefix: ClassVar[bool] = True
    extra: ClassVar[int] = 0

    def row(self, ids: np.ndarray, gaps: Gaps, random: np.random.Generator) -> Row:
        """ids: a window, its begin included; at least this is given, and at least one token is told."""
        return written(ids.tolist(), 1 + int(random.integers(max(1, len(ids) - 1))), prefix=True)

    def prompt(self, parts: Sequence[list[int]], gaps: Gaps) -> Prompt:
        """The text. Raises ValueError for gaps."""
        if len(parts) > 1:
            raise ValueError("a prefix model goes on from the end of a text; leave <mask> out")
        return Prompt([gaps.bos, *parts[0]], parts)

    def constraint(self, gaps: Gaps) -> Constraint:
        """There are no specials."""
        return Forbidden(())


@dataclass(frozen=True)
class FillInTheMiddle:
    """A share of the windows has its middle moved to the end (Bavarian et al. 2022); the model stays causal and is
    trained on every token."""

    rate: float = 0.9
    """Share of the windows that is rearranged; the others train plain continuation."""
    suffix_first: float = 0.5
    """Share of these with the suffix before the prefix."""

    specials: ClassVar[tuple[str, ...]] = ("pre", "suf", "mid")
    open_prefix: ClassVar[bool] = False
    extra: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if not (0 <= self.rate <= 1 and 0 <= self.suffix_first <= 1):
            raise ValueError(f"rate {self.rate} and suffix_first {self.suffix_first} are shares; give 0 to 1")

    def row(self, ids: np.ndarray, gaps: Gaps, random: np.random.Generator) -> Row:
        """ids: a window, its begin included."""
        if random.random() >= self.rate:
            return written(ids.tolist(), 1)
        pre, suf, mid = gaps.marks
        filled = fill_in_the_middle(ids[1:], random, (pre, suf, mid), self.suffix_first)
        return written([gaps.bos, *filled, gaps.eos], 1)

    def middle(self, ids: np.ndarray, gaps: Gaps, random: np.random.Generator, ahead: bool) -> Row:
        """The middle alone is asked for: after prefix and suffix, or (`ahead` false) after the prefix only."""
        text = ids[1:].tolist()
        low, high = cuts(len(text), random)
        prefix, middle, suffix = text[:low], text[low:high], text[high:]
        if not ahead:
            return written([gaps.bos, *prefix, *middle], 1 + low)
        pre, suf, mid = gaps.marks
        source = [gaps.bos, pre, *prefix, suf, *suffix, mid]
        return written([*source, *middle], len(source))

    def prompt(self, parts: Sequence[list[int]], gaps: Gaps) -> Prompt:
        """The text, or what stands before and behind its gap. Raises ValueError for several gaps."""
        if len(parts) == 1:
            return Prompt([gaps.bos, *parts[0]], parts)
        if len(parts) > 2:
            raise ValueError(f"it has {len(parts) - 1} gaps, and this model fills one; leave one <mask>")
        prefix, suffix = parts
        pre, suf, mid = gaps.marks
        return Prompt([gaps.bos, pre, *prefix, suf, *suffix, mid], parts)

    def constraint(self, gaps: Gaps) -> Constraint:
        """A middle has no specials."""
        return Forbidden(tuple(gaps.marks))


@dataclass(frozen=True)
class Spans:
    """Spans of words are cut out, each leaving a mark that all may see; what they held is told behind, mark by mark
    (Raffel et al. 2020, §3.1.4, as one stack: Du et al. 2022)."""

    rate: float = 0.15
    """Share of the tokens that is cut out."""
    lengths: SpanLengths = field(default_factory=SpanLengths)
    """Of spans, in words."""

    specials: ClassVar[tuple[str, ...]] = tuple(f"gap{i}" for i in range(MARKS))
    open_prefix: ClassVar[bool] = True
    extra: ClassVar[int] = 2 * MARKS + 1

    def __post_init__(self) -> None:
        if not 0 < self.rate < self.lengths.mean / (1 + self.lengths.mean):
            raise ValueError(f"rate is {self.rate}; give more than 0, and less than spans with a gap between can cover")

    def row(self, ids: np.ndarray, gaps: Gaps, random: np.random.Generator) -> Row:
        """ids: a window, its begin included."""
        word = spans.words(ids[1:], gaps.begins)
        group = spans.runs(int(word[-1]) + 1, self.rate, random, self.lengths)[word]
        source, target = sentinels(ids[1:], group, gaps.marks)
        return written([gaps.bos, *source, *target, gaps.eos], 1 + len(source), prefix=True)

    def prompt(self, parts: Sequence[list[int]], gaps: Gaps) -> Prompt:
        """The text with a mark for each gap. Raises ValueError where there is none, or there are too many."""
        if not 1 < len(parts) <= MARKS:
            raise ValueError(f"it has {len(parts) - 1} gaps; write 1 to {MARKS - 1} of {GAP}")
        source = list(parts[0])
        for mark, part in zip(gaps.marks, parts[1:], strict=False):
            source += [mark, *part]
        used = gaps.marks[: len(parts) - 1]
        return Prompt([gaps.bos, *source], parts, lambda told: fillings(told, gaps.marks, used))

    def constraint(self, gaps: Gaps) -> Constraint:
        """As in every target of `sentinels`; only where it ends is up to the model."""
        return MarksInTurn(tuple(gaps.marks))
