"""Offence in words and between words (A79): what deleting takes out, and whom a classifier wrongs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch

from qkv.data.batch import Batch
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.tasks.toxicity import identity_bias, lexicon

FILLER = [f"filler{a}{b}" for a in "abcde" for b in "fghijk"]
BAD = [f"bad{a}" for a in "vwxyz"]
FIRST, SECOND = ["they", "such"], ["belong", "again"]
"""Harmless words: one of FIRST and one of SECOND in a text insult, whatever else is said."""


@dataclass(frozen=True)
class Remarks:
    """texts: of each kind that the lexicon is learned from. words: of a text."""

    texts: Annotated[int, within(50, 5000)] = 600
    words: Annotated[int, within(4, 20)] = 8


def insults(text: str) -> bool:
    """The truth: a bad word, or a word of FIRST and one of SECOND together."""
    said = {*text.split()}
    return bool(said & {*BAD} or (said & {*FIRST} and said & {*SECOND}))


def remark(kind: str, length: int, rng: random.Random) -> str:
    """A text that insults by a word (explicit), by two (implicit), or not, with one word of a pair (harmless)."""
    own = {
        "explicit": lambda: [rng.choice(BAD)],
        "implicit": lambda: [rng.choice(FIRST), rng.choice(SECOND)],
        "harmless": lambda: [rng.choice([*FIRST, *SECOND])],
    }[kind]()
    words = own + rng.choices(FILLER, k=length - len(own))
    rng.shuffle(words)
    return " ".join(words)


@experiment()
def implicit_insults(lab: Lab, params: Remarks) -> None:
    """Deleting learned words takes out insults that are in words, and none that are between them."""
    rng = random.Random(lab.seed)
    kinds = ("explicit", "implicit", "harmless")
    seen = {kind: [remark(kind, params.words, rng) for _ in range(params.texts)] for kind in kinds}
    learned = lexicon([*seen["explicit"], *seen["implicit"]], seen["harmless"])
    fresh = {kind: [remark(kind, params.words, rng) for _ in range(200)] for kind in kinds}
    assert all(insults(text) == (kind != "harmless") for kind, texts in fresh.items() for text in texts)
    lab.number("lexicon", len(learned.scores))
    lab.number("true_words", sum(word in learned for word in BAD))

    def mended(kind: str) -> float:
        """The share of insults that are none after deletion."""
        return sum(not insults(learned.without(text)) for text in fresh[kind]) / len(fresh[kind])

    lab.claim(
        "survive",
        Text(
            "Of insults made of harmless words, deleting words of the lexicon takes out less than a fifth.",
            "由无害的词组成的冒犯，按词表删词消除的不到五分之一。",
        ),
        measure=mended,
        arm="implicit",
        control="explicit",
        without=Text("implicitness: the insult is a word of its own", "不隐含：冒犯就在某个词里"),
        holds=below(0.2),
    )
    lab.number("mended_explicit", mended("explicit"))


@dataclass(frozen=True)
class Identities:
    """attacked: share of texts with the identity that insult, as collected. unmarked: share of insults without a bad
    word in them. steps: of training."""

    attacked: Annotated[float, within(0.5, 0.95)] = 0.8
    unmarked: Annotated[float, within(0.1, 0.9)] = 0.4
    steps: Annotated[int, within(50, 1000)] = 200


@experiment(long=True)
def identity_terms(lab: Lab, params: Identities) -> None:
    """A classifier holds an identity that is often attacked against whoever names it; balanced texts mend that."""
    names = {word: number for number, word in enumerate([*FILLER, *BAD, "green", "blue"])}
    quiet = {
        name: [" ".join([name, *random.Random(i).choices(FILLER, k=7)]) for i in range(100)]
        for name in ("green", "blue")
    }

    def text(balanced: bool, rng: random.Random) -> tuple[list[str], int]:
        """`green` is attacked in `attacked` of its texts as collected, `blue` in the rest; balanced, both in half."""
        identity = rng.choice(("green", "blue"))
        p = 0.5 if balanced else params.attacked if identity == "green" else 1 - params.attacked
        insult = rng.random() < p
        own = [identity, *([rng.choice(BAD)] if insult and rng.random() >= params.unmarked else [])]
        words = own + rng.choices(FILLER, k=8 - len(own))
        rng.shuffle(words)
        return words, int(insult)

    @cache
    def bias(balanced: bool, seed: int) -> dict[str, float]:
        torch.manual_seed(seed)
        model = small.encoder(len(names), d_model=32, n_layers=1)

        def batch(generator: torch.Generator) -> Batch:
            rng = random.Random(int(torch.randint(2**31, (1,), generator=generator)))
            rows = [text(balanced, rng) for _ in range(64)]
            ids = torch.tensor([[names[word] for word in words] for words, _ in rows])
            return small.at_last(ids, torch.tensor([label for _, label in rows]))

        lab.train(model, batch, params.steps, seed=seed)

        def score(texts: list[str]) -> list[float]:
            ids = torch.tensor([[names[word] for word in each.split()] for each in texts])
            found = small.logits(model, small.labelled(ids, ids))[:, -1, :2]
            return found.softmax(-1)[:, 1].tolist()

        return identity_bias(score, quiet)  # type: ignore[arg-type]

    lab.claim(
        "balanced",
        Text(
            "Trained on balanced texts, the classifier takes few quiet texts for insults, whatever identity they name.",
            "用平衡过的文本训练，无论提到哪种身份，平静的文本很少被当成冒犯。",
        ),
        measure=lambda balanced, seed: bias(balanced, seed)["worst"],
        arm=True,
        control=False,
        without=Text("balancing: the identity is mostly attacked in the texts", "不平衡：文本里提到该身份多半是在攻击"),
        holds=below(0.1),
        seeds=3,
    )
    p, u = params.attacked, params.unmarked
    lab.number("posterior", p * u / (p * u + 1 - p))
    lab.number("posterior_balanced", u / (u + 1))
    lab.number("gap_before", bias(False, lab.seed)["gap"])
    lab.number("gap_after", bias(True, lab.seed)["gap"])
    _draw(lab, {(name, b): bias(b, lab.seed)[f"of {name}"] for b in (False, True) for name in ("green", "blue")})


def _draw(lab: Lab, rates: dict[tuple[str, bool], float]) -> None:
    """rates: by identity, and whether the texts were balanced."""
    names = {
        ("green", False): Text("attacked, as collected", "常被攻击，原样"),
        ("blue", False): Text("other, as collected", "另一种，原样"),
        ("green", True): Text("attacked, balanced", "常被攻击，平衡后"),
        ("blue", True): Text("other, balanced", "另一种，平衡后"),
    }
    lab.figure(
        "rates",
        figures.bars(
            Text("Quiet texts that are taken for insults", "平静的文本被当成冒犯的比例"),
            Text("share", "比例"),
            {f"{name} {balanced}": rate for (name, balanced), rate in rates.items()},
            {f"{name} {balanced}": text for (name, balanced), text in names.items()},
        ),
    )
