"""Toxic language: words learned from data, where a classifier sees offence, and whom it wrongs.

No list of words is written here. A lexicon is learned from labelled texts, and it is what deleting, measuring what is
implicit and guided decoding go by.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qkv.tasks.mentions import words

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
    20, 22).

        δ = log (y + a)/(n + a₀ − y − a) − log (y' + a)/(n' + a₀ − y' − a),   σ² ≈ 1/(y + a) + 1/(y' + a),   z = δ/σ
    """
    here, there = (Counter(word for text in texts for word in set(words(text))) for texts in (toxic, others))
    n, m = sum(here.values()), sum(there.values())
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
    here, there = (Counter(word for text in texts for word in set(words(text))) for texts in (toxic, others))
    scores = log_odds(toxic, others)
    size, rest = max(1, len(toxic)), max(1, len(others))

    def pure(word: str) -> bool:
        p, q = here[word] / size, there[word] / rest
        return p >= share * (p + q)

    return Lexicon(
        {w: z for w, z in scores.items() if z >= least and w.isalpha() and (len(w) > 1 or not w.isascii()) and pure(w)}
    )


def neutral(templates: Sequence[str] = TEMPLATES, identities: Sequence[str] = IDENTITIES) -> dict[str, list[str]]:
    """Identity -> sentences about it that offend nobody."""
    return {identity: [template.format(identity) for template in templates] for identity in identities}


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


def spans(score: Score, text: str, least: float = 0.1) -> list[tuple[str, float]]:
    """Words without which the text is less toxic by at least `least`, with the difference, in their order (occlusion:
    Li et al. 2016). What is said by several words together, or twice, does not show."""
    parts = text.split()
    texts = [text, *(" ".join([*parts[:i], *parts[i + 1 :]]) for i in range(len(parts)))]
    whole, *others = score(texts)
    return [(part, whole - p) for part, p in zip(parts, others, strict=True) if whole - p >= least]
