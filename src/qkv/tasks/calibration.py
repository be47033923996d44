"""Probabilities that mean what they say: temperature scaling of a trained classifier (Guo et al. 2017, §4.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qkv.data.labelled import Labelled
from qkv.errors import UserError
from qkv.models import Choice
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.folder import WEIGHTS, Run
from qkv.tasks.reading import side_by_side
from qkv.tasks.task import System
from qkv.training.checkpoint import replace_file
from qkv.training.weights import load_weights, save_weights

MOST = 100.0  # no temperature above, none below 1/MOST


def temperature(scores: Tensor, right: Tensor) -> float:
    """The T that makes Σ −log softmax(scores/T)[right] least. scores [N,C], right [N].

    With β = 1/T the sum is convex, and its slope Σ E_p[score] − score[right] grows with β: its zero is found by
    halving. Where all scores point right (or wrong) there is none, and T ends near 1/MOST (or at MOST).

    >>> scores = torch.tensor([[2.0, 0.0]] * 4)  # sure at 88 %, right at 75 %
    >>> round(2 / temperature(scores, torch.tensor([0, 0, 0, 1])), 4) == round(math.log(3), 4)
    True
    """
    scores = scores.double()
    reached = scores.gather(1, right.unsqueeze(1)).sum()
    low, high = 1 / MOST, MOST
    for _ in range(60):
        beta = math.sqrt(low * high)
        expected = ((beta * scores).softmax(-1) * scores).sum()
        low, high = (beta, high) if expected < reached else (low, beta)
    return 1 / math.sqrt(low * high)


def classifier(run: Run) -> Classify:
    """The task of a run that has a temperature. Raises UserError for another run."""
    task = run.recipe.task
    if not isinstance(task, Classify):
        raise UserError(f"{run.folder} does not classify texts; only a run of classify has a temperature")
    if not isinstance(task.output, Choice):
        raise UserError(f"{run.folder} gives any number of labels (output several); only one label has a temperature")
    return task


@torch.inference_mode()
def scores_of(system: System, task: Classify, rows: Sequence[Labelled]) -> tuple[Tensor, Tensor]:
    """The scores [N,C] of labelled rows before any temperature, and the numbers [N] of their labels, in float64."""
    readings = task.readings(rows, system.tokenizers, system.model.max_length)
    source = side_by_side(system, readings)
    scores = torch.zeros(len(rows), len(system.tokenizers.labels[LABEL]), dtype=torch.float64)
    for numbers in source.plan(0):
        batch = source.load(numbers).to(system.device)
        scores[numbers] = system.model(batch.ids, batch.tokens)[LABEL].double().cpu()
    return scores, torch.tensor([reading.extra[LABEL] for reading in readings])


def calibrate(run: Run) -> float:
    """Fit the temperature of a classify run on its dev split, keep it with the run's weights, and return it.

    Raises UserError for a run of another task, and where the weights cannot be written."""
    task = classifier(run)
    fitted = temperature(*scores_of(run.system, task, task.load(run.recipe.data, "dev")))
    model: Any = run.system.model
    kept: Tensor = model.outputs[LABEL].temperature.fill_(fitted)
    stored = load_weights(run.folder / WEIGHTS)  # the model in memory may be merged
    stored[f"outputs.{LABEL}.temperature"] = kept
    try:
        replace_file(run.folder / WEIGHTS, lambda path: save_weights(stored, path))
    except OSError as error:
        raise UserError(f"cannot write {run.folder / WEIGHTS}: {error.strerror}; free some room") from error
    return fitted
