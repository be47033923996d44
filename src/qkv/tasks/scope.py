"""Whether a text belongs to what a classifier was trained for, and whether two labels are too close to choose between.

A `Scope` is fitted on a trained run and kept beside its weights: scope.json and scope.safetensors. Its threshold and
its margin come from what mistakes cost, measured on texts that trained nothing; there is no fixed confidence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from qkv.config import parse, plain
from qkv.data.buckets import BucketConfig
from qkv.data.labelled import Labelled
from qkv.data.readings import Readings
from qkv.decoding import Chooser
from qkv.errors import UserError
from qkv.models import Choice, Reader
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import write_text
from qkv.tasks.reading import CELLS
from qkv.tasks.scope_metrics import (
    Costs,
    auroc,
    cheapest_margin,
    cheapest_threshold,
    cost,
    fpr_at_recall,
    keeping_threshold,
)
from qkv.tasks.scope_scores import Energy, Features, ScoreConfig, State
from qkv.tasks.task import Prediction, System
from qkv.training.checkpoint import replace_file
from qkv.training.weights import load_weights, save_weights

FILE, WEIGHTS, FORMAT_VERSION = "scope.json", "scope.safetensors", 1


@torch.inference_mode()
def features(system: System, task: Classify, rows: Sequence[Labelled]) -> Features:
    """What the classifier makes of rows, whatever their labels, in their order. Raises UserError for several labels."""
    if not isinstance(task.output, Choice) or not isinstance(system.model, Reader):
        raise UserError("this run does not give one label a text; train one of the task classify with output: choice")
    output: Any = system.model.outputs[LABEL]
    bare = [Labelled(row.text, (), row.second) for row in rows]
    readings = task.readings(bare, system.tokenizers, system.model.max_length)
    config = BucketConfig(tokens=max([CELLS, *(len(r.ids) for r in readings)]))
    source = Readings(readings, config, None, system.tokenizers.target.pad_id or 0)
    n_labels, width = output.linear.weight.shape
    logits, vectors = (torch.zeros(len(rows), size, dtype=torch.float64) for size in (n_labels, width))
    for numbers in source.plan(0):
        batch = source.load(numbers).to(system.device)
        found = output.embed(system.model.encode(batch.ids, batch.tokens))
        vectors[numbers] = found.double().cpu()
        logits[numbers] = output.linear(found).double().cpu()
    return Features(logits, vectors, [list(r.ids)[1:-1] for r in readings])


@dataclass(frozen=True)
class Verdict:
    """score: higher is more in scope. inside: it reaches the threshold. gap: the best logit minus the second.
    ambiguous: it is inside and the gap below the margin. between: the two likeliest labels."""

    score: float
    inside: bool
    gap: float
    ambiguous: bool
    between: tuple[str, str]


@dataclass(frozen=True)
class Scope:
    """A fitted score with what it is cut at. measured: what was found on the texts that chose threshold and margin."""

    score: ScoreConfig
    state: State
    names: tuple[str, ...]
    threshold: float
    margin: float
    costs: Costs = field(default_factory=Costs)
    measured: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        system: System,
        task: Classify,
        train: Sequence[Labelled],
        dev: Sequence[Labelled],
        outside: Sequence[Labelled] = (),
        score: ScoreConfig | None = None,
        costs: Costs | None = None,
        refused: float | None = None,
    ) -> Scope:
        """train: rows that the run was trained on. dev: others in scope. outside: texts out of scope, of any label.

        Without `outside` give `refused`, the largest share of texts in scope that may be refused: what answering others
        costs cannot be weighed without examples of them. Raises UserError if both are missing."""
        score, costs = score or Energy(), costs or Costs()
        found = system.tokenizers.labels[LABEL]
        right = [torch.tensor([found.number(row.labels[0]) for row in rows]) for rows in (train, dev)]
        state = score.fit(features(system, task, train), right[0])
        seen = features(system, task, dev)
        inside = score.score(state, seen).numpy()
        two = seen.logits.topk(2)
        hit = two.indices == right[1].unsqueeze(1)
        gap = (two.values[:, 0] - two.values[:, 1]).numpy()
        margin = cheapest_margin(gap, hit[:, 0].numpy(), hit.any(1).numpy(), costs)
        measured = {"accuracy": float(hit[:, 0].double().mean()), "asked": float((gap < margin).mean())}
        if len(outside):
            other = score.score(state, features(system, task, outside)).numpy()
            threshold = cheapest_threshold(inside, other, costs)
            measured |= {"auroc": auroc(inside, other), "fpr_at_95_recall": fpr_at_recall(inside, other)}
            measured |= {"cost": cost(inside, other, threshold, costs), "answered": float((other >= threshold).mean())}
        elif refused is not None:
            threshold = keeping_threshold(inside, refused)
        else:
            raise UserError(
                "there are no texts out of scope to weigh costs by; give some (--outside), or the share of texts in "
                "scope to refuse at most (--refused)"
            )
        measured["refused"] = float((inside < threshold).mean())
        return cls(score, state, found.names, threshold, margin, costs, measured)

    def tell(self, system: System, task: Classify, rows: Sequence[Labelled]) -> list[Verdict]:
        """A verdict on each row, in order."""
        seen = features(system, task, rows)
        scores, two = self.score.score(self.state, seen).tolist(), seen.logits.topk(2)
        verdicts = []
        for value, logits, labels in zip(scores, two.values.tolist(), two.indices.tolist(), strict=True):
            gap, inside = logits[0] - logits[1], value >= self.threshold
            between = self.names[labels[0]], self.names[labels[1]]
            verdicts.append(Verdict(value, inside, gap, inside and gap < self.margin, between))
        return verdicts

    def save(self, folder: Path) -> None:
        """Write scope.safetensors and, when it is whole, scope.json, into a run folder."""
        tensors = dict(self.state) or {"empty": torch.zeros(1)}
        replace_file(folder / WEIGHTS, lambda path: save_weights(tensors, path))
        data = {
            "format_version": FORMAT_VERSION,
            "score": plain(self.score, ScoreConfig),
            "names": list(self.names),
            "threshold": written(self.threshold),
            "margin": written(self.margin),
            "costs": asdict(self.costs),
            "measured": self.measured,
        }
        write_text(folder / FILE, json.dumps(data, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Scope | None:
        """That of a run folder, or None where there is none. Raises UserError for a damaged one."""
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {data['format_version']}")
            score = parse(ScoreConfig, data["score"], "score")
            costs = parse(Costs, data["costs"], "costs")
            cuts = float(data["threshold"]), float(data["margin"])
            names, measured = tuple(data["names"]), dict(data["measured"])
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{path} is damaged ({error}); fit it again: qkv scope {folder}") from error
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"{folder} has {FILE} and no {WEIGHTS}; fit it again: qkv scope {folder}")
        state = {name: t for name, t in load_weights(folder / WEIGHTS).items() if name != "empty"}
        return cls(score, state, names, *cuts, costs, measured)


def written(number: float) -> float | str:
    """A number as JSON can hold it, which has no infinity."""
    return number if abs(number) < float("inf") else str(number)


@dataclass(frozen=True)
class Scoped:
    """A classify task whose predictions also say, in their details, whether a text is in scope and what is unclear."""

    task: Classify
    scope: Scope

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def predict(
        self, system: System, texts: Sequence[str], chooser: Chooser, max_new: int | None = None, first: int = 0
    ) -> list[Prediction]:
        """As the task's; details hold `in_scope`, `scope_score`, `ambiguous` and, if so, `between`."""
        predictions = self.task.predict(system, texts, chooser, max_new, first)
        for prediction, verdict in zip(predictions, self.scope.tell(system, self.task, rows_of(texts)), strict=True):
            told = {"in_scope": verdict.inside, "scope_score": verdict.score, "ambiguous": verdict.ambiguous}
            prediction.details.update(told | ({"between": list(verdict.between)} if verdict.ambiguous else {}))
        return predictions


def rows_of(texts: Sequence[str]) -> list[Labelled]:
    """Texts to predict for as rows; a tab separates the two texts of a pair."""
    parts = [text.partition("\t") for text in texts]
    return [Labelled(first, (), second if tab else None) for first, tab, second in parts]


def with_scope(folder: Path, task: Any) -> Any:
    """The task of a run, told apart by the scope that its folder holds; the task itself where there is none."""
    scope = Scope.load(folder) if isinstance(task, Classify) else None
    return task if scope is None else Scoped(task, scope)
