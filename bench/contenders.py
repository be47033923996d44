"""Who takes part in which cell."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.cells import Cell, Kind

Role = Literal["ours", "peer", "information"]


@dataclass(frozen=True)
class Contender:
    """A contender and the module whose ``build(cell, variant, folder) -> Job`` makes it.

    ``role``: our rows are compared with every other one; only ``peer`` rows count when a target is judged
    (int8 against fp32 is information, not a race).
    """

    name: str
    module: str
    kinds: tuple[Kind, ...]
    role: Role = "peer"
    variant: str = "fp32"

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def takes(self, cell: Cell, precisions: list[str]) -> bool:
        if cell.kind not in self.kinds:
            return False
        return cell.kind == "training" or self.variant != "bf16" or "bf16" in precisions


CONTENDERS = [
    Contender("qkv", "bench.ours", ("training", "decoding", "encoder"), "ours"),
    Contender("qkv bf16 weights", "bench.ours", ("decoding", "encoder"), "ours", "bf16"),
    Contender("torch.nn", "bench.peers.torch_nn", ("training",)),
    Contender("Hugging Face", "bench.peers.hf", ("training", "decoding", "encoder")),
    Contender("x-transformers", "bench.peers.xt", ("training",)),
    Contender("CTranslate2", "bench.peers.ct2", ("decoding", "encoder")),
    Contender("Hugging Face bf16 weights", "bench.peers.hf", ("decoding", "encoder"), "information", "bf16"),
    Contender("CTranslate2 int8", "bench.peers.ct2", ("decoding", "encoder"), "information", "int8"),
]
