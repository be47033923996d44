"""What the tasks share that read text and say something of it: texts to ids, a model's decisions on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qkv.data.buckets import BucketConfig
from qkv.data.readings import Reading, Readings
from qkv.errors import UserError
from qkv.models import Decision, Reader
from qkv.tasks.task import System
from qkv.tasks.tokenizers import Tokenizers

CELLS = 16384  # tokens that are read side by side when answering


def cut(ids: list[int], second: list[int] | None, most: int) -> tuple[list[int], list[int] | None]:
    """One text or two within `most` tokens: the end of the longer one goes first.

    >>> cut([1, 2, 3, 4], [5, 6], 4)
    ([1, 2], [5, 6])
    """
    if second is None:
        return ids[:most], None
    kept = min(len(second), max(most - len(ids), (most + 1) // 2))
    return ids[: most - kept], second[:kept]


def framed(
    tokenizers: Tokenizers, texts: Sequence[str], seconds: Sequence[str | None], longest: int
) -> list[tuple[list[int], int | None]]:
    """Texts, or pairs, as ids with begin and end, at most `longest` tokens each; and where the second begins."""
    encode = tokenizers.target.encode_batch
    others = iter(encode([second for second in seconds if second is not None]))
    found: list[tuple[list[int], int | None]] = []
    for ids, second in zip(encode(texts), seconds, strict=True):
        if second is None:
            found.append((tokenizers.framed(cut(ids, None, longest - 2)[0]), None))
            continue
        first, other = cut(ids, next(others), longest - 3)
        found.append((tokenizers.framed(first, other), len(first) + 2))
    return found


def decisions(system: System, readings: Sequence[Reading]) -> dict[str, list[Decision]]:
    """What every output decides on each reading, in their order. Raises UserError for a model without outputs."""
    if not readings:
        return {name: [] for name in _outputs(system)}
    return decided(system, side_by_side(system, readings))


def side_by_side(system: System, readings: Sequence[Reading]) -> Readings:
    """Readings to be answered, as batches of as many tokens as are read side by side."""
    config = BucketConfig(tokens=max([CELLS, *(len(r.ids) for r in readings)]))
    return Readings(readings, config, None, system.tokenizers.target.pad_id or 0)


@torch.inference_mode()
def decided(system: System, source: Readings) -> dict[str, list[Decision]]:
    """What every output decides on each reading of a source, in their order. Raises UserError as `decisions` does."""
    found: dict[str, dict[int, Decision]] = {name: {} for name in _outputs(system)}
    for rows in source.plan(0):
        batch = source.load(rows).to(system.device)
        for name, chosen in _reader(system).decide(batch).items():
            found[name] |= dict(zip(rows, chosen, strict=True))
    return {name: [of[row] for row in range(len(source))] for name, of in found.items()}


def _reader(system: System) -> Reader:
    model = system.model
    if not isinstance(model, Reader):
        raise UserError("this model has no outputs; train one with a task that reads, such as classify")
    return model


def _outputs(system: System) -> list[str]:
    return list(_reader(system).outputs)
