"""The state of every random generator that a training step may draw from, as tensors."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def capture(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's, Python's and NumPy's global generators, and of the device's."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()
    # 32-bit words are exact in float64, beside the one real number that each of the two generators keeps.
    python = [*words, math.nan if gauss is None else gauss]
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(python, dtype=torch.float64),
        "numpy": torch.tensor([*map(int, keys), position, has_gauss, cached], dtype=torch.float64),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore(states: Mapping[str, Tensor], device: torch.device) -> None:
    """The inverse of `capture`."""
    torch.set_rng_state(states["torch"])
    *words, gauss = states["python"].tolist()
    random.setstate((3, tuple(map(int, words)), None if math.isnan(gauss) else gauss))
    *keys, position, has_gauss, cached = states["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), int(position), int(has_gauss), cached))
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
