"""What a run is between two updates: its place in the plan, its clock, its best; evaluated, saved, restored, ended."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn

from qkv import runtime
from qkv.data.batch import BatchSource
from qkv.errors import UserError

from . import checkpoint, rng, run
from .averaging import MovingAverage, average_checkpoints
from .config import TrainingConfig
from .distributed import World
from .journal import Journal
from .meter import Meter
from .weights import assign, load_weights, save_weights, swapped, weights

Evaluate = Callable[[nn.Module, int], Mapping[str, float]]
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class FitResult:
    """What a run came to."""

    step: int
    """Updates made."""
    reason: str
    """Why it ended: max_steps | max_minutes | patience."""
    elapsed: float
    """Seconds, over all sessions."""
    weights: str
    """Which weights model.safetensors holds, in words."""
    metrics: dict[str, float]
    """The evaluation of those weights; empty if there was none."""


@dataclass
class State:
    """What of a session is plain numbers, in a checkpoint's state.json."""

    step: int = 0
    epoch: int = 0
    index: int = 0  # batches of this epoch's plan that are used up
    elapsed: float = 0.0
    logged: float = 0.0  # elapsed at the last line of the log, and the time since then that was no training
    evaluated: int = -1  # the step of the last evaluation
    best: float | None = None
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # evaluations since the best
    sums: dict[str, float] = field(default_factory=dict)  # of the meter
    versions: dict[str, str] = field(default_factory=lambda: {"torch": str(torch.__version__)})


def parts(config: TrainingConfig, world: World) -> int:
    """Micro-batches in one update: `accumulate` of every process, of those asked for or those there are."""
    return config.accumulate * max(config.processes, world.size)


class Session:
    """One process's part in a run. Entering it resumes from the last valid checkpoint, if there is one."""

    def __init__(
        self,
        model: nn.Module,
        source: BatchSource,
        config: TrainingConfig,
        out: Path,
        evaluate: Evaluate | None,
        world: World,
        device: torch.device,
        progress: bool,
    ):
        self.model, self.source, self.config, self.out = model.to(device), source, config, out
        self.evaluate, self.world, self.device = evaluate, world, device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        world.copy_from_main(weights(model).values())
        self.optimizer = config.optimizer.build(model, config.learning_rate)
        self.average = MovingAverage(model, config.ema_decay) if config.ema_decay is not None else None
        self.meter, self.rate, self.saved = Meter(), 0.0, -1
        self.checkpoints = out / CHECKPOINTS
        self._restore()
        self.plan = source.plan(self.state.epoch)
        self.journal = Journal(out, self.state.step, world.main, progress, config.tensorboard)

    def __enter__(self) -> Session:
        with self.world.together():
            self.journal.__enter__()
        self.model.train()
        self.started = time.monotonic() - self.state.elapsed
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.journal.__exit__(kind, error, trace)

    @property
    def step(self) -> int:
        return self.state.step

    @step.setter
    def step(self, value: int) -> None:
        self.state.step = value

    @property
    def progress(self) -> float:
        """How much of the run is over, from 0 to 1."""
        if self.config.max_steps is not None:
            return min(1.0, self.step / self.config.max_steps)
        assert self.config.max_minutes is not None
        return min(1.0, self.state.elapsed / 60 / self.config.max_minutes)

    def over(self, signals: run.Signals) -> str | None:
        """Why the run ends here, or None. All processes agree; a signal to any of them saves and raises Interrupted."""
        now = time.monotonic() - self.started
        shared = self.world.sum({"elapsed": now if self.world.main else 0.0, "signal": float(signals.number)})
        self.state.elapsed = shared["elapsed"]
        if shared["signal"]:
            self.save()
            raise run.Interrupted(signals.number or signal.SIGTERM, self.step)
        if self.progress >= 1.0:
            return "max_steps" if self.config.max_steps is not None else "max_minutes"
        patience = self.config.patience
        return "patience" if patience is not None and self.state.stale >= patience else None

    def take(self) -> list[list[int]]:
        """The next micro-batches of this process: every W-th of the update's, from the plan, epochs end to end."""
        taken = []
        for _ in range(parts(self.config, self.world)):
            if self.state.index >= len(self.plan):
                self.state.epoch, self.state.index = self.state.epoch + 1, 0
                self.plan = self.source.plan(self.state.epoch)
                if not self.plan:
                    raise UserError("there is not a single batch to train on; check the training data and its filters")
            taken.append(self.plan[self.state.index])
            self.state.index += 1
        return taken[self.world.rank :: self.world.size]

    def tend(self) -> None:
        """What is due after an update."""
        config, step = self.config, self.step
        self.journal.advance(self.progress)
        if step % config.log_every == 0:
            self._log()
        if config.eval_every and step % config.eval_every == 0:
            self._evaluate()
        if config.checkpoint_every and step % config.checkpoint_every == 0:
            self.save()

    def finish(self, reason: str) -> FitResult:
        """Evaluate and save once more, put the final weights into the model and model.safetensors, close the run."""
        self.meter.settle(self.world)
        if self.state.evaluated != self.step:
            self._evaluate()
        self.save()
        with self.world.together():
            kind, metrics = self._choose()
            result = FitResult(self.step, reason, round(self.state.elapsed, 3), kind, metrics)
            if self.world.main:
                checkpoint.replace_file(self.out / run.WEIGHTS, lambda path: save_weights(weights(self.model), path))
                run.finish(self.out, asdict(result))
        self.model.eval()
        return result

    def save(self) -> None:
        """Write a checkpoint of this step, unless there is one. Never of weights that a NaN may have reached."""
        if self.saved == self.step:
            return
        self.meter.settle(self.world)
        self.state.sums = self.meter.sums
        self.state.elapsed = time.monotonic() - self.started
        random = {
            f"{name}/{rank}": part
            for name, tensor in rng.capture(self.device).items()
            for rank, part in enumerate(self.world.gather(tensor))
        }
        with self._pause():
            if self.world.main:
                self._write(random)
        self.saved = self.step

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """Around what is no training: rank 0 works and the others wait; tokens per second leave this time out."""
        began = time.monotonic()
        with self.world.together():
            yield
        self.state.logged += time.monotonic() - began

    # --- evaluation and the log

    def _log(self) -> None:
        self.meter.settle(self.world)
        now = time.monotonic() - self.started
        figures = self.meter.line(now - self.state.logged)
        self.state.logged = now
        with self._pause():
            self.journal.record(self.step, "train", now, figures | {"learning_rate": self.rate})

    def _measure(self) -> dict[str, float]:
        """The evaluation of the model's present weights, by rank 0; it disturbs no random generator."""
        if not self.world.main or self.evaluate is None:
            return {}
        states = rng.capture(self.device)
        self.model.eval()
        with torch.no_grad():
            figures = {name: float(value) for name, value in self.evaluate(self.model, self.step).items()}
        self.model.train()
        rng.restore(states, self.device)
        if self.config.metric not in figures:
            raise UserError(f"training.metric: there is no {self.config.metric!r}; choose one of {', '.join(figures)}")
        return figures

    def _evaluate(self) -> None:
        """Measure, note whether it is the best so far, and keep a checkpoint of it if so."""
        if self.evaluate is None:
            return
        self.meter.settle(self.world)
        with self._pause():
            with swapped(self.model, self.average.tensors) if self.average is not None else nullcontext():
                figures = self._measure()
            self.journal.record(self.step, "evaluate", time.monotonic() - self.started, figures)
        value = self.world.sum({"metric": figures.get(self.config.metric, 0.0)})["metric"]
        state, sign = self.state, 1 if self.config.mode == "min" else -1
        state.evaluated = self.step
        if not math.isnan(value) and (state.best is None or sign * value < sign * state.best):
            state.best, state.best_step, state.best_metrics, state.stale = value, self.step, figures, 0
            self.save()
        else:
            state.stale += 1

    # --- checkpoints

    def _write(self, random: Mapping[str, Tensor]) -> None:
        """A checkpoint, and model.safetensors if these weights are the best, or none are known to be."""
        tensors = {"model": weights(self.model), "optimizer": self._optimizer_tensors(), "rng": random}
        if self.average is not None:
            tensors["ema"] = self.average.tensors
        checkpoint.write(self.checkpoints, self.step, tensors, asdict(self.state))
        averaged = map(checkpoint.step_of, self._regular())
        checkpoint.prune(self.checkpoints, self.config.keep_checkpoints, {self.state.best_step, *averaged})
        if self.state.best_step in (None, self.step):
            best = {**tensors["model"], **tensors.get("ema", {})}
            checkpoint.replace_file(self.out / run.WEIGHTS, lambda path: save_weights(best, path))

    def _regular(self) -> list[Path]:
        """The checkpoints to be averaged: the last ones that `checkpoint_every` asked for. One of a best evaluation or
        of a signal is none of them, so an interrupted run averages what an uninterrupted one does."""
        every, count = self.config.checkpoint_every, self.config.average_last
        if not every or not count:
            return []
        return [f for f in checkpoint.steps(self.checkpoints) if checkpoint.step_of(f) % every == 0][-count:]

    def _restore(self) -> None:
        """Take everything from the last valid checkpoint, or begin."""
        with self.world.together():
            if self.world.main:
                checkpoint.remove_unfinished(self.checkpoints)
            folder = checkpoint.latest_valid(self.checkpoints)
        if folder is None:
            self.state = State()
            runtime.seed_everything(self.config.seed + 7919 * self.world.rank)
            return
        tensors, state = checkpoint.read(folder)
        self.state = State(**state)
        self.saved, self.meter.sums = self.state.step, self.state.sums
        assign(self.model, tensors["model"], folder)
        self._load_optimizer(tensors["optimizer"])
        if self.average is not None:
            self.average.load(tensors["ema"])
        suffix = f"/{self.world.rank}"
        mine = {name.removesuffix(suffix): t for name, t in tensors["rng"].items() if name.endswith(suffix)}
        if mine:
            rng.restore(mine, self.device)
        else:  # more processes than wrote it
            runtime.seed_everything(self.config.seed + 7919 * self.world.rank + self.step)
        if self.world.main:  # what is newer is broken, and would be taken for one of the last
            for newer in checkpoint.steps(self.checkpoints):
                if checkpoint.step_of(newer) > self.step:
                    shutil.rmtree(newer)

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        return {
            f"{slot}/{names[p]}": value
            for p, slots in self.optimizer.state.items()
            for slot, value in slots.items()
            if isinstance(value, Tensor)
        }

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        order = [p for group in self.optimizer.param_groups for p in group["params"]]
        data = self.optimizer.state_dict()
        data["state"] = {i: {} for i in range(len(order))} if tensors else {}
        places = {names[p]: i for i, p in enumerate(order)}
        for key, tensor in tensors.items():
            slot, _, name = key.partition("/")
            data["state"][places[name]][slot] = tensor
        self.optimizer.load_state_dict(data)

    def _stored(self, folder: Path) -> dict[str, Tensor]:
        """The weights that a checkpoint was evaluated with. They are not taken from model.safetensors, which is written
        after the checkpoint: a process that was killed in between has left an older one."""
        tensors = load_weights(folder / "model.safetensors")
        return tensors | load_weights(folder / "ema.safetensors") if self.average is not None else tensors

    def _choose(self) -> tuple[str, dict[str, float]]:
        """Load the final weights into the model; which they are and how they measured."""
        config, best = self.config, self.state.best_step
        averaged = "moving average of the weights" if self.average is not None else "weights"
        if config.average_last:
            folders = self._regular() or checkpoint.steps(self.checkpoints)[-1:]
            assign(self.model, average_checkpoints(folders))
            steps = ", ".join(str(checkpoint.step_of(folder)) for folder in folders)
            return f"mean of the weights at steps {steps}", self._measure()
        chosen = self.step if best is None else best
        assign(self.model, self._stored(self.checkpoints / f"step-{chosen}"))
        which = f"the last step, {chosen}" if best is None else f"step {chosen}, the best by {config.metric}"
        return f"{averaged} at {which}", self.state.best_metrics
