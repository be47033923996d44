"""What training by cross-entropy estimates, and what makes a maximum a posteriori of it (A82, A83, A84)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from qkv.data.chains import MarkovChain
from qkv.lab import figures
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within

from .bigrams import Fit, counts, posterior_mode, probabilities, trained


@dataclass(frozen=True)
class Estimates:
    """n_symbols: of a first-order source. length: of the one text drawn from it. decay: weight decay per token.
    smoothing: of the labels. copies: how often the text is written down. steps: updates."""

    n_symbols: Annotated[int, within(2, 10)] = 4
    length: Annotated[int, within(50, 5000)] = 400
    decay: Annotated[float, within(0.0005, 0.1)] = 0.005
    smoothing: Annotated[float, within(0.01, 0.5)] = 0.1
    copies: Annotated[int, within(2, 20)] = 5
    steps: Annotated[int, within(100, 2000)] = 150


@experiment()
def bigram_estimates(lab: Lab, params: Estimates) -> None:
    """Trained by cross-entropy, a table of bigrams is the ratio of counts; with L2 it is the posterior's mode."""
    v = params.n_symbols
    chain = MarkovChain.random(v, 1, lab.generator(), sharpness=0.7)
    ids = chain.sample(1, params.length + 1, lab.generator(1))
    count = counts(ids, v)
    n, ratio = count.sum(), count / count.sum(1, keepdim=True)

    def learned(decay: float = 0.0, smoothing: float = 0.0, copies: int = 1) -> Tensor:
        return probabilities(trained(lab, ids, v, Fit(decay, smoothing, copies, params.steps)))

    tables = {
        "mle": learned(),
        "map": learned(params.decay),
        "again": learned(params.decay, copies=params.copies),
        "fixed": learned(params.decay / params.copies, copies=params.copies),
        "smoothed": learned(smoothing=params.smoothing),
    }
    mode = posterior_mode(count, float(params.decay * n)).softmax(-1)
    lab.number("least_count", count.min())
    lab.number("gap", (tables["map"] - ratio).abs().max())
    lab.number("gap_again", (tables["again"] - ratio).abs().max())
    lab.number("gap_fixed", (tables["fixed"] - ratio).abs().max())
    lab.number("precision", params.decay * n)
    _compared(lab, tables, ratio, mode)
    _smoothing(lab, params, count, tables)
    _drawing(lab, params, count)


def _compared(lab: Lab, tables: dict[str, Tensor], ratio: Tensor, mode: Tensor) -> None:
    """What each training ended at, beside the ratio of counts and the posterior's mode."""

    def away(target: Tensor) -> Callable[[str], Tensor]:
        return lambda arm: (tables[arm] - target).abs().max()

    with_decay = Text("the same training with weight decay", "同样的训练，加上权重衰减")
    lab.claim(
        "counts",
        Text("The trained table is the ratio of counts.", "训练出的表就是计数之比。"),
        measure=away(ratio),
        arm="mle",
        control="map",
        without=with_decay,
        holds=below(1e-6),
    )
    lab.claim(
        "mode",
        Text(
            "With an L2 term in the gradient the trained table is the posterior's mode, found by Newton's method, "
            "under a Gaussian prior of precision decay × tokens.",
            "梯度中带 L2 项，训练出的表就是后验众数（用牛顿法另行求得），先验是高斯，精度等于衰减系数乘词元数。",
        ),
        measure=away(mode),
        arm="map",
        control="mle",
        without=Text("no decay: a flat prior", "不衰减，即平坦先验"),
        holds=below(1e-6),
    )
    lab.claim(
        "copied",
        Text(
            "A mean loss and a fixed decay: the text written down several times trains the very same table, so the "
            "prior grows with the data.",
            "损失取平均、衰减系数固定时，把文本重复多遍，训练出的表完全一样：先验随数据一起变强。",
        ),
        measure=away(tables["map"]),
        arm="again",
        control="fixed",
        without=Text(
            "decay divided by the number of copies: one prior for any amount of data",
            "衰减系数除以遍数：先验不随数据量改变",
        ),
        holds=below(1e-6),
    )


def _smoothing(lab: Lab, params: Estimates, count: Tensor, tables: dict[str, Tensor]) -> None:
    """Smoothed labels are pseudo-counts, in proportion to how often the context was seen."""
    v, n = params.n_symbols, count.sum(1, keepdim=True)
    alpha = params.smoothing / (1 - params.smoothing) * n / v
    rows = {
        "in proportion": (count + alpha) / (n + v * alpha),
        "equal": (count + alpha.mean()) / (n + v * alpha.mean()),
    }
    lab.claim(
        "pseudo_counts",
        Text(
            "Label smoothing is a Dirichlet posterior mean whose pseudo-counts grow with the context's count.",
            "标签平滑等于狄利克雷后验均值，其伪计数与上文出现的次数成正比。",
        ),
        measure=lambda kind: (tables["smoothed"] - rows[kind]).abs().max(),
        arm="in proportion",
        control="equal",
        without=Text("the same pseudo-count in every context: an ordinary prior", "各个上文的伪计数相同，即普通的先验"),
        holds=below(1e-6),
    )


def _drawing(lab: Lab, params: Estimates, count: Tensor) -> None:
    """Newton's mode for more and more copies of the text, prior fixed or growing with it."""
    ratio, n = count / count.sum(1, keepdim=True), float(count.sum())
    sizes = [2.0**k for k in range(9)]

    def gap(copies: float, precision: float) -> float:
        return float((posterior_mode(copies * count, precision).softmax(-1) - ratio).abs().max())

    lab.figure(
        "gap",
        figures.lines(
            Text("Distance between mode and maximum likelihood", "后验众数与极大似然估计的距离"),
            Text("tokens", "词元数"),
            Text("largest difference of a probability", "概率的最大差距"),
            {
                "fixed": [(n * c, gap(c, params.decay * n)) for c in sizes],
                "mean": [(n * c, gap(c, params.decay * n * c)) for c in sizes],
            },
            {
                "fixed": Text("one prior (sum loss, fixed decay)", "先验固定（损失求和）"),
                "mean": Text("prior grows (mean loss, fixed decay)", "先验随数据增强（损失取平均）"),
            },
            x_scale="log",
            y_scale="log",
        ),
    )
