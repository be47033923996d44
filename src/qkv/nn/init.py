"""Initial weights: the table of initialisations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from .attention import Attention
from .feedforward import PositionWise


def matrices(module: nn.Module) -> Iterator[tuple[Tensor, list[int]]]:
    """The weight [out,in] of every linear layer, and how many rows each matrix in it has: a fused product of queries,
    keys and values, or of gate and value, holds several."""
    several = {}
    for part in module.modules():
        if isinstance(part, Attention):
            queries, keys = part.n_heads * part.d_head, part.n_groups * part.d_head
            several[_fused(part)] = [keys, keys] if part.cross else [queries, keys, keys]
        elif isinstance(part, PositionWise):
            several[part.up] = [part.config.d_ff] * (2 if part.config.gated else 1)
    for part in module.modules():
        if isinstance(part, nn.Linear):
            yield part.weight, several.get(part, [part.out_features])


def _fused(attention: Attention) -> nn.Linear:
    """The product that makes keys and values (and, in self-attention, queries)."""
    return attention.key_value if attention.cross else attention.query_key_value


def _residual_outputs(module: nn.Module) -> list[Tensor]:
    """The weights of the last matrix of each residual branch."""
    outs: list[Tensor] = []
    for part in module.modules():
        if isinstance(part, Attention):
            outs.append(part.out.weight)
        elif isinstance(part, PositionWise):
            outs.append(part.down.weight)
    return outs


def _zero_biases(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


@dataclass(frozen=True)
class Xavier:
    """Uniform with variance 2/(fan_in+fan_out), each of Q, K, V as a matrix of its own (Glorot & Bengio 2010).

    gain: factor on all matrices."""

    gain: float = 1.0

    def apply(self, module: nn.Module, repeats: float = 1.0) -> None:
        """Fill every matrix of `module` and zero the biases."""
        for weight, sizes in matrices(module):
            for part in weight.data.split(sizes):
                self._fill(part)
        _zero_biases(module)

    def _fill(self, weight: Tensor) -> None:
        bound = self.gain * math.sqrt(6.0 / sum(weight.shape))
        nn.init.uniform_(weight, -bound, bound)


@dataclass(frozen=True)
class Normal:
    """std: of every matrix. depth_scaled: divide residual outputs by the root of how many are added up, sqrt(2L) in a
    decoder of L layers (Radford et al. 2019)."""

    std: float = 0.02
    depth_scaled: bool = False

    def apply(self, module: nn.Module, repeats: float = 1.0) -> None:
        """Fill every matrix of `module` and zero the biases; each of its layers is run `repeats` times."""
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=self.std)
        _zero_biases(module)
        if self.depth_scaled:
            outs = _residual_outputs(module)
            for weight in outs:
                weight.data.div_(math.sqrt(len(outs) * repeats))


InitConfig = Xavier | Normal


def shrink_branches(block: nn.Module, beta: float) -> None:
    """Multiply the initial values, outputs and feed-forward matrices by β (Wang et al. 2022)."""
    for part in block.modules():
        if isinstance(part, Attention):
            _fused(part).weight.data[-part.n_groups * part.d_head :].mul_(beta)
            part.out.weight.data.mul_(beta)
        elif isinstance(part, PositionWise):
            part.up.weight.data.mul_(beta)
            part.down.weight.data.mul_(beta)
