"""What an encoder and a chain each bring to a tagger, on sentences whose source is known (A77)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, exactly, higher
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnlyConfig, Reader
from qkv.models.crf import Chain
from qkv.models.tagging import Tagging, TaggingOutput
from qkv.nn import Full, Window
from qkv.tasks.tag_metrics import broken, entity_scores
from qkv.training.objectives import OutputLosses

NAMES = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
TAGS = "tags"
TOPICS = 2  # the first two words of the vocabulary: what a sentence is about
ALONE = Text("the chain over single words, without an encoder", "只有链，发射分数只看单个词")


@dataclass(frozen=True)
class Names:
    """learned: sentences to learn from; few: for a contrast. words: of each kind, inside and outside of names. noise:
    share of the words that say nothing of their place; clear: the same for the control. length: of a sentence. steps:
    updates. rows: sentences to test on."""

    learned: Annotated[int, within(100, 20000)] = 3000
    few: Annotated[int, within(20, 1000)] = 100
    words: Annotated[int, within(4, 50)] = 12
    noise: Annotated[float, within(0, 0.6)] = 0.2
    clear: Annotated[float, within(0, 0.6)] = 0.0
    length: Annotated[int, within(4, 30)] = 12
    steps: Annotated[int, within(20, 1000)] = 250
    rows: Annotated[int, within(50, 2000)] = 800


def sentences(params: Names, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Words and labels, [B,T] each. The first word is the topic, and all names of a sentence are of its type; a name is
    two to four words long. A word says whether it begins a name, goes on, or neither, but for the noise."""
    topic = torch.randint(TOPICS, (rows,), generator=generator)
    place = torch.zeros(rows, params.length, dtype=torch.long)  # 0 outside, 1 begins, 2 goes on
    left = torch.zeros(rows, dtype=torch.long)
    for t in range(1, params.length):
        begins = (left == 0) & (torch.rand(rows, generator=generator) < 0.3)
        begins &= t + 1 < params.length
        drawn = torch.randint(1, 4, (rows,), generator=generator).clamp(max=params.length - 1 - t)
        place[:, t] = torch.where(begins, 1, torch.where(left > 0, 2, 0))
        left = torch.where(begins, drawn, (left - 1).clamp(min=0))
    kind = torch.randint(params.words, place.shape, generator=generator)
    noisy = torch.rand(place.shape, generator=generator) < params.noise
    said = torch.where(noisy, torch.randint(3, place.shape, generator=generator), place)
    ids = TOPICS + said * params.words + kind
    ids[:, 0] = topic
    return ids, torch.where(place == 0, 0, place + 2 * topic.unsqueeze(1))


class Taggers:
    """Taggers of one source, each trained once. A tagger is (encoder?, chain?, sentences to learn from)."""

    def __init__(self, lab: Lab, params: Names):
        self.lab, self.params = lab, params
        self.ids, self.right = sentences(params, params.rows, lab.generator(1))
        self.model = cache(self._trained)

    def _trained(self, encoder: bool, crf: bool, learned: int, seed: int) -> Reader:
        torch.manual_seed(seed)
        params = self.params
        mask = Full() if encoder else Window(0, 0)
        stack = small.stack(TOPICS + 3 * params.words, d_model=24, n_layers=2 if encoder else 1, d_ff=48, mask=mask)
        outputs = {TAGS: Tagging(crf=crf, dropout=0.0)}
        model = Reader(EncoderOnlyConfig(stack), outputs, {TAGS: [1] * len(NAMES)})
        ids, labels = sentences(params, learned, self.lab.generator(100 + seed))

        def make(generator: torch.Generator) -> Batch:
            rows = torch.randint(learned, (32,), generator=generator)
            return small.labelled(ids[rows], labels[rows])

        self.lab.train(model, make, params.steps, seed=seed, loss=OutputLosses(outputs), learning_rate=1e-2)
        return model

    @torch.no_grad()
    def tags(self, model: Reader, constrained: bool) -> list[list[str]]:
        """What a tagger says of the test sentences."""
        output = model.outputs[TAGS]
        assert isinstance(output, TaggingOutput)
        output.constrain(NAMES)
        if not constrained:
            output.legal = None
        decided = model.decide(small.labelled(self.ids, self.right))[TAGS]
        return [[NAMES[i] for i in one.labels] for one in decided]

    def f1(self, encoder: bool, crf: bool, learned: int, seed: int, constrained: bool = False) -> float:
        """Strict F1 of entities."""
        return self.scores(self.tags(self.model(encoder, crf, learned, seed), constrained))["f1"]

    def scores(self, given: list[list[str]]) -> dict[str, float]:
        right = [[NAMES[i] for i in row] for row in self.right.tolist()]
        return entity_scores(given, right, "bio")


def best_possible(params: Names, ids: Tensor, chained: bool = True) -> list[list[str]]:
    """Viterbi on the source itself, its durations read as a Markov chain: what a tagger could know of the places, given
    the topic. Not chained: each word by itself."""
    says = torch.full((3, 3), params.noise / 3)
    says += torch.eye(3) * (1 - params.noise)
    emissions = says.log()[:, (ids - TOPICS).clamp(min=0) // params.words].permute(1, 2, 0)
    emissions[:, 0] = torch.tensor([0.0, -torch.inf, -torch.inf])
    # One to three more words, each number as likely: the chance to go on once begun is 1, then 1/2 on average.
    steps = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], [0.35, 0.15, 0.5]]).log()
    end = torch.tensor([0.0, -torch.inf, 0.0])
    apart = Chain(torch.zeros(3), torch.zeros(3, 3), torch.zeros(3))
    chain = Chain(torch.zeros(3), steps, end) if chained else apart
    path = chain.best(emissions, torch.ones_like(ids, dtype=torch.bool))[0]
    labels = torch.where(path == 0, 0, path + 2 * ids[:, :1])
    return [[NAMES[i] for i in row] for row in labels.tolist()]


@experiment(long=True)
def chain_and_encoder(lab: Lab, params: Names) -> None:
    """An encoder knows what is far away, a chain what may follow, which counts where words leave doubt."""
    taggers = Taggers(lab, params)
    clear = Taggers(lab, replace(params, noise=params.clear))
    lab.number("one_in", 1 / max(params.noise, 1e-9), "words")
    lab.number("best", taggers.scores(best_possible(params, taggers.ids))["f1"], "F1")

    lab.claim(
        "encoder",
        Text(
            "The type of a name hangs on a word far away: an encoder with a chain finds it, a chain alone cannot.",
            "名字的类型取决于远处的一个词：编码器加链找得到，只有链找不到。",
        ),
        measure=lambda encoder, seed: taggers.f1(encoder, True, params.learned, seed),
        arm=True,
        control=False,
        without=ALONE,
        holds=higher(),
        unit="F1",
        seeds=3,
    )

    def gain(source: Taggers, learned: int, seed: int) -> float:
        return source.f1(True, True, learned, seed) - source.f1(True, False, learned, seed)

    def worth(source: Taggers) -> float:
        """What the chain adds to exact emissions."""
        f1 = [source.scores(best_possible(source.params, source.ids, chained))["f1"] for chained in (True, False)]
        return f1[0] - f1[1]

    lab.claim(
        "doubt",
        Text(
            "Where words leave doubt the chain adds to the F1 of exact emissions; where they leave none, nothing.",
            "词义含混时，即使发射分数精确，链也能提高 F1；没有含混时，链毫无用处。",
        ),
        measure=worth,
        arm=taggers,
        control=clear,
        without=Text("words that say their place", "每个词都说明自己的位置"),
        holds=above(0.02),
        unit="F1",
    )
    for name, learned in (("gain", params.learned), ("gain_few", params.few)):
        gains = [gain(taggers, learned, lab.seed + i) for i in range(3)]
        lab.number(name, sum(gains) / 3, "F1")
        lab.number(f"{name}_least", min(gains), "F1")
        lab.number(f"{name}_most", max(gains), "F1")
    _legal(lab, params, taggers)
    _draw(lab, params, taggers)


def _legal(lab: Lab, params: Names, taggers: Taggers) -> None:
    """What constraints alone do, at decoding, to a softmax."""

    def illegal(constrained: bool, seed: int) -> float:
        return broken(taggers.tags(taggers.model(True, False, params.learned, seed), constrained), "bio")

    lab.claim(
        "legal",
        Text(
            "Constrained decoding gives no illegal sequence; the softmax by itself gives them in many sentences.",
            "带约束的解码从不给出不合法的序列；单靠 softmax，许多句子都会出现。",
        ),
        measure=illegal,
        arm=True,
        control=False,
        without=Text("each word's best label", "每个词各取最优标签"),
        holds=exactly(0),
        unit="share",
        seeds=3,
    )
    model = taggers.model(True, False, params.learned, lab.seed)
    free, bound = (taggers.scores(taggers.tags(model, constrained=c)) for c in (False, True))
    lab.number("strict", free["f1"], "F1")
    lab.number("lenient", free["lenient_f1"], "F1")
    lab.number("bound", bound["f1"], "F1")
    chained = taggers.tags(taggers.model(True, True, params.learned, lab.seed), False)
    lab.number("illegal_crf", broken(chained, "bio"), "share")


def _draw(lab: Lab, params: Names, taggers: Taggers) -> None:
    n = params.learned
    heights = {
        "word": taggers.f1(False, False, n, lab.seed),
        "chain": taggers.f1(False, True, n, lab.seed),
        "encoder": taggers.f1(True, False, n, lab.seed),
        "bound": taggers.f1(True, False, n, lab.seed, constrained=True),
        "both": taggers.f1(True, True, n, lab.seed, constrained=True),
    }
    names = {
        "word": Text("words alone", "只看单词"),
        "chain": Text("words + chain", "单词 + 链"),
        "encoder": Text("encoder", "编码器"),
        "bound": Text("encoder, constrained", "编码器 + 约束"),
        "both": Text("encoder + chain", "编码器 + 链"),
    }
    title = Text("Strict F1 of names where words leave doubt", "词义含混时，名字的严格 F1")
    lab.figure("taggers", figures.bars(title, Text("F1", "F1"), heights, names))
