"""Muon: the momentum of each hidden matrix, made orthogonal before it is added (Jordan et al. 2024; Liu et al. 2025).

    M ← μ·M + G        U = G + μ·M        W ← W − η·0.2·√max(m, n)·orthogonal(U)

orthogonal(U) sets every singular value of U to about one, so an update moves all directions alike where Adam moves few.
The factor gives an update the root mean square that Adam's has (Liu et al. 2025, arXiv:2502.16982, §2.2), and with it
Adam's learning rates. Everything that is no hidden matrix (embeddings, output, biases, norms) is left to Adam.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qkv.nn.init import matrices

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd quintic whose iterates drive singular values towards one; Jordan's choice, fast rather than exact."""


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """U Vᵀ of each matrix U S Vᵀ in [N,m,n], nearly: singular values come out between 0.7 and 1.2.

    X ← aX + (bA + cA²)X with A = XXᵀ, begun at X / ‖X‖ (Newton–Schulz; Bernstein & Newhouse 2024)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class MuonWithAdam(torch.optim.AdamW):
    """Adam for what is no hidden matrix, Muon for what is; one optimizer, so that one state is saved and resumed."""

    def __init__(self, model: nn.Module, lr: float, momentum: float, weight_decay: float, betas: Any, eps: float):
        self.parts = {weight: sizes for weight, sizes in matrices(model) if weight.requires_grad}
        rest = [p for p in model.parameters() if p.requires_grad and p not in self.parts]
        groups = [
            {"params": list(self.parts), "weight_decay": weight_decay, "momentum": momentum},
            {"params": [p for p in rest if p.dim() >= 2], "weight_decay": weight_decay},
            {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
        ]
        super().__init__(groups, lr=lr, betas=betas, eps=eps, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Turn the hidden matrices, then let Adam do the rest: it skips what has no gradient any more."""
        group = self.param_groups[0]
        waiting: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is None:
                continue
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            update = self._nesterov(weight, group["momentum"])
            sizes = self.parts[weight]
            for part, whole in zip(update.split(sizes), weight.split(sizes), strict=True):
                waiting[part.shape].append((part, whole))
            weight.grad = None
        for shape, pairs in waiting.items():  # matrices of one shape in one product
            turned = orthogonal(torch.stack([part for part, _ in pairs]))
            step = -0.2 * max(shape) ** 0.5 * group["lr"]
            for (_, whole), change in zip(pairs, turned, strict=True):
                whole.add_(change, alpha=step)
        return super().step(closure)

    def _nesterov(self, weight: Tensor, momentum: float) -> Tensor:
        """The gradient, a momentum ahead; state is kept in Adam's shape, so that it is loaded alike."""
        state = self.state[weight]
        if not state:
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
        state["step"] += 1
        gradient: Tensor = weight.grad  # type: ignore[assignment]
        state["momentum"].mul_(momentum).add_(gradient)
        return gradient.add(state["momentum"], alpha=momentum)
