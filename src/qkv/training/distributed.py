"""Several processes as one: `torchrun --nproc-per-node 2 -m qkv train ...`.

An update takes accumulate × ranks micro-batches from the plan and rank r works on every ranks-th of them. Counts are
summed over ranks before anything is divided, gradients are summed once after the last micro-batch. So W ranks make the
update that one process with W times the micro-batches makes, whatever the lengths, and a run may resume at another W.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from qkv.errors import UserError

BUCKET_BYTES = 32 << 20


@dataclass(frozen=True)
class World:
    """This process's place among its peers, and what they do together. Alone, everything is a no-op."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where tensors that are exchanged must live."""

    @property
    def main(self) -> bool:
        """Whether this is the process that evaluates and writes."""
        return self.rank == 0

    def sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Numbers summed over all processes, which must name the same ones."""
        if self.size == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[n] for n in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Gradients summed over all processes; a parameter that one of them did not use counts as zero there."""
        if self.size == 1:
            return
        parameters = list(parameters)
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
            flat = torch.cat([g.flatten() for g in bucket])
            dist.all_reduce(flat)
            for g, piece in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                g.copy_(piece.view_as(g))

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors with those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor (on the CPU, of one shape everywhere) of each rank."""
        if self.size == 1:
            return [tensor]
        mine = tensor.to(self.device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        return [part.cpu() for part in parts]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what one process does and the others wait for. If it fails there, all stop: that one with its own
        error, the others with a UserError. Nothing inside may exchange anything."""
        try:
            yield
        except Exception:
            self.sum({"failed": 1.0})
            raise
        if self.sum({"failed": 0.0})["failed"]:
            raise UserError("stopped, because another process of this run failed; its own message says why")


def start(device: torch.device) -> World:
    """Join the processes that torchrun started, if it did; call once, before `fit`."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return current(device)


def current(device: torch.device) -> World:
    """The processes that are joined now; this one alone if none are."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    exchange = device if dist.get_backend() == "nccl" else torch.device("cpu")
    return World(dist.get_rank(), dist.get_world_size(), exchange)


def local_device(device: torch.device) -> torch.device:
    """The device of this process where one machine runs several."""
    local = os.environ.get("LOCAL_RANK")
    if device.type != "cuda" or device.index is not None or local is None:
        return device
    chosen = torch.device("cuda", int(local))
    torch.cuda.set_device(chosen)
    return chosen


def _buckets(gradients: list[Tensor]) -> list[list[Tensor]]:
    """Gradients in groups of one type and a bounded size: few large messages instead of many small ones."""
    buckets: list[list[Tensor]] = []
    filled = 0
    for g in gradients:
        size = g.numel() * g.element_size()
        if not buckets or filled + size > BUCKET_BYTES or buckets[-1][0].dtype != g.dtype:
            buckets.append([])
            filled = 0
        buckets[-1].append(g)
        filled += size
    return buckets
