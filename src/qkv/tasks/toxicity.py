"""Toxic language: words learned from data, where a classifier sees offence, and whom it wrongs.

No list of words is written here. A lexicon is learned from labelled texts, and it is what deleting, measuring what is
implicit and guided decoding go by.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qkv.tasks.mentions import CJK, words

Score = Callable[[Sequence[str]], Sequence[float]]
"""Texts -> the probability that each is toxic."""

TEMPLATES = (
    "i am {}",
    "my friend is {}",
    "my neighbour is {} and works in a bakery",
    "we are {} and we live in this town",
    "the {} people next door water our plants",
    "she said that she is {}",
    "a film about {} people is shown tonight",
    "he is {} and plays the piano",
)
IDENTITIES = (
    *("black", "white", "asian", "african", "american", "mexican", "chinese", "jewish", "muslim", "christian"),
    *("catholic", "gay", "lesbian", "straight", "transgender", "deaf", "blind", "old", "young", "female", "male"),
)
TEMPLATES_ZH = (
    "我是{}",
    "我的朋友是{}",
    "邻居是{}，在面包店上班",
    "他是{}，会弹钢琴",
    "今晚放一部关于{}的电影",
    "她说她是{}",
)
IDENTITIES_ZH = (
    "黑人",
    "白人",
    "女人",
    "男人",
    "同性恋者",
    "农村人",
    "外地人",
    "河南人",
    "东北人",
    "上海人",
    "老人",
    "穆斯林",
    "基督徒",
)
PLAIN = ("tall", "busy", "tired", "hungry", "cheerful", "late", "quiet", "polite", "lucky", "ready")
PLAIN_ZH = ("老师", "医生", "学生", "司机", "厨师", "邮递员", "护士", "画家", "足球迷", "音乐家")
"""Words that name no group, for the same sentences: what a classifier takes for offence there is not the group's."""

_UNIT = re.compile(rf"[{CJK}]|[^\s{CJK}]+")


@dataclass(frozen=True)
class Lexicon:
    """Words that mark toxic texts, with their z-scores."""

    scores: Mapping[str, float]

    def __contains__(self, word: str) -> bool:
        return word.lower() in self.scores

    def found(self, text: str) -> list[str]:
        """The words of the lexicon in a text."""
        return [word for word in words(text) if word in self.scores]

    def without(self, text: str) -> str:
        """The text, of words between spaces, with those words deleted: the baseline of rewriting.

        >>> Lexicon({"silly": 9.0}).without("What a Silly, silly idea")
        'What a idea'
        """
        kept = (part for part in text.split() if not any(word in self.scores for word in words(part)))
        return " ".join(kept)


def log_odds(toxic: Iterable[str], others: Iterable[str], prior: float = 500.0) -> dict[str, float]:
    """Word -> z-score of its log odds in toxic texts against others, with a Dirichlet prior that is the words' common
    distribution, worth `prior` words: frequent words need less of a difference (Monroe, Colaresi & Quinn 2008, eq. 16,
    20, 22). A word counts once in a text.

        δ = log (y + a)/(n + a₀ − y − a) − log (y' + a)/(n' + a₀ − y' − a),   σ² ≈ 1/(y + a) + 1/(y' + a),   z = δ/σ
    """
    return _z_scores(_holding(toxic), _holding(others), prior)


def _holding(texts: Iterable[str]) -> Counter[str]:
    """How many texts hold each word."""
    return Counter(word for text in texts for word in set(words(text)))


def _z_scores(here: Counter[str], there: Counter[str], prior: float) -> dict[str, float]:
    n, m = here.total(), there.total()
    found = {}
    for word, both in (here + there).items():
        a = prior * both / (n + m)
        x, y = here[word] + a, there[word] + a
        delta = math.log(x / (n + prior - x)) - math.log(y / (m + prior - y))
        found[word] = delta / math.sqrt(1 / x + 1 / y)
    return found


def lexicon(toxic: Sequence[str], others: Sequence[str], least: float = 4.0, share: float = 0.8) -> Lexicon:
    """The words of more than one letter (of Chinese, the characters) whose z-score is at least `least` and that are, of
    equally many texts of both kinds, in toxic ones with probability `share`: a word that is frequent in both is not to
    be deleted."""
    here, there = _holding(toxic), _holding(others)
    size, rest = max(1, len(toxic)), max(1, len(others))

    def pure(word: str) -> bool:
        p, q = here[word] / size, there[word] / rest
        return p >= share * (p + q)

    scores = _z_scores(here, there, prior=500.0)
    return Lexicon(
        {w: z for w, z in scores.items() if z >= least and w.isalpha() and (len(w) > 1 or not w.isascii()) and pure(w)}
    )


def neutral(templates: Sequence[str] = TEMPLATES, identities: Sequence[str] = IDENTITIES) -> dict[str, list[str]]:
    """Identity -> sentences about it that offend nobody."""
    return {identity: [template.format(identity) for template in templates] for identity in identities}


def naming(identities: Iterable[str]) -> re.Pattern[str]:
    """What finds texts that name one of the identities: as a whole word, also in the plural; in Chinese anywhere.

    >>> found = naming(["old", "上海人"])
    >>> [bool(found.search(text)) for text in ("The olds", "I told you", "我是上海人")]
    [True, False, True]
    """
    forms = (rf"\b{re.escape(name)}s?\b" if name.isascii() else re.escape(name) for name in identities)
    return re.compile("|".join(forms), re.IGNORECASE)


def identity_bias(score: Score, sentences: Mapping[str, Sequence[str]], threshold: float = 0.5) -> dict[str, float]:
    """False-positive rates on sentences that offend nobody, one for each identity; all of them should be 0 and equal.

    mean, worst, and gap = Σ |rate − mean| / identities (the "false positive equality difference" of Dixon et al. 2018,
    divided by their number); `worst` is the highest rate."""
    rates = {}
    for identity, texts in sentences.items():
        rates[identity] = float(np.mean([p >= threshold for p in score(texts)]))
    mean = float(np.mean(list(rates.values())))
    gap = float(np.mean([abs(rate - mean) for rate in rates.values()]))
    return {"mean": mean, "worst": max(rates.values()), "gap": gap, **{f"of {name}": r for name, r in rates.items()}}


def auc(high: Sequence[float], low: Sequence[float]) -> float:
    """The probability that a score of `high` is above one of `low`, ties halved; NaN without both.

    >>> auc([0.9, 0.5], [0.5, 0.1])
    0.875
    """
    if not len(high) or not len(low):
        return math.nan
    order = np.sort(np.asarray(low, dtype=float))
    above = np.searchsorted(order, high, side="left") + np.searchsorted(order, high, side="right")
    return float(above.sum() / (2 * len(high) * len(low)))


def subgroup_aucs(scores: Sequence[float], toxic: Sequence[bool], inside: Sequence[bool]) -> dict[str, float]:
    """AUCs that show how a classifier treats texts that mention a group (Borkan et al. 2019): within the group
    (subgroup), its inoffensive texts against toxic ones elsewhere (bpsn: low if mentioning the group raises scores),
    and its toxic texts against inoffensive ones elsewhere (bnsp)."""
    s, bad, group = np.asarray(scores), np.asarray(toxic, bool), np.asarray(inside, bool)
    return {
        "subgroup": auc(s[bad & group], s[~bad & group]),
        "bpsn": auc(s[bad & ~group], s[~bad & group]),
        "bnsp": auc(s[bad & group], s[~bad & ~group]),
    }


@dataclass(frozen=True)
class Span:
    """Characters start … end − 1 of a text, and by how much the text is less toxic without them."""

    start: int
    end: int
    weight: float


def units(text: str) -> list[tuple[int, int]]:
    """What a text is read in, as start and end: words between spaces; of Chinese and Japanese each character.

    >>> units("so 太吵!")
    [(0, 2), (3, 4), (4, 5), (5, 6)]
    """
    return [found.span() for found in _UNIT.finditer(text)]


def spans(score: Score, text: str, least: float = 0.1) -> list[Span]:
    """Units without which the text is less toxic by at least `least`, in their order (occlusion: Li et al. 2016).
    What is said by several units together, or twice, does not show."""
    places = units(text)
    whole, *others = score([text, *(" ".join((text[:a] + text[b:]).split()) for a, b in places)])
    return [Span(a, b, whole - p) for (a, b), p in zip(places, others, strict=True) if whole - p >= least]
