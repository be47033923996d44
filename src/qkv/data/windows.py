"""Windows over one long stream of tokens: random crops to train on, strided ones that score every token once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qkv.data.batch import IGNORE, Batch, Ids, pad
from qkv.data.buckets import positive
from qkv.errors import UserError
from qkv.nn.tokens import Tokens


@dataclass(frozen=True)
class WindowConfig:
    """How windows are cut."""

    length: int = 256
    """Tokens that a window reads; each predicts the next."""
    rows: int = 16
    """Windows of a batch."""

    def __post_init__(self) -> None:
        positive(self, "length", "rows")


class Windows:
    """Random crops of a stream [n], as a BatchSource whose indices are offsets: each window begins anywhere, every
    place as likely as any other. An epoch reads as many tokens as the stream has, rounded up to whole batches.

    Raises UserError when the stream is not longer than a window.
    """

    def __init__(self, stream: Ids, config: WindowConfig | None = None, seed: int = 0):
        self.config, self.seed = config or WindowConfig(), seed
        self.stream = _stream(stream)
        if len(self.stream) <= self.config.length:
            raise UserError(
                f"the text has {len(self.stream)} tokens, too few for a window of {self.config.length} plus one; "
                f"give more text or set length below {len(self.stream)}"
            )

    def __len__(self) -> int:
        return -(-len(self.stream) // self.config.length)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as offsets; a function of (seed, epoch)."""
        batches = -(-len(self) // self.config.rows)
        random = np.random.default_rng((self.seed, epoch))
        return random.integers(len(self.stream) - self.config.length, size=(batches, self.config.rows)).tolist()

    def load(self, indices: list[int]) -> Batch:
        """The windows at the given offsets: ids [B,length] and, one further on, targets [B,length]."""
        at = np.asarray(indices)[:, None] + np.arange(self.config.length + 1)
        ids, targets = torch.from_numpy(self.stream[at[:, :-1]]), torch.from_numpy(self.stream[at[:, 1:]])
        return Batch(ids, Tokens.arange(len(indices), self.config.length), targets, rows=list(indices))


class StridedWindows:
    """Windows every `stride` tokens of a stream [n], as a BatchSource whose indices are offsets: each of the n - 1
    targets is asked for exactly once, in order or shuffled.

    stride: at most the length, which is the default. When it is less, windows overlap, and each asks only for the
    targets that those before it did not: every prediction outside the first window sees at least length - stride + 1
    tokens, at the price of length / stride times the work.
    seed: of the order of windows; None: in order. limit: at most so many windows, evenly spaced over the stream.
    Raises UserError for a stride outside 1..length and a stream shorter than 2.
    """

    def __init__(
        self,
        stream: Ids,
        config: WindowConfig | None = None,
        stride: int | None = None,
        seed: int | None = None,
        limit: int | None = None,
    ):
        self.config, self.seed, self.limit = config or WindowConfig(), seed, limit
        self.stride = self.config.length if stride is None else stride
        self.stream = _stream(stream)
        if not 1 <= self.stride <= self.config.length:
            raise UserError(f"stride is {self.stride}; choose one from 1 to the windows' length, {self.config.length}")
        if len(self.stream) < 2:
            raise UserError(f"the text has {len(self.stream)} tokens; at least 2 are needed to predict one")

    @property
    def offsets(self) -> list[int]:
        """Where windows begin: of all of them, the last is the first that reaches the end."""
        beyond_first = max(0, len(self.stream) - 1 - self.config.length)
        everywhere = range(0, beyond_first + self.stride, self.stride)
        count = min(self.limit or len(everywhere), len(everywhere))
        return [everywhere[i * len(everywhere) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self.offsets)

    def plan(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch as offsets; a function of (seed, epoch)."""
        offsets, size = self.offsets, self.config.rows
        if self.seed is not None:
            offsets = np.random.default_rng((self.seed, epoch)).permutation(offsets).tolist()
        return [offsets[i : i + size] for i in range(0, len(offsets), size)]

    def load(self, indices: list[int]) -> Batch:
        """The windows at the given offsets, the last one padded; targets that an earlier window asks for are IGNORE."""
        windows = [self.stream[at : at + self.config.length + 1] for at in indices]
        targets = [window[1:].copy() for window in windows]
        for at, row in zip(indices, targets, strict=True):
            row[: self.config.length - self.stride if at else 0] = IGNORE
        tokens = Tokens.from_lengths([len(row) for row in targets])
        return Batch(pad([window[:-1] for window in windows]), tokens, pad(targets, IGNORE), rows=list(indices))


def _stream(ids: Ids) -> np.ndarray:
    return np.asarray(ids, dtype=np.int64)
