"""Sarcasm in two public corpora (B29): how well it is recognised depends on what its label goes by."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import nn

from qkv.baselines.tfidf import Features, learn
from qkv.data.batch import Batch
from qkv.data.corpora import Isarcasm, SarcasmHeadlines
from qkv.data.labelled import Labelled
from qkv.lab import figures, small
from qkv.lab.checks import higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.tasks.scope_metrics import auroc
from qkv.text import BPE, train

CORPORA: dict[str, SarcasmHeadlines | Isarcasm] = {"headlines": SarcasmHeadlines(), "tweets": Isarcasm()}
LABELS = ("serious", "sarcastic")


@dataclass(frozen=True)
class Corpora:
    """rows: training texts of either corpus. vocab_size: of its tokenizer. length: tokens of a text that are read.
    steps: updates. batch: texts of each."""

    rows: Annotated[int, within(200, 20_000)] = 2700
    vocab_size: Annotated[int, within(300, 8000)] = 3000
    length: Annotated[int, within(8, 64)] = 32
    steps: Annotated[int, within(20, 2000)] = 250
    batch: Annotated[int, within(8, 128)] = 32


def shuffled(rows: Sequence[Labelled]) -> list[Labelled]:
    """The same texts with the words of each in another order."""
    order = random.Random(0)

    def mixed(text: str) -> str:
        words = text.split()
        order.shuffle(words)
        return " ".join(words)

    return [Labelled(mixed(row.text), row.labels) for row in rows]


class Corpus:
    """One corpus in tokens. ordered: whether its words stand as they were written."""

    def __init__(self, name: str, params: Corpora, ordered: bool = True):
        self.params = params
        kept = {"train": CORPORA[name].load("train"), "test": CORPORA[name].load("test")}
        kept["train"] = random.Random(0).sample(kept["train"], min(params.rows, len(kept["train"])))
        self.rows = kept if ordered else {split: shuffled(rows) for split, rows in kept.items()}
        self.tokenizer = train(BPE(params.vocab_size), [row.text for row in self.rows["train"]])
        self.asks = self.tokenizer.vocab_size
        self.labels = {split: [LABELS.index(row.labels[0]) for row in rows] for split, rows in self.rows.items()}
        self.ids = {
            split: [ids[: params.length] for ids in self.tokenizer.encode_batch(row.text for row in rows)]
            for split, rows in self.rows.items()
        }

    def batch(self, split: str, rows: Sequence[int]) -> Batch:
        """Texts of a split, each after the token that asks for its label: one of the first two ids."""
        ids, labels = self.ids[split], self.labels[split]
        return small.asked_first([ids[i] for i in rows], [self.asks] * len(rows), [labels[i] for i in rows])

    def ranked(self, scores: torch.Tensor) -> float:
        """The chance that a sarcastic text of the test scores above a serious one; scores [N]."""
        sarcastic = torch.tensor(self.labels["test"]).bool()
        return auroc(scores[sarcastic].double().numpy(), scores[~sarcastic].double().numpy())

    def linear(self) -> float:
        """The same of counted words with logistic regression: each word adds its weight, whatever stands around it."""
        texts, labels = ([row.text for row in self.rows["train"]], [row.labels[0] for row in self.rows["train"]])
        cut = len(texts) // 10
        model = learn(texts[cut:], labels[cut:], texts[:cut], labels[:cut], (Features(words=1),))
        said = model.probabilities([row.text for row in self.rows["test"]])
        return self.ranked(torch.from_numpy(said[:, model.labels.index("sarcastic")]))


@experiment(long=True, data=("sarcasm_headlines", "isarcasm"))
def sarcasm_corpora(lab: Lab, params: Corpora) -> None:
    """As many texts teach to tell satirical headlines from serious ones, and hardly which tweets were meant so."""
    corpora = {name: Corpus(name, params) for name in CORPORA}
    corpora["shuffled"] = Corpus("headlines", params, ordered=False)

    @cache
    def recognised(name: str, seed: int) -> float:
        corpus = corpora[name]
        model: nn.Module = small.encoder(corpus.asks + 1, d_model=32, n_layers=1)

        def make(generator: torch.Generator) -> Batch:
            size = len(corpus.rows["train"])
            return corpus.batch("train", torch.randint(size, (params.batch,), generator=generator).tolist())

        lab.train(model, make, params.steps, seed=seed)
        said = small.logits(model, corpus.batch("test", range(len(corpus.rows["test"]))))[:, 0]
        return corpus.ranked(said[:, 1] - said[:, 0])

    lab.claim(
        "whose_label",
        Text(
            "Headlines labelled by their newspaper are told apart better than tweets labelled by their authors.",
            "按报社标注的标题，比由作者本人标注的推文更容易区分。",
        ),
        measure=recognised,
        arm="headlines",
        control="tweets",
        without=Text(
            "as many tweets, which their own authors call sarcastic or not", "同样多的推文，是否讽刺由作者自己说"
        ),
        holds=higher(),
        unit="AUROC",
        seeds=3,
    )
    heights = {name: lab.spread(name, [recognised(name, seed) for seed in lab.seeds()], "AUROC") for name in corpora}
    for name in CORPORA:
        heights[f"{name}_words"] = lab.number(f"{name}_words", corpora[name].linear(), "AUROC")
        lab.number(f"{name}_tested", len(corpora[name].rows["test"]))
    names = {
        "headlines": Text("headlines", "标题"),
        "shuffled": Text("headlines, words shuffled", "标题，词序打乱"),
        "headlines_words": Text("headlines, words added up", "标题，逐词相加"),
        "tweets": Text("tweets", "推文"),
        "tweets_words": Text("tweets, words added up", "推文，逐词相加"),
    }
    title = Text("Sarcastic texts ranked above serious ones", "讽刺文本排在正经文本之前的概率")
    lab.figure("corpora", figures.bars(title, Text("AUROC", "AUROC"), {name: heights[name] for name in names}, names))
