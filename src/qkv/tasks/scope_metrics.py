"""How well a score tells texts in scope from others, and where to cut it: by what mistakes cost.

`inside` [N] and `outside` [M] are the scores of texts in scope and out of scope; higher should be in scope.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qkv.errors import UserError


@dataclass(frozen=True)
class Costs:
    """What goes wrong and what it costs each time; only ratios matter. outside: share of texts out of scope among those
    that will come. answered: one of them is answered as if it were in scope. refused: a text in scope is refused.
    wrong: a text in scope gets a wrong label. asked: the user is asked which of the two likeliest labels is meant."""

    outside: float = 0.1
    answered: float = 1.0
    refused: float = 1.0
    wrong: float = 1.0
    asked: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.outside < 1:
            raise ValueError(f"the share outside is {self.outside}; give a number between 0 and 1")
        for name in ("answered", "refused", "wrong", "asked"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a cost is 0 or more")


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The chance that a text in scope scores above one that is not, ties half: the area under the ROC curve.

    >>> auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0]))
    0.875
    """
    outside = np.sort(outside)
    below = np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")
    return float(below.mean() / 2 / len(outside))


def fpr_at_recall(inside: np.ndarray, outside: np.ndarray, recall: float = 0.95) -> float:
    """The share of texts out of scope that are let in where at least `recall` of those in scope are.

    >>> fpr_at_recall(np.arange(10, 110), np.array([0, 14, 15, 99]))
    0.5
    """
    kept = int(np.ceil(recall * len(inside) - 1e-9))
    return float((outside >= np.sort(inside)[len(inside) - kept]).mean())


def cost(inside: np.ndarray, outside: np.ndarray, threshold: float, costs: Costs) -> float:
    """Expected cost a text of refusing whatever scores below the threshold."""
    refused, answered = float((inside < threshold).mean()), float((outside >= threshold).mean())
    return (1 - costs.outside) * costs.refused * refused + costs.outside * costs.answered * answered


def cheapest_threshold(inside: np.ndarray, outside: np.ndarray, costs: Costs) -> float:
    """The threshold of least cost: between two scores, or −∞ (refuse nothing) or ∞ (refuse all).

    Of equally cheap cuts the one that refuses least. Raises UserError without examples of both kinds."""
    _require(inside, outside)
    cuts = _cuts(np.concatenate([inside, outside]))
    refused = np.searchsorted(np.sort(inside), cuts, "left") / len(inside)
    answered = 1 - np.searchsorted(np.sort(outside), cuts, "left") / len(outside)
    price = (1 - costs.outside) * costs.refused * refused + costs.outside * costs.answered * answered
    return float(cuts[int(price.argmin())])


def keeping_threshold(inside: np.ndarray, refused: float) -> float:
    """Without examples out of scope: the threshold that refuses at most the share `refused` of the texts in scope.

    Raises UserError for a share that is none."""
    if not 0 <= refused <= 1:
        raise UserError(f"the share to refuse is {refused:g}; give a number from 0 to 1")
    ordered = np.sort(inside)
    at = int(refused * len(ordered) + 1e-9)
    return float(ordered[at]) if at < len(ordered) else float("inf")


def cheapest_margin(gap: np.ndarray, right: np.ndarray, among: np.ndarray, costs: Costs) -> float:
    """How far the best label must lead, so that asking costs more than it saves.

    gap [N]: the best logit minus the second. right [N] bool: the best label is right. among [N] bool: one of the two
    is. Texts with a gap below the margin are asked about; then they are wrong only if neither was right. Of equally
    cheap margins the least."""
    cuts = _cuts(gap)
    order = np.argsort(gap)
    asked = np.searchsorted(gap[order], cuts, "left")
    missed = np.concatenate([[0], np.cumsum(~among[order])])[asked]
    wrong = (~right).sum() - np.concatenate([[0], np.cumsum(~right[order])])[asked]
    return float(cuts[int((costs.asked * asked + costs.wrong * (missed + wrong)).argmin())])


def margin_cost(gap: np.ndarray, right: np.ndarray, among: np.ndarray, margin: float, costs: Costs) -> float:
    """Cost a text of asking wherever the gap is below the margin."""
    asked = gap < margin
    return float((costs.asked * asked + costs.wrong * np.where(asked, ~among, ~right)).mean())


def _cuts(scores: np.ndarray) -> np.ndarray:
    """−∞, the middles between neighbouring scores, ∞."""
    distinct = np.unique(scores)
    return np.concatenate([[-np.inf], (distinct[:-1] + distinct[1:]) / 2, [np.inf]])


def _require(inside: np.ndarray, outside: np.ndarray) -> None:
    if not len(inside) or not len(outside):
        lacking = "in" if not len(inside) else "out of"
        raise UserError(f"there is no text {lacking} scope to choose a threshold by; give some of both kinds")
