"""Which labels of a corpus are probably wrong: confident learning (Northcutt, Jiang & Chuang 2021).

Every row is judged by a classifier that was trained without it. A classifier that saw the row may have learned its
wrong label by heart: then it agrees with all labels, and the list is empty, though the order of its margins may still
tell something.

    p = out_of_fold(rows, fit_predict, names)      # [N,C]
    found = examine(rows, names, p)
    found.joint                                    # which label was given where which one is meant
    found.findings                                 # the rows to look at, most suspicious first

The assumption: a wrong label depends on the right one and not on the text, p(given | right, x) = p(given | right).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qkv.data.labelled import Labelled
from qkv.errors import UserError

Said = tuple[Sequence[str], np.ndarray]
"""Labels, and the probability of each for every row, [N,C]."""
FitPredict = Callable[[Sequence[Labelled], Sequence[Labelled]], Said]
"""(rows to train on, rows held out) -> what the trained classifier says of the rows held out."""
Report = Callable[[str], None]
Text = tuple[str, str | None]
"""A text without spaces around it, and the other text of a pair."""


def folds(rows: Sequence[Labelled], n: int = 5, seed: int = 0) -> np.ndarray:
    """The fold of every row, [N]. Equal texts share one, and each label is spread over all of them as evenly as can be.

    Were equal texts in two folds, each would vouch for the other's label.

    >>> folds([Labelled(text, (label,)) for text, label in zip("aabcde", "xyxxyy")], 2)[:2].std()
    np.float64(0.0)
    """
    if n < 2:
        raise UserError(f"--folds is {n}; give 2 or more, so that every row is held out once")
    groups = equal_texts(rows)
    if len(groups) < n:
        raise UserError(f"there are {len(groups)} distinct texts for {n} folds; give more rows or fewer folds")

    def order(key: Text) -> tuple[str, bytes]:
        label = rows[groups[key][0]].labels[0]
        return label, hashlib.sha256(f"{seed}\t{key[0]}\t{key[1]}".encode()).digest()

    found = np.zeros(len(rows), dtype=int)
    for place, key in enumerate(sorted(groups, key=order)):
        found[groups[key]] = place % n
    return found


def equal_texts(rows: Sequence[Labelled]) -> dict[Text, list[int]]:
    """The numbers of the rows of each distinct text, or pair of texts."""
    groups: dict[Text, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[row.text.strip(), row.second].append(number)
    return groups


def out_of_fold(
    rows: Sequence[Labelled],
    fit_predict: FitPredict,
    names: Sequence[str],
    n: int = 5,
    seed: int = 0,
    report: Report = lambda _: None,
) -> np.ndarray:
    """p [N,C] of the labels `names` for each row, by a classifier trained on the other folds; 0 for a label that none
    of the rows trained on has."""
    fold, p = folds(rows, n, seed), np.zeros((len(rows), len(names)))
    for i in range(n):
        report(f"fold {i + 1} of {n}")
        held = [row for row in range(len(rows)) if fold[row] == i]
        known, said = fit_predict([row for row, f in zip(rows, fold, strict=True) if f != i], [rows[j] for j in held])
        columns = [list(names).index(name) for name in known]
        p[np.array(held)[:, None], np.array(columns)] = said
    return p


def in_sample(rows: Sequence[Labelled], fit_predict: FitPredict, names: Sequence[str]) -> np.ndarray:
    """The control: p [N,C] by a classifier trained on the very rows that it judges."""
    known, said = fit_predict(rows, rows)
    return said[:, [list(known).index(name) for name in names]]


@dataclass(frozen=True)
class Joint:
    """thresholds [C]: what rows given a label get for it on average. meant [N]: the label that a row confidently is, or
    −1. counts [C,C]: rows given i that confidently are j. calibrated [C,C]: these, scaled so that its rows sum to how
    often each label was given: the estimated number of rows given i that are j."""

    thresholds: np.ndarray
    meant: np.ndarray
    counts: np.ndarray
    calibrated: np.ndarray

    @property
    def wrong(self) -> float:
        """The estimated number of wrong labels."""
        return float(self.calibrated.sum() - np.trace(self.calibrated))

    @property
    def noise(self) -> np.ndarray:
        """p(given | meant), [C,C]: column j is what becomes of rows that are j; 0 where nothing is j."""
        return self.calibrated / np.maximum(self.calibrated.sum(0), 1e-12)


def confident_joint(p: np.ndarray, given: np.ndarray) -> Joint:
    """Count given against confident labels (§3.1 there).

    t_j = mean of p_j over rows given j;  x confidently is j = argmax of p_k over the k with p_k(x) ≥ t_k.

    A threshold for each label, because classifiers are surer of some labels than of others. p [N,C], given [N].

    >>> p = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7]])
    >>> confident_joint(p, np.array([0, 0, 0, 1])).counts.tolist()  # thresholds 0.6 and 0.7; the third row is a 1
    [[2, 1], [0, 1]]
    """
    n_labels, rows = p.shape[1], np.arange(len(p))
    of = given[:, None] == np.arange(n_labels)
    number = of.sum(0)
    with np.errstate(invalid="ignore"):
        thresholds = np.where(number > 0, (p * of).sum(0) / np.maximum(number, 1), np.inf)
    thresholds[thresholds <= 0] = np.inf  # a label that is never recognised is never confidently meant
    sure = p >= thresholds - 1e-12
    meant = np.where(sure.any(1), np.where(sure, p, -1.0).argmax(1), -1)
    counts = np.zeros((n_labels, n_labels), dtype=int)
    np.add.at(counts, (given[rows[meant >= 0]], meant[meant >= 0]), 1)
    share = np.where(counts.sum(1, keepdims=True) > 0, counts, np.eye(n_labels))
    return Joint(thresholds, meant, counts, share / share.sum(1, keepdims=True) * number[:, None])


Method = Literal["confident", "by_rate"]


def margins(p: np.ndarray, given: np.ndarray) -> np.ndarray:
    """p of the likeliest other label minus p of the given one, [N]: how suspicious a row is, from −1 to 1."""
    return _others(p, given).max(1) - p[np.arange(len(p)), given]


def _others(p: np.ndarray, given: np.ndarray) -> np.ndarray:
    """p [N,C], −∞ in the place of the given label."""
    others = p.copy()
    others[np.arange(len(p)), given] = -np.inf
    return others


def suspects(p: np.ndarray, given: np.ndarray, joint: Joint, method: Method = "confident") -> np.ndarray:
    """Which rows to review, [N] bool.

    confident: those off the diagonal of the confident joint. by_rate: of the rows given i, the calibrated number that
    is j, those first in which p_j − p_i is largest, if it is positive ("prune by noise rate", §3.2 there)."""
    if method == "confident":
        return (joint.meant >= 0) & (joint.meant != given)
    found = np.zeros(len(p), dtype=bool)
    for i, j in zip(*np.nonzero(joint.calibrated), strict=True):
        rows = np.flatnonzero(given == i)
        most = round(float(joint.calibrated[i, j])) if i != j else 0
        lead = p[rows, j] - p[rows, i]
        best = np.argsort(-lead, kind="stable")[:most]
        found[rows[best[lead[best] > 0]]] = True
    return found


@dataclass(frozen=True)
class Finding:
    """A row to review. row: its number, from 1. suggested: the label it rather has. score: p of that minus p of its
    own. reason: why, in words."""

    row: int
    text: str
    label: str
    suggested: str
    score: float
    reason: str


@dataclass(frozen=True)
class Audit:
    """An audited corpus: its labels, what was said of its rows, the joint and the rows to review, most suspicious
    first. p [N,C], given [N]: as `confident_joint` takes them."""

    names: tuple[str, ...]
    p: np.ndarray
    given: np.ndarray
    joint: Joint
    findings: list[Finding]

    @property
    def agreement(self) -> float:
        """The share of rows whose label is the likeliest one."""
        return float((self.p.argmax(1) == self.given).mean())


def examine(rows: Sequence[Labelled], names: Sequence[str], p: np.ndarray, method: Method = "confident") -> Audit:
    """What p [N,C], out of fold, says of the labels: the rows to review are `suspects`, and equal texts of unequal
    labels. Raises UserError for rows with several labels."""
    given = numbers(rows, names)
    joint = confident_joint(p, given)
    rivals = _others(p, given).argmax(1) if method == "by_rate" else joint.meant
    suggested = {row: int(rivals[row]) for row in map(int, np.flatnonzero(suspects(p, given, joint, method)))}
    conflicts = _conflicts(rows, given, p)
    found = []
    for row, label in (suggested | conflicts).items():
        if row in conflicts:
            reason = f"the same text stands here as {names[label]}, too"
        else:
            reason = _reason(names, p[row], int(given[row]), label, joint)
        text = rows[row].text if rows[row].second is None else f"{rows[row].text}\t{rows[row].second}"
        score = float(p[row, label] - p[row, given[row]])
        found.append(Finding(row + 1, text, names[given[row]], names[label], score, reason))
    return Audit(tuple(names), p, given, joint, sorted(found, key=lambda finding: -finding.score))


def numbers(rows: Sequence[Labelled], names: Sequence[str]) -> np.ndarray:
    """The number of each row's label among `names`, [N]. Raises UserError for a row that has not one label."""
    for number, row in enumerate(rows, 1):
        if len(row.labels) != 1:
            raise UserError(
                f"row {number} ({row.text[:40]!r}) has {len(row.labels)} labels, and an audit needs one label a row; "
                "keep the best one"
            )
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[row.labels[0]] for row in rows])


def _conflicts(rows: Sequence[Labelled], given: np.ndarray, p: np.ndarray) -> dict[int, int]:
    """Rows whose text has other labels elsewhere, one of which is likelier: row -> that label."""
    found: dict[int, int] = {}
    for members in equal_texts(rows).values():
        labels = sorted({int(given[row]) for row in members})
        best = max(labels, key=lambda label: p[members[0], label])
        found |= {row: best for row in members if given[row] != best}
    return found


def _reason(names: Sequence[str], p: np.ndarray, given: int, label: int, joint: Joint) -> str:
    def told(number: int) -> str:
        usual = joint.thresholds[number]
        share = "never recognised" if np.isinf(usual) else f"rows given it: {usual:.2f} on average"
        return f"{names[number]} {p[number]:.2f} ({share})"

    return f"trained without this row, the classifier gives {told(label)} and {told(given)}"


def audit(
    rows: Sequence[Labelled],
    fit_predict: FitPredict,
    n: int = 5,
    seed: int = 0,
    method: Method = "confident",
    report: Report = lambda _: None,
) -> Audit:
    """Judge every row out of fold and list those to review. Raises UserError for rows with several labels, fewer than
    two labels that stand at two texts or more, and fewer texts than folds."""
    names = tuple(sorted({label for row in rows for label in row.labels}))
    given = numbers(rows, names)
    if not names:
        raise UserError("there are no rows to audit; give some")
    if len(names) < 2:
        raise UserError(f"all rows have the label {names[0]!r}; an audit compares labels, so give rows of two or more")
    texts = np.bincount([given[members[0]] for members in equal_texts(rows).values()], minlength=len(names))
    if (texts > 1).sum() < 2:
        lone = names[int(texts.argmin())]
        raise UserError(
            f"the label {lone!r} stands at one text only, and whoever judges it has then seen none of its kind; "
            "give at least two labels two texts each"
        )
    return examine(rows, names, out_of_fold(rows, fit_predict, names, n, seed, report), method)
