"""How many tokens of a row teach, and how much of a hidden word its own pieces give away (A54, A58)."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from qkv.data.batch import IGNORE
from qkv.data.corruption import Masking, Vocabulary, generator
from qkv.lab import small
from qkv.lab.checks import above, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnlyConfig
from qkv.models.config import HeadConfig
from qkv.models.pretraining import ReplacementDetector
from qkv.training.pretraining import DRAWS, MaskedTokens, ReplacedTokens

V, MASK = 32, 30


@dataclass(frozen=True)
class Rows:
    """rows, length: of a batch. rate: share of the tokens that is hidden."""

    rows: Annotated[int, within(8, 256)] = 64
    length: Annotated[int, within(16, 256)] = 128
    rate: Annotated[float, within(0.05, 0.6)] = 0.15


@experiment()
def taught_tokens(lab: Lab, params: Rows) -> None:
    """Of a row's tokens a masked model is told of 15 %, a detector of replaced tokens and a causal model of all."""
    random = lab.generator()
    ids = torch.randint(MASK, (params.rows, params.length), generator=random)
    known = Vocabulary(V, MASK, np.arange(MASK), np.ones(V, dtype=bool))
    masking = Masking(rate=params.rate, masked=1.0, random=0.0)
    found = [masking.corrupt(line, known, generator(lab.seed, 0, i)) for i, line in enumerate(ids.numpy())]
    read, targets = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    batch = small.labelled(read, targets)
    batch.extra["draw"] = torch.randint(DRAWS, ids.shape, generator=random)
    stack = small.stack(V, d_model=16, n_layers=1)
    detector = ReplacementDetector(EncoderOnlyConfig(stack, HeadConfig()))
    parts: dict[str, tuple[Any, Any, str]] = {
        "hidden": (MaskedTokens(), small.encoder(V, d_model=16, n_layers=1), "cross_entropy"),
        "replaced": (ReplacedTokens(), detector, "detection"),
    }

    def share(name: str) -> float:
        """Positions whose logits the loss depends on, by its gradient; as a share of the tokens."""
        loss, model, term = parts[name]
        seen: list[Tensor] = []
        hook = model.encoder.register_forward_hook(lambda _, __, out: seen.append(out))
        total = loss(model, batch)[term][0]
        hook.remove()
        [gradient] = torch.autograd.grad(total, seen[-1])
        return float((gradient.abs().amax(-1) > 0).float().mean())

    lab.claim(
        "share",
        Text(
            "The loss of the detector reaches the state of every token directly; that of masked tokens reaches 15 %.",
            "检测替换词的损失直接作用到每个词的状态上；掩码词的损失只作用到约 15 %。",
        ),
        measure=share,
        arm="replaced",
        control="hidden",
        without=Text("a loss at hidden tokens only", "只在被遮的词上有损失"),
        holds=above(0.99),
    )
    lab.number("causal", (params.length - 1) / params.length)


@dataclass(frozen=True)
class Lexicon:
    """words: of two pieces each; the second piece tells `siblings` words apart. rows: texts that are masked."""

    words: Annotated[int, within(4, 64)] = 24
    siblings: Annotated[int, within(1, 4)] = 2
    rows: Annotated[int, within(100, 5000)] = 1000
    rate: Annotated[float, within(0.05, 0.5)] = 0.15


@experiment()
def word_leak(lab: Lab, params: Lexicon) -> None:
    """A hidden piece whose sibling is in sight is told by spelling; hidden as a whole word, it takes the context."""
    n, group = params.words, params.siblings
    firsts = np.arange(n) // group  # first pieces are shared by the words of a group; second pieces are their own
    seconds = firsts.max() + 1 + np.arange(n)
    size = int(seconds.max()) + 2
    begins = np.arange(size) <= firsts.max()
    known = Vocabulary(size, size - 1, np.arange(size - 1), begins)
    random = np.random.default_rng(lab.seed)
    words = random.integers(n, size=(params.rows, 20))
    texts = np.stack([firsts[words], seconds[words]], axis=-1).reshape(params.rows, -1)

    def asked(unit: str) -> tuple[float, float]:
        """Share of the hidden pieces with their sibling in sight, and the Bayes loss in nats per hidden piece."""
        masking = Masking(unit=unit, rate=params.rate, masked=1.0, random=0.0)  # type: ignore[arg-type]
        beside = hidden = nats = 0.0
        for row, line in enumerate(texts):
            _, targets = masking.corrupt(line, known, generator(lab.seed, 0, row))
            out = (targets != IGNORE).reshape(-1, 2)
            for first, second in itertools.product((False, True), repeat=2):
                count = float((out == [first, second]).all(-1).sum())
                nats += count * _bayes(first, second, n, group)
                hidden += count * (first + second)
                beside += count * (first != second)
        return beside / hidden, nats / hidden

    lab.claim(
        "sibling",
        Text(
            "With single tokens hidden, the sibling of a hidden piece is in sight with probability 1 − rate.",
            "逐词元掩码时，被遮的词片有 1 − rate 的概率能看见同一个词的另一片。",
        ),
        measure=lambda unit: asked(unit)[0],
        arm="token",
        control="word",
        without=Text("whole words hidden", "整词掩码"),
        holds=close(1 - params.rate, 0.03),
    )
    for unit in ("token", "word"):
        lab.number(f"bayes_{unit}", asked(unit)[1], "nat")


def _bayes(first: bool, second: bool, n: int, group: int) -> float:
    """The least loss of a word's hidden pieces, each told by itself, where words are drawn uniformly and independently:
    H(first) = log(n/group), H(first | second) = 0, H(second) = log n, H(second | first) = log group."""
    if first and second:
        return math.log(n / group) + math.log(n)
    return math.log(group) if second else 0.0
