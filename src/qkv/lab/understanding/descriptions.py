"""Labels that no training text had: found by their descriptions, or not at all (A55)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.understanding.rare import LABEL, asked
from qkv.models import Choice, EncoderOnly, EncoderOnlyConfig, Reader, pooled
from qkv.nn import Tokens
from qkv.training.losses import Term
from qkv.training.objectives import OutputLosses


@dataclass(frozen=True)
class Things:
    """kinds: colours, and as many shapes; a label is one of each. n_synonyms: words for a colour or a shape in texts.
    length: of a text, the two and words that say nothing. unseen: labels without training texts are those on so many
    diagonals. steps: updates. temperature: of cosines. tested: texts."""

    kinds: Annotated[int, within(3, 12)] = 6
    n_synonyms: Annotated[int, within(1, 20)] = 5
    length: Annotated[int, within(2, 16)] = 6
    unseen: Annotated[int, within(1, 2)] = 1
    steps: Annotated[int, within(10, 1000)] = 250
    temperature: Annotated[float, within(0.01, 1)] = 0.1
    tested: Annotated[int, within(50, 5000)] = 1000


class DescriptionLoss:
    """−log softmax over the seen labels of cos(text, description)/τ: both are read by the same encoder."""

    additive = True

    def __init__(self, described: Tensor, seen: Tensor, temperature: float):
        self.described, self.seen, self.temperature = described, seen, temperature

    def __call__(self, model: Any, batch: Batch) -> dict[str, Term]:
        scores = cosines(model, batch.ids, self.described[self.seen]) / self.temperature
        right = (batch.extra[LABEL][:, None] == self.seen).int().argmax(1)
        return {LABEL: (F.cross_entropy(scores, right, reduction="sum"), float(len(right)), 1.0)}

    def counts(self, batch: Batch) -> dict[str, float]:
        return {LABEL: float(len(batch.ids))}


def cosines(model: EncoderOnly, ids: Tensor, described: Tensor) -> Tensor:
    """Texts [B,T] and descriptions [C,2] -> [B,C]."""

    def vectors(some: Tensor) -> Tensor:
        memory = model.encode(some, Tokens.arange(*some.shape))
        return F.normalize(pooled(memory.x, memory.tokens), dim=-1)

    return vectors(ids) @ vectors(described).T


class Grid:
    """Texts about coloured shapes. Words: names of colours and of shapes, then synonyms of either, then the rest."""

    def __init__(self, lab: Lab, params: Things):
        self.lab, self.params, k = lab, params, params.kinds
        colour, shape = torch.arange(k * k) // k, torch.arange(k * k) % k
        self.described = torch.stack([colour, k + shape], 1)
        hidden = (shape - colour) % k < params.unseen
        self.seen, self.unseen = (~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]
        self.n_words = 2 * k + 2 * k * params.n_synonyms + 20
        self.test_labels = self.unseen[torch.randint(len(self.unseen), (params.tested,), generator=lab.generator(1))]
        self.test_ids = self.texts(self.test_labels, lab.generator(2))

    def texts(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """[B,T]: a word for the colour and one for the shape, in any places among words that say nothing."""
        params, n = self.params, len(labels)
        first = 2 * params.kinds
        ids = torch.randint(self.n_words - 20, self.n_words, (n, params.length), generator=generator)
        said = first + self.described[labels] * params.n_synonyms
        said = said + torch.randint(params.n_synonyms, (n, 2), generator=generator)
        places = torch.rand(n, params.length, generator=generator).argsort(1)[:, :2]
        return ids.scatter(1, places, said)

    def drawn(self, generator: torch.Generator) -> Batch:
        """Texts of seen labels."""
        labels = self.seen[torch.randint(len(self.seen), (64,), generator=generator)]
        return asked(self.texts(labels, generator), labels)

    @cache  # noqa: B019
    def encoder(self, shuffled: bool, seed: int) -> tuple[EncoderOnly, Tensor]:
        """An encoder trained on seen labels by descriptions, true or dealt out anew, and these descriptions."""
        order = torch.randperm(len(self.described), generator=self.lab.generator(3 + seed))
        described = self.described[order] if shuffled else self.described
        torch.manual_seed(seed)
        model = small.encoder(self.n_words, d_model=32, n_layers=1)
        loss = DescriptionLoss(described, self.seen, self.params.temperature)
        self.lab.train(model, self.drawn, self.params.steps, seed=seed, loss=loss)
        return model, described

    def accuracy(self, shuffled: bool, seed: int, seen: bool = False) -> float:
        """Share of texts whose label, of all labels, has the nearest description."""
        model, described = self.encoder(shuffled, seed)
        batch = self.drawn(self.lab.generator(4))
        ids, labels = (batch.ids, batch.extra[LABEL]) if seen else (self.test_ids, self.test_labels)
        with torch.no_grad():
            return float((cosines(model, ids, described).argmax(1) == labels).double().mean())

    def one_hot(self, seed: int) -> tuple[float, float]:
        """The same encoder with a row of weights a label instead: accuracy on unseen labels and on seen ones."""
        torch.manual_seed(seed)
        output, n = Choice(dropout=0.0), len(self.described)
        model = Reader(EncoderOnlyConfig(small.stack(self.n_words, n_layers=1)), {LABEL: output}, {LABEL: [1] * n})
        self.lab.train(model, self.drawn, self.params.steps, seed=seed, loss=OutputLosses({LABEL: output}))
        batch = self.drawn(self.lab.generator(4))
        pairs = ((self.test_ids, self.test_labels), (batch.ids, batch.extra[LABEL]))
        with torch.no_grad():
            given = [(model(ids, Tokens.arange(*ids.shape))[LABEL].argmax(1), right) for ids, right in pairs]
        return tuple(float((chosen == right).double().mean()) for chosen, right in given)  # type: ignore[return-value]


@experiment(long=True)
def described_labels(lab: Lab, params: Things) -> None:
    """Texts of labels that training never had are found by what the labels are called, since colours and shapes were
    met in other labels; with names dealt out at random they are not, and a weight row a label never answers them."""
    grid = Grid(lab, params)
    unseen, seen = grid.one_hot(lab.seed)
    lab.number("one_hot_unseen", unseen, "share")
    lab.number("one_hot_seen", seen, "share")
    lab.number("seen", grid.accuracy(False, lab.seed, seen=True), "share")
    lab.number("shuffled_seen", grid.accuracy(True, lab.seed, seen=True), "share")
    lab.number("chance", 1 / len(grid.described), "share")
    lab.number("n_unseen", len(grid.unseen))
    lab.number("n_labels", len(grid.described))
    lab.claim(
        "unseen",
        Text("Among all labels, those without training texts are found.", "在所有类里，训练时没有文本的类也能找到。"),
        measure=grid.accuracy,
        arm=False,
        control=True,
        without=Text("descriptions dealt out at random", "把描述随机发给各类"),
        holds=above(0.8),
        unit="share",
        seeds=3,
    )
    lab.figure(
        "accuracy",
        figures.bars(
            Text("Accuracy on labels without training texts", "训练时没有文本的类：准确率"),
            Text("accuracy", "准确率"),
            {
                "described": grid.accuracy(False, lab.seed),
                "shuffled": grid.accuracy(True, lab.seed),
                "one_hot": unseen,
            },
            {
                "described": Text("by description", "按描述"),
                "shuffled": Text("descriptions shuffled", "描述打乱"),
                "one_hot": Text("a weight row a label", "每类一行权重"),
            },
        ),
    )
