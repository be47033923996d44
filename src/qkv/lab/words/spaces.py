"""Several sets of word vectors: fed in together (A43) and compared (A56)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.lab import figures
from qkv.lab.checks import above, below, close
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models.sources import Sources
from qkv.probe.alignment import aligned_mean, distance
from qkv.probe.similarity import cca, debiased_cka, linear_cka, neighbours, rsa


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width: int, seed: int) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(normal(width, width, seed=seed)).Q


@dataclass(frozen=True)
class Copies:
    """words: how many. d: width of the common latent vectors. noise: of each source, beside latent variance 1. k:
    neighbours compared."""

    words: Annotated[int, within(50, 2000)] = 400
    d: Annotated[int, within(4, 128)] = 24
    noise: Annotated[float, within(0, 3)] = 0.7
    k: Annotated[int, within(1, 40)] = 10


@experiment()
def several_sources(lab: Lab, params: Copies) -> None:
    """Sources that are joined or aligned are better than the best of them; averaged as they are, they are worse."""
    latent = normal(params.words, params.d, seed=lab.seed)
    spaces = [
        (latent + params.noise * normal(params.words, params.d, seed=lab.seed + i)) @ rotation(params.d, lab.seed + i)
        for i in (1, 2)
    ]
    best = max(neighbours(space, latent, params.k) for space in spaces)
    lab.number("best", best, "share")
    joined = neighbours(torch.cat(spaces, 1), latent, params.k)
    aligned = neighbours(aligned_mean(spaces), latent, params.k)
    naive = neighbours(torch.stack(spaces).mean(0), latent, params.k)
    for name, value in (("joined", joined), ("aligned", aligned), ("naive", naive)):
        lab.number(name, value, "share")
    lab.claim(
        "gain",
        Text(
            "The mean of rotated-together sources finds more true neighbours than the better source alone.",
            "先旋转对齐再平均，找回的真实近邻多于单独用较好的那个来源。",
        ),
        measure=lambda value: value / best,
        arm=aligned,
        control=naive,
        without=Text("the mean of the sources as they are", "不对齐，直接平均"),
        holds=above(1.0),
        unit="ratio",
    )
    tables = [normal(50, width, seed=lab.seed + width) for width in (8, 5)]

    def gap(how: str) -> Tensor:
        torch.manual_seed(lab.seed)
        joined, other = Sources("concat").build(tables, 16).double(), Sources(how).build(tables, 16).double()  # type: ignore[arg-type]
        ids = torch.arange(50)
        with torch.no_grad():
            (both,) = joined.project.parameters()
            for weight, part in zip(other.project.parameters(), both.split([8, 5], 1), strict=True):
                weight.copy_(part)
            return (joined(ids) - other(ids)).abs().max()

    lab.claim(
        "identity",
        Text(
            "Joining and projecting is the same function as projecting each and adding.",
            "拼接后投影，与各自投影再相加，是同一个函数。",
        ),
        measure=gap,
        arm="sum",
        control="gate",
        without=Text("a gate that weighs the sources word by word", "逐词加权的门控"),
        holds=below(1e-12),
    )
    names = {
        "single": Text("better source", "较好的单一来源"),
        "naive": Text("mean", "直接平均"),
        "aligned": Text("aligned mean", "对齐后平均"),
        "joined": Text("joined", "拼接"),
    }
    heights = {"single": best, "naive": naive, "aligned": aligned, "joined": joined}
    title = Text("True neighbours that are found", "找回的真实近邻")
    lab.figure("neighbours", figures.bars(title, Text("share", "占比"), heights, names))


@dataclass(frozen=True)
class Compared:
    """examples: how many. d: width of both representations."""

    examples: Annotated[int, within(20, 2000)] = 300
    d: Annotated[int, within(4, 128)] = 24


@experiment()
def embedding_measures(lab: Lab, params: Compared) -> None:
    """What each measure of likeness does not see: rotations, linear maps, chance."""
    x = normal(params.examples, params.d, seed=lab.seed)
    turned = 3 * x @ rotation(params.d, lab.seed + 1)
    mapped = x @ normal(params.d, params.d, seed=lab.seed + 2)
    other = normal(params.examples, params.d, seed=lab.seed + 3)
    pairs = {"turned": turned, "mapped": mapped, "other": other}
    measures = {"cka": linear_cka, "debiased": debiased_cka, "cca": cca, "rsa": rsa, "neighbours": neighbours}
    cells = []
    for name, measure in measures.items():
        cells.append([measure(x, y) for y in pairs.values()])
        for pair, value in zip(pairs, cells[-1], strict=True):
            lab.number(f"{name}_{pair}", value)
    lab.number("procrustes_turned", distance(x, turned))
    lab.number("procrustes_mapped", distance(x, mapped))
    for pair, y in pairs.items():
        lab.number(f"cosine_{pair}", F.cosine_similarity(x, y).mean())
    _claims(lab, x, turned, mapped, other)
    few = [8, 16, 32, 64, 128, 256, 512]
    curves: dict[str, list[tuple[float, float]]] = {"biased": [], "debiased": []}
    for n in few:
        a, b = normal(n, params.d, seed=lab.seed + 10), normal(n, params.d, seed=lab.seed + 11)
        curves["biased"].append((n, linear_cka(a, b)))
        curves["debiased"].append((n, debiased_cka(a, b)))
    lab.figure(
        "bias",
        figures.lines(
            Text("CKA of two unrelated representations", "两组无关表示之间的 CKA"),
            Text("examples", "样本数"),
            Text("CKA", "CKA"),
            curves,
            {"biased": Text("as defined", "原始定义"), "debiased": Text("debiased", "去偏")},
            x_scale="log",
        ),
    )


def _claims(lab: Lab, x: Tensor, turned: Tensor, mapped: Tensor, other: Tensor) -> None:
    lab.claim(
        "rotation",
        Text("CKA of a rotated and scaled copy is 1.", "旋转并缩放后的副本，CKA 为 1。"),
        measure=lambda measure: measure(x, turned),
        arm=linear_cka,
        control=lambda a, b: float(F.cosine_similarity(a, b).mean()),
        without=Text("the cosine of the raw vectors", "直接用原始向量的余弦"),
        holds=close(1.0, 1e-9),
    )
    lab.claim(
        "linear",
        Text("The canonical correlations of a linear image are 1.", "线性映射之后，典型相关仍为 1。"),
        measure=lambda measure: measure(x, mapped),
        arm=cca,
        control=linear_cka,
        without=Text("CKA, which weighs directions by their variance", "CKA，它按方差给方向加权"),
        holds=close(1.0, 1e-9),
    )
    lab.claim(
        "chance",
        Text("Debiased CKA of unrelated representations is about 0.", "无关表示的去偏 CKA 约为 0。"),
        measure=lambda measure: abs(measure(x, other)),
        arm=debiased_cka,
        control=linear_cka,
        without=Text("CKA as it is defined", "CKA 的原始定义"),
        holds=below(0.03),
    )
