"""A recipe becomes a run folder: tokenizers are learned, a model is built, `fit` trains it, a card says what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from qkv.data.batch import BatchSource
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.runtime import choose_device, seed_everything, set_threads
from qkv.tasks import adapters, growth, incremental
from qkv.tasks import model as models
from qkv.tasks.card import write_card
from qkv.tasks.folder import CARD, TOKENIZERS, Run, open_run
from qkv.tasks.model import parameters, written
from qkv.tasks.recipe import Recipe, agree
from qkv.tasks.task import System, spaced
from qkv.tasks.tokenizers import Tokenizers
from qkv.training import distributed, run
from qkv.training.checkpoint import disk_errors
from qkv.training.fit import fit
from qkv.training.losses import Loss
from qkv.training.session import Evaluate, FitResult

Say = Callable[[str], None]


def train(recipe: Recipe, out: Path, fresh: bool = False, say: Say = print, start: Run | None = None) -> FitResult:
    """Train a recipe in the folder `out`, go on with an interrupted run there, or report a finished one.

    fresh: delete an earlier run in `out` first. say: where sentences for the human go. start: a run to fine-tune, which
    brings its model and tokenizers, whatever the recipe says about these.
    Raises UserError for bad data or settings, for an `out` that holds a run of another config or cannot be written, and
    Interrupted when a signal stopped it; the same call resumes.
    """
    if start is not None:
        own = adapters.shaped(start.recipe.model_config, recipe.adapter)
        recipe = replace(recipe, model=written(own), tokenizers=start.recipe.tokenizers)
        agree(recipe)
    elif recipe.incremental is not None:
        raise UserError("incremental: there is no run to go on from; name one: --init RUN")
    device = distributed.local_device(choose_device(recipe.training.device))
    set_threads(recipe.training.threads)
    world = distributed.start(device)
    say = say if world.main else _silent
    with _writable(out), disk_errors(out), world.together():
        if world.main:
            status = run.start_or_resume(out, recipe.plain(), fresh)
            if status is run.Status.RESUMED:
                say(f"{out}: going on with the run that is there")
    if (out / run.RESULT).exists():
        result = FitResult(**run.result(out))
        if world.main and not (out / CARD).exists():  # killed between the last weights and the card
            _card(out, recipe, open_run(out).system.model, result)
        say(f"{out} is finished ({_told(result)}); --fresh trains it anew")
        return result
    rows = recipe.task.load(recipe.data, "train")
    given = replace(start.system.tokenizers, labels=recipe.task.labels(rows)) if start else None
    further = recipe.incremental
    if start is not None and further is not None:
        rows, given = incremental.prepared(recipe, further, rows, start)
    tokenizers = _tokenizers(recipe, rows, out, world, given)
    model = built(recipe, tokenizers, start)
    source = _in_split("train", recipe.task.batches, rows, tokenizers, recipe.training.seed)
    say(f"{parameters(model):,} parameters, {len(source):,} examples, on {device}")
    loss: Loss = recipe.task.loss(training=True)
    if start is not None and further is not None:
        loss = incremental.held(recipe, further, loss, model, tokenizers, start)
    result = fit(
        model, loss, source, recipe.training, out, evaluate=_evaluate(recipe, tokenizers), run_config=recipe.plain()
    )
    if world.main:
        _card(out, recipe, adapters.merged(model, recipe.adapter), result)
    say(f"{out}: finished ({_told(result)})")
    return result


def built(recipe: Recipe, tokenizers: Tokenizers, start: Run | None) -> nn.Module:
    """The model as its training begins: fresh, or with the weights of the run that it starts from."""
    seed_everything(recipe.training.seed)
    model = models.fresh(recipe.model_config, tokenizers, recipe.task)
    if start is not None and recipe.incremental is not None:
        growth.extend(model, recipe.task, recipe.model_config, tokenizers, start.system)
        incremental.confine(recipe, recipe.incremental, model, tokenizers, start)
    elif start is not None:
        models.take_over(model, start.system.model)
    return model


def _card(out: Path, recipe: Recipe, model: nn.Module, result: FitResult) -> None:
    figures = {"updates": result.step, "minutes": result.elapsed / 60, **_on_dev(result.metrics)}
    write_card(out, recipe, model, figures, result.weights)


def _tokenizers(
    recipe: Recipe, rows: list, out: Path, world: distributed.World, given: Tokenizers | None
) -> Tokenizers:
    """Those in the run folder; else learned, or taken from the run that this one starts from, and put there."""
    folder = out / TOKENIZERS
    with _writable(out), disk_errors(out), world.together():
        if world.main and not (folder / "target.json").exists():  # written last
            (given or recipe.task.learn(rows, recipe.tokenizers)).save(folder)
    return Tokenizers.load(folder)


def _evaluate(recipe: Recipe, tokenizers: Tokenizers) -> Evaluate:
    """What `fit` asks for now and then: the dev loss, and greedy scores on a few rows where the recipe wants them."""
    rows = recipe.task.load(recipe.data, "dev")
    settings = recipe.evaluation
    source = _in_split("dev", recipe.task.batches, rows, tokenizers, None, settings.rows)
    loss = recipe.task.loss(training=False)

    def measure(model: nn.Module, step: int) -> Mapping[str, float]:
        figures = {"loss": mean_loss(model, loss, source)}
        if settings.scored:
            system = System(model, tokenizers)  # type: ignore[arg-type]
            scores = recipe.task.evaluate(system, spaced(rows, settings.scored), Greedy())
            figures |= {name: value for name, value in scores.items() if isinstance(value, float) and name != "loss"}
        return figures

    return measure


@torch.inference_mode()
def mean_loss(model: nn.Module, loss: Loss, source: BatchSource) -> float:
    """The loss over all batches of a source: Σ_term weight · Σ sum / Σ count."""
    device = next(model.parameters()).device
    totals: dict[str, list[float]] = {}
    for indices in source.plan(0):
        for name, (total, count, weight) in loss(model, source.load(indices).to(device)).items():
            kept = totals.setdefault(name, [0.0, 0.0, weight])
            kept[0] += float(total)
            kept[1] += count
    return sum(weight * total / max(count, 1.0) for total, count, weight in totals.values())


def _in_split(split: str, make: Callable, *arguments: object) -> BatchSource:
    """Call `make`, and say in which split it found something wrong."""
    try:
        return make(*arguments)
    except UserError as error:
        raise UserError(f"{split} data: {error}") from error


@contextmanager
def _writable(out: Path) -> Iterator[None]:
    """Turn missing rights to a folder into a sentence."""
    try:
        yield
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise UserError(f"cannot write into {out}: {error.strerror}; choose another --out") from error


def _on_dev(metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"dev {name}": value for name, value in metrics.items()}


def _told(result: FitResult) -> str:
    figures = ", ".join(f"dev {name} {value:.4g}" for name, value in result.metrics.items())
    time = f"{result.elapsed / 60:.1f} minutes" if result.elapsed >= 60 else f"{result.elapsed:.0f} seconds"
    return f"{result.step:,} updates, {time}{', ' + figures if figures else ''}"


def _silent(_: str) -> None:
    pass
