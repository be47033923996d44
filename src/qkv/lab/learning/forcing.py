"""Teacher forcing: the exact likelihood in one pass, and what scheduled sampling optimises instead (A26, A63, A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.decoding import generate
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderDecoder
from qkv.models.config import EncoderDecoderConfig, HeadConfig
from qkv.nn import Cache, Full, Tokens
from qkv.training.losses import TokenCrossEntropy

from .ragged import total
from .sequences import Joint
from .tables import table_model

ANY_MASK = Text("no causal mask: a position sees the token that it is asked for", "不加因果掩码：被问的词自己就看得见")


@dataclass(frozen=True)
class Forcing:
    """symbols, length: of the sequences that are all enumerated."""

    symbols: Annotated[int, within(2, 5)] = 3
    length: Annotated[int, within(3, 6)] = 5


def translator(vocab: int, mask: Full | None = None) -> EncoderDecoder:
    """An encoder-decoder in float64, untrained; `mask`: the decoder's, causal unless given."""
    sizes: dict[str, Any] = {"d_model": 16, "n_layers": 1}
    config = EncoderDecoderConfig(
        small.stack(vocab, **sizes), small.stack(vocab, **sizes, mask=mask), HeadConfig(tied=False)
    )
    return EncoderDecoder(config).double().eval()


@torch.no_grad()
def stepwise(model: EncoderDecoder, batch: Batch) -> float:
    """Σ −log p of the targets, a token at a time, with a cache."""
    assert batch.source_ids is not None and batch.source_tokens is not None
    memory, cache, nats = model.encode(batch.source_ids, batch.source_tokens), Cache(), 0.0
    for t in range(batch.ids.shape[1]):
        tokens = Tokens.arange(len(batch.ids), 1, start=t)
        logp = model.head(model.decode(batch.ids[:, t : t + 1], tokens, memory, cache))[:, 0].log_softmax(-1)
        nats -= float(logp.gather(1, batch.targets[:, t : t + 1]).sum())
    return nats


@experiment()
def forced_prefix(lab: Lab, params: Forcing) -> None:
    """One pass over the gold prefix is the exact log-likelihood, normalised, and its sum of KLs that of sequences."""
    v, n = params.symbols, params.length
    source, target = (torch.randint(1, v + 2, (4, n), generator=lab.generator(i)) for i in (1, 2))
    batch = small.paired(source, target, begin=0)

    def difference(mask: Full | None) -> float:
        model = translator(v + 2, mask)
        at_once = TokenCrossEntropy()(model, batch)["cross_entropy"][0]
        return abs(float(at_once.detach()) - stepwise(model, batch))

    lab.claim(
        "parallel",
        Text(
            "One pass over the shifted gold target gives the sum that decoding it token by token gives.",
            "右移的标准答案一次前向，所得之和与逐词解码相同。",
        ),
        measure=difference,
        arm=None,
        control=Full(),
        without=ANY_MASK,
        holds=below(1e-10),
        unit="nat",
    )

    def mass(mask: Full | None) -> float:
        model = small.decoder(v, d_model=16, n_layers=1, mask=mask).double()
        return abs(float(Joint.of_model(model, v, n).p.sum()) - 1)

    lab.claim(
        "normalised",
        Text("The probabilities of all sequences add up to 1.", "全部序列的概率之和为 1。"),
        measure=mass,
        arm=None,
        control=Full(),
        without=ANY_MASK,
        holds=below(1e-10),
    )
    lab.number("count", v**n)
    claim_chain(lab, params)
    claim_passes(lab, n)


def claim_chain(lab: Lab, params: Forcing) -> None:
    """Cross-entropy = entropy + KL, and the KL of sequences is the sum of the steps' under gold prefixes."""
    v, n = params.symbols, params.length
    truth = Joint.of_chain(MarkovChain.random(v, 2, lab.generator(3)), n)
    model = Joint.of_model(small.decoder(v, d_model=16, n_layers=1).double(), v, n)
    lab.number("entropy", truth.entropy(), "nat")
    lab.number("cross_entropy", truth.cross_entropy(model), "nat")
    lab.number("divergence", truth.divergence(model), "nat")
    lab.number("own_prefixes", truth.stepwise(model, model), "nat")
    lab.claim(
        "decomposition",
        Text("Cross-entropy is entropy plus KL(data ‖ model).", "交叉熵 = 熵 + KL(数据 ‖ 模型)。"),
        measure=lambda kl: abs(truth.cross_entropy(model) - truth.entropy() - kl()),
        arm=lambda: truth.divergence(model),
        control=lambda: model.divergence(truth),
        without=Text("the divergence taken the other way: KL(model ‖ data)", "反方向的散度：KL(模型 ‖ 数据)"),
        holds=below(1e-10),
        unit="nat",
    )
    lab.claim(
        "chain_rule",
        Text(
            "The steps' KLs, averaged over gold prefixes, add up to the KL of whole sequences.",
            "各步的 KL 对标准前缀取平均再相加，等于整个序列的 KL。",
        ),
        measure=lambda walked: abs(truth.stepwise(model, walked) - truth.divergence(model)),
        arm=truth,
        control=model,
        without=Text("averaged over the model's own prefixes", "改为对模型自己的前缀取平均"),
        holds=below(1e-10),
        unit="nat",
    )


def claim_passes(lab: Lab, n: int) -> None:
    """How often the decoder must be run, one after the other."""
    model = small.decoder(5, d_model=16, n_layers=1).eval()
    ids = torch.zeros(2, n, dtype=torch.long)

    def passes(own: bool) -> int:
        calls: list[None] = []
        handle = model.decoder.register_forward_hook(lambda *_: calls.append(None))
        if own:
            generate(model, ids[:, :1], Tokens.arange(2, 1), max_new=n, eos=-1)
        else:
            small.logits(model, small.labelled(ids, ids))
        handle.remove()
        return len(calls)

    lab.claim(
        "passes",
        Text("All positions are trained in one pass of the decoder.", "一次前向就训练全部位置。"),
        measure=passes,
        arm=False,
        control=True,
        without=Text("the inference procedure: each input is the output before it", "推理流程：每步输入是上一步的输出"),
        holds=exactly(1),
        unit="passes",
    )


@dataclass(frozen=True)
class Schedule:
    """tenths: of ten times the second symbol repeats the first so often. The control replaces half of the inputs."""

    tenths: Annotated[int, within(6, 9)] = 9


def mixed(tenths: int, eighths: int) -> Batch:
    """All cases in proportion: x1 even, x2 = x1 in `tenths` of ten; the input is x1, or in `eighths` of eight an even
    draw of its own. Targets stay the gold x2."""
    seen, asked = [], []
    for first in (0, 1):
        for same in range(10):
            second = first if same < tenths else 1 - first
            inputs = [first] * (2 * (8 - eighths)) + [0] * eighths + [1] * eighths
            seen += inputs
            asked += [second] * len(inputs)
    return small.labelled(torch.tensor(seen)[:, None], torch.tensor(asked)[:, None])


def fitted(batch: Batch) -> Tensor:
    """p(next | symbol) [2,2] of a bigram decoder at the minimum of the toolkit's loss, by L-BFGS."""
    model = table_model(torch.full((2, 2), 0.5, dtype=torch.float64))
    weight = model.head.weight.requires_grad_()
    optimizer = torch.optim.LBFGS([weight], max_iter=80, tolerance_grad=1e-12, tolerance_change=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value, count = total(model, batch)
        (value / count).backward()
        return (value / count).detach()

    optimizer.step(closure)
    return small.logits(model, small.labelled(torch.tensor([[0], [1]]), torch.zeros(2, 1).long()))[:, 0].softmax(-1)


def kl(p: float, q: float) -> float:
    """Between two coins."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@experiment()
def scheduled_optimum(lab: Lab, params: Schedule) -> None:
    """The best possible model under scheduled sampling is not the source."""
    p = params.tenths / 10
    lab.number("truth", p)
    learned = {e: float(fitted(mixed(params.tenths, e))[0, 0]) for e in range(0, 9, 2)}
    lab.number("half", learned[4])
    lab.number("all", learned[8])
    lab.number("half_formula", (p + 0.5) / 2)
    lab.number("half_kl", kl(p, learned[4]), "nat")
    lab.number("all_kl", kl(p, learned[8]), "nat")
    lab.claim(
        "consistent",
        Text("With gold inputs the optimum of the loss is the source.", "输入用标准答案时，损失的最优解就是数据来源。"),
        measure=lambda eighths: abs(learned[eighths] - p),
        arm=0,
        control=4,
        without=Text("half of the inputs drawn from the model: scheduled sampling", "一半输入由模型抽取：计划采样"),
        holds=below(1e-4),
    )
    lab.claim(
        "formula",
        Text(
            "The optimum is (1−ε)·p(x₂|x₁) + ε·p(x₂): it drifts towards the marginal.",
            "最优解是 (1−ε)·p(x₂|x₁) + ε·p(x₂)：向边缘分布漂移。",
        ),
        measure=lambda expected: max(abs(q - expected(e / 8)) for e, q in learned.items()),
        arm=lambda e: (1 - e) * p + e / 2,
        control=lambda e: p,
        without=Text("an optimum that stays the source", "最优解始终是数据来源"),
        holds=below(1e-4),
    )
    lab.figure(
        "optimum",
        figures.lines(
            Text("What the optimum says", "最优解给出的概率"),
            Text("share of inputs drawn from the model, ε", "由模型抽取的输入份额 ε"),
            Text("p(x₂ = x₁)", "p(x₂ = x₁)"),
            {"fit": [(e / 8, q) for e, q in learned.items()], "truth": [(e / 8, p) for e in learned]},
            {"fit": Text("optimum of the loss", "损失的最优解"), "truth": Text("source", "数据来源")},
        ),
    )
