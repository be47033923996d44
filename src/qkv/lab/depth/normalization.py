"""What a norm of each token keeps and what it forgets, and what a norm over the batch couples (A96, B19, B31)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.lab import figures, small
from qkv.lab.checks import below, close, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import BatchNorm, LayerNorm, NoNorm, NormConfig, RMSNorm, Tokens

LN, RMS = LayerNorm(eps=0.0), RMSNorm(eps=0.0)
NO_NORM = Text("no norm", "不做归一化")
RMS_INSTEAD = Text("RMSNorm, which does not subtract the mean", "换成 RMSNorm：不减均值")
BATCH_INSTEAD = Text("BatchNorm instead of LayerNorm", "LayerNorm 换成 BatchNorm")


@dataclass(frozen=True)
class LayerNormGeometry:
    """d: features of a token. factor: by which inputs and weights are scaled."""

    d: Annotated[int, within(4, 128)] = 16
    factor: Annotated[float, within(1.5, 100)] = 10.0


def apply(config: NormConfig, x: Tensor) -> Tensor:
    """The norm, with its initial gain and shift, of one token or more."""
    return config.build(x.shape[-1]).double()(x)


def jacobian(config: NormConfig, x: Tensor) -> Tensor:
    """∂norm(x)/∂x [d,d] of one token x [d]."""
    return torch.autograd.functional.jacobian(partial(apply, config), x)


@experiment()
def layer_norm_geometry(lab: Lab, params: LayerNormGeometry) -> None:
    """LayerNorm keeps a direction, forgets mean and scale, and turns a growing input into a shrinking gradient."""
    x = torch.randn(params.d, generator=lab.generator(), dtype=torch.float64) + 0.5
    lab.number("output_norm", apply(LN, x).detach().norm())
    lab.number("output_mean", apply(LN, x).detach().mean().abs())
    lab.claim(
        "shift",
        Text("Adding one number to all features changes nothing.", "给所有特征加同一个数，输出不变。"),
        measure=lambda norm: (apply(norm, x + params.factor) - apply(norm, x)).abs().max(),
        arm=LN,
        control=RMS,
        without=RMS_INSTEAD,
        holds=below(1e-10),
    )
    lab.claim(
        "scale",
        Text("Multiplying a token by a positive number changes nothing.", "把一个词向量乘以正数，输出不变。"),
        measure=lambda norm: (apply(norm, params.factor * x) - apply(norm, x)).abs().max(),
        arm=LN,
        control=NoNorm(),
        without=NO_NORM,
        holds=below(1e-10),
    )
    lab.claim(
        "centring",
        Text("LayerNorm is RMSNorm of the centred token.", "LayerNorm 等于先去均值、再做 RMSNorm。"),
        measure=lambda y: (apply(LN, x) - apply(RMS, y)).abs().max(),
        arm=x - x.mean(),
        control=x,
        without=Text("the mean left in", "不去均值"),
        holds=below(1e-10),
    )
    jacobian_claims(lab, params, x)
    weight_claims(lab, params)


def jacobian_claims(lab: Lab, params: LayerNormGeometry, x: Tensor) -> None:
    """What the norm lets through backwards."""
    lab.claim(
        "rank",
        Text("The Jacobian of LayerNorm has rank d − 2.", "LayerNorm 的雅可比矩阵秩为 d − 2。"),
        measure=lambda norm: torch.linalg.matrix_rank(jacobian(norm, x), rtol=1e-10),
        arm=LN,
        control=RMS,
        without=Text("RMSNorm, whose Jacobian has rank d − 1", "换成 RMSNorm：秩为 d − 1"),
        holds=exactly(params.d - 2),
    )
    lab.claim(
        "null_space",
        Text(
            "What it forgets is spanned by the all-ones vector and the centred token.",
            "丢掉的两个方向是全 1 向量和去均值后的词向量。",
        ),
        measure=lambda pair: max((jacobian(LN, x) @ (u / u.norm())).norm() for u in pair),
        arm=(torch.ones_like(x), x - x.mean()),
        control=tuple(torch.randn(2, params.d, generator=lab.generator(1), dtype=torch.float64)),
        without=Text("two random directions", "换成两个随机方向"),
        holds=below(1e-10),
    )
    lab.claim(
        "inverse_scale",
        Text(
            "An input smaller by the factor has a Jacobian larger by the factor.",
            "输入缩小若干倍，雅可比就放大同样的倍数。",
        ),
        measure=lambda norm: jacobian(norm, x / params.factor).norm() / jacobian(norm, x).norm(),
        arm=LN,
        control=NoNorm(),
        without=NO_NORM,
        holds=close(params.factor, 1e-8),
    )


def weight_claims(lab: Lab, params: LayerNormGeometry) -> None:
    """What the invariance does to the matrix in front of the norm."""
    x, pull = torch.randn(2, 8, params.d, generator=lab.generator(2), dtype=torch.float64)
    start = torch.randn(params.d, params.d, generator=lab.generator(3), dtype=torch.float64)

    def gradient(norm: NormConfig, weight: Tensor) -> Tensor:
        """Of an arbitrary linear function of norm(x Wᵀ), with respect to W."""
        weight = weight.clone().requires_grad_()
        out = apply(norm, x @ weight.T)
        return torch.autograd.grad((out * pull).sum(), weight)[0]

    lab.claim(
        "orthogonal_gradient",
        Text(
            "The gradient of a matrix in front of the norm is orthogonal to that matrix.",
            "归一化之前那个矩阵的梯度与矩阵本身正交。",
        ),
        measure=lambda norm: torch.cosine_similarity(start.flatten(), gradient(norm, start).flatten(), 0).abs(),
        arm=LN,
        control=NoNorm(),
        without=NO_NORM,
        holds=below(1e-10),
    )
    lab.claim(
        "gradient_of_large_weights",
        Text(
            "Weights larger by the factor get a gradient smaller by the factor.",
            "权重放大若干倍，梯度缩小同样的倍数。",
        ),
        measure=lambda norm: gradient(norm, start).norm() / gradient(norm, params.factor * start).norm(),
        arm=LN,
        control=NoNorm(),
        without=NO_NORM,
        holds=close(params.factor, 1e-8),
    )


@dataclass(frozen=True)
class BatchDependence:
    """small_batch: rows of the batch on which training and inference are compared. length: of the longest row."""

    small_batch: Annotated[int, within(2, 64)] = 2
    length: Annotated[int, within(4, 64)] = 12


VOCAB = 20


def draw(rows: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tokens]:
    """Random ids [B,T] of ragged lengths, at least three tokens each, right-padded."""
    ids = torch.randint(VOCAB, (rows, length), generator=generator)
    lengths = torch.randint(3, length + 1, (rows,), generator=generator)
    lengths[0] = length
    return ids, Tokens.from_lengths(lengths, length)


NORMS: dict[str, NormConfig] = {"layer": LayerNorm(), "batch": BatchNorm()}


def fresh(norm: str, seed: int, causal: bool = False) -> nn.Module:
    """An untrained model in training mode."""
    torch.manual_seed(seed)
    make = small.decoder if causal else small.encoder
    return make(VOCAB, d_model=16, block={"norm": NORMS[norm]}).double().train()


def settled(norm: str, length: int, lab: Lab) -> nn.Module:
    """A model whose running statistics have seen many batches; its weights stay as they are."""
    model = fresh(norm, lab.seed)
    with torch.no_grad():
        for i in range(60 if norm == "batch" else 0):
            model(*draw(32, length, lab.generator(100 + i)))
    return model


@torch.no_grad()
def gap(model: nn.Module, ids: Tensor, tokens: Tokens) -> float:
    """Relative distance of the outputs in training and in evaluation mode; running statistics are put back."""
    held = {name: buffer.clone() for name, buffer in model.named_buffers()}
    out = model.eval()(ids, tokens)[tokens.valid]
    moved = model.train()(ids, tokens)[tokens.valid]
    for name, buffer in model.named_buffers():
        buffer.copy_(held[name])
    return float((moved - out).norm() / out.norm())


@experiment()
def batch_dependence(lab: Lab, params: BatchDependence) -> None:
    """With BatchNorm a token depends on its batch, on its future and on the mode; with LayerNorm on none of them."""

    @torch.no_grad()
    def neighbour(norm: str) -> Tensor:
        """How far the first row moves when only the second row is replaced."""
        ids, tokens = draw(2, params.length, lab.generator())
        changed = ids.clone()
        changed[1] = (changed[1] + 1) % VOCAB
        model = fresh(norm, lab.seed)
        return (model(ids, tokens)[0] - model(changed, tokens)[0]).abs().max()

    @torch.no_grad()
    def future(norm: str) -> Tensor:
        """How far the positions before the last one move when only the last token is replaced."""
        ids = torch.randint(VOCAB, (1, params.length), generator=lab.generator())
        changed, tokens = ids.clone(), Tokens.arange(1, params.length)
        changed[0, -1] = (changed[0, -1] + 1) % VOCAB
        model = fresh(norm, lab.seed, causal=True)
        return (model(ids, tokens)[0, :-1] - model(changed, tokens)[0, :-1]).abs().max()

    models = {norm: settled(norm, params.length, lab) for norm in NORMS}

    def mode_gap(norm: str, rows: int = params.small_batch) -> float:
        return gap(models[norm], *draw(rows, params.length, lab.generator(5)))

    claim = partial(lab.claim, arm="layer", control="batch", without=BATCH_INSTEAD, holds=below(1e-10))
    claim(
        "neighbour",
        Text("A row does not change when its neighbour in the batch does.", "换掉同批的另一句，这一句的输出不变。"),
        measure=neighbour,
    )
    claim(
        "future",
        Text(
            "In training, a causal model's past does not change with a future token.",
            "训练时，因果模型前面的位置不受后面词的影响。",
        ),
        measure=future,
    )
    claim(
        "mode_gap",
        Text(
            "Training and inference compute the same function, however small the batch.",
            "批量再小，训练和推理算的也是同一个函数。",
        ),
        measure=mode_gap,
    )
    draw_gaps(lab, mode_gap)


def draw_gaps(lab: Lab, mode_gap: Callable[[str, int], float]) -> None:
    """The gap over the size of the batch."""
    gaps = {norm: [(rows, mode_gap(norm, rows)) for rows in (2, 4, 8, 16, 32, 64)] for norm in NORMS}
    lab.number("large_batch", gaps["batch"][-1][0])
    lab.number("gap_large_batch", gaps["batch"][-1][1])
    lab.figure(
        "mode_gap",
        figures.lines(
            Text("Distance of training from inference", "训练与推理输出的相对差距"),
            Text("rows in the batch", "批中的句数"),
            Text("relative distance", "相对差距"),
            gaps,
            {"layer": Text("LayerNorm", "LayerNorm"), "batch": Text("BatchNorm", "BatchNorm")},
            x_scale="log",
        ),
    )
