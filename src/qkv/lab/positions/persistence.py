"""Where the position is, layer by layer: a linear probe with and without the residual stream (A95)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.lab import figures, small
from qkv.lab.checks import above
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import PlacementConfig, Post, Pre, Sinusoidal, Tokens

VOCAB = 50


@dataclass(frozen=True)
class PositionPersistence:
    """d_model, n_layers: of the encoder. length: positions to tell apart. rows: sequences the probe learns from, and as
    many others that it is tested on."""

    d_model: Annotated[int, within(16, 128)] = 64
    n_layers: Annotated[int, within(2, 12)] = 6
    length: Annotated[int, within(8, 64)] = 32
    rows: Annotated[int, within(16, 200)] = 48


@dataclass(frozen=True)
class Skipless(Post):
    """norm(f(x)): the skip path multiplied by 0."""

    def constants(self, n_layers: int, sublayers: int, n_source_layers: int) -> tuple[float, float]:
        return 0.0, 1.0


@torch.no_grad()
def states(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """What leaves the embedding and each block, L + 1 tensors [B,T,E]."""
    kept: list[Tensor] = []
    parts = [model.encoder.embedding, *model.encoder.blocks]  # type: ignore[union-attr, misc]
    hooks = [part.register_forward_hook(lambda _m, _i, out: kept.append(out)) for part in parts]
    model(ids, Tokens.arange(*ids.shape))
    for hook in hooks:
        hook.remove()
    return kept


def probed(x: Tensor, y: Tensor) -> float:
    """A ridge regression from states x [B,T,E] to the one-hot position; its accuracy on other states y."""
    length = x.shape[1]

    a, b = (F.pad(z.flatten(0, 1), (0, 1), value=1.0) for z in (x, y))
    targets = torch.eye(length, dtype=x.dtype).repeat(len(x), 1)
    weights = torch.linalg.solve(a.T @ a + 1e-6 * len(a) * torch.eye(a.shape[1], dtype=x.dtype), a.T @ targets)
    found = (b @ weights).argmax(-1)
    return float((found == torch.arange(length).repeat(len(y))).double().mean())


@experiment()
def position_persistence(lab: Lab, params: PositionPersistence) -> None:
    """The residual stream carries the position through every layer; without it the position fades."""

    def curve(placement: PlacementConfig, seed: int) -> list[float]:
        torch.manual_seed(seed)
        model = small.encoder(
            VOCAB,
            d_model=params.d_model,
            n_layers=params.n_layers,
            n_heads=4,
            position=Sinusoidal(),
            block={"placement": placement},
        )
        model.double().eval()
        g = torch.Generator().manual_seed(seed)
        ids = torch.randint(VOCAB, (2 * params.rows, params.length), generator=g)
        return [probed(s[: params.rows], s[params.rows :]) for s in states(model, ids)]

    arms: dict[str, PlacementConfig] = {"pre": Pre(), "post": Post(), "skipless": Skipless()}
    curves = {key: curve(placement, lab.seed) for key, placement in arms.items()}
    lab.claim(
        "last_layer",
        Text(
            "After the last layer a linear probe reads the position about as well as from the embeddings.",
            "最后一层之后，线性探针读出位置的准确率与在嵌入处几乎相同。",
        ),
        measure=lambda key: curves[key][-1] / curves[key][0],
        arm="pre",
        control="skipless",
        without=Text(
            "no skip path: norm(f(x)) instead of x + f(norm(x))", "去掉残差通路：用 norm(f(x)) 代替 x + f(norm(x))"
        ),
        holds=above(0.95),
        unit="ratio",
    )
    lab.number("last", curves["pre"][-1], "accuracy")
    lab.number("skipless_last", curves["skipless"][-1], "accuracy")
    lab.number("embedding", curves["pre"][0], "accuracy")
    lab.number("post", curves["post"][-1], "accuracy")
    lab.number("skipless_first", curves["skipless"][1], "accuracy")
    lab.number("chance", 1 / params.length, "accuracy")
    lab.figure(
        "layers",
        figures.lines(
            Text("Position read by a linear probe", "线性探针读出位置的准确率"),
            Text("layer (0: embedding)", "层（0 为嵌入）"),
            Text("accuracy", "准确率"),
            {key: list(enumerate(values)) for key, values in curves.items()},
            {
                "pre": Text("pre-norm", "Pre-Norm"),
                "post": Text("post-norm", "Post-Norm"),
                "skipless": Text("no residual", "无残差"),
            },
        ),
    )
