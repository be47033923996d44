"""fit(): the one loop. One update is

    take k micro-batches a process → count their units, over all processes → for each: forward, backward of
    Σ_term weight · sum / count → sum the gradients over processes → clip → set the rate → step → average

so k micro-batches on W processes give the gradient of the one batch they are together, token for token: the mean over
all tokens, not a mean of means.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qkv import runtime
from qkv.config import plain
from qkv.data.batch import BatchSource
from qkv.errors import UserError

from . import distributed, run
from .checkpoint import disk_errors
from .config import TrainingConfig
from .losses import Loss
from .session import Evaluate, FitResult, Session, parts
from .weights import assign, load_weights


def fit(
    model: nn.Module,
    loss: Loss,
    source: BatchSource,
    config: TrainingConfig,
    out: Path,
    *,
    evaluate: Evaluate | None = None,
    run_config: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> FitResult:
    """Train `model` in the run folder `out`, or go on where an earlier call was stopped or killed.

    evaluate: (model, step) -> figures, one of them `config.metric`; called without gradients, in eval mode, with the
    averaged weights if there are any. run_config: the whole recipe as plain data (default: the training config), kept
    in config.yaml; a folder started with another one is refused. With several processes, `out` is one shared folder.

    On return the model holds the weights of model.safetensors, in eval mode. A finished run is loaded, not trained.
    Raises UserError (another config, a loss or gradient that is not finite, a full disk, a loss that cannot be
    accumulated) and Interrupted after a signal; the run can be resumed in each case.
    """
    out = Path(out)
    runtime.set_threads(config.threads)
    runtime.keep_memory()
    device = distributed.local_device(runtime.choose_device(config.device))
    world = distributed.current(device)
    _check(model, loss, config, world, device)
    with disk_errors(out):
        with world.together():
            if world.main:
                run.start_or_resume(out, run_config or {"training": plain(config)})
        if (out / run.RESULT).exists():
            assign(model.to(device), load_weights(out / run.WEIGHTS), out / run.WEIGHTS)
            model.eval()
            return FitResult(**run.result(out))
        opened = Session(model, source, config, out, evaluate, world, device, progress)
        with run.interrupts() as signals, opened as session:
            while (reason := session.over(signals)) is None:
                update(session, loss)
                session.tend()
            return session.finish(reason)


def update(session: Session, loss: Loss) -> None:
    """One step of the optimizer."""
    config, world, model = session.config, session.world, session.model
    batches = [session.source.load(rows) for rows in session.take()]
    own: dict[str, float] = {}
    for batch in batches:
        session.meter.batch(batch)
        for name, count in loss.counts(batch).items():
            own[name] = own.get(name, 0.0) + count
    counts = world.sum(own)

    sums: dict[str, Tensor] = {}
    for batch in batches:
        with torch.autocast(session.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            terms = loss(model, batch.to(session.device))
        weighted = {name: weight * total for name, (total, _, weight) in terms.items()}
        objective = torch.stack([total / (counts[name] or 1.0) for name, total in weighted.items()]).sum()
        objective.backward()
        for name, total in weighted.items():
            sums[name] = sums[name] + total.detach() if name in sums else total.detach()

    world.sum_gradients(session.parameters)
    norm = torch.nn.utils.get_total_norm([p.grad for p in session.parameters if p.grad is not None])
    if config.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(session.parameters, config.clip_norm, norm)
    session.step += 1
    session.rate = config.learning_rate * config.schedule(session.step, session.progress)
    for group in session.optimizer.param_groups:
        group["lr"] = session.rate
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    if session.average is not None:
        session.average.update(session.step)
    session.meter.step(session.step, sums, counts, norm)


def _check(
    model: nn.Module, loss: Loss, config: TrainingConfig, world: distributed.World, device: torch.device
) -> None:
    """Refuse what would not be exact, and warn of what would not be fast."""
    k = parts(config, world)
    if k > 1 and not getattr(loss, "additive", True):
        raise UserError(
            f"{type(loss).__name__} is not a sum over independent units, so {k} micro-batches are not one batch; "
            "set accumulate to 1 and use one process"
        )
    norms = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    if k > 1 and norms:
        raise UserError(
            f"{norms[0]} normalises over its batch, so {k} micro-batches are not one batch; "
            "set accumulate to 1 and use one process, or use a norm of each token"
        )
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    if config.precision == "bf16" and device.type == "cpu" and not supported():
        warnings.warn("precision bf16: this processor emulates bfloat16; fp32 is several times faster", stacklevel=3)
