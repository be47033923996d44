"""What remedies for attention's cost save, each counted (B21, B25, A53, B12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.lab.measures import attend, counted
from qkv.nn import (
    Attention,
    AttentionConfig,
    Cache,
    Causal,
    Einsum,
    GroupedQuery,
    KernelConfig,
    Linear,
    Mask,
    MultiHead,
    MultiQuery,
    Tokens,
    View,
    Window,
)
from qkv.probe.cost import cache_bytes

VOCAB = 8
HEADS = {"all": MultiHead(4), "two": GroupedQuery(4, 2), "one": MultiQuery(4)}


@dataclass(frozen=True)
class CheaperAttention:
    """d: width, for four heads. length: tokens. back: how far the window looks."""

    d: Annotated[int, within(8, 64)] = 16
    length: Annotated[int, within(16, 256)] = 64
    back: Annotated[int, within(1, 15)] = 7


@experiment()
def cheaper_attention(lab: Lab, params: CheaperAttention) -> None:
    """Which remedies save operations, which bytes, and which leave the function as it was."""
    claim_window(lab, params)
    claim_precision(lab, params)
    claim_cache(lab, params)
    claim_groups(lab, params)


def last(q: Tensor, k: Tensor, v: Tensor, mask: Mask, kept: int) -> Tensor:
    """The last query over the last `kept` keys."""
    return attend(q[:, :, -1:], k[:, :, -kept:], v[:, :, -kept:], mask, scale=0.5)[0]


def claim_window(lab: Lab, params: CheaperAttention) -> None:
    """A window as a mask and as keys that are left out."""
    n, back = params.length, params.back
    q, k, v = (torch.randn(1, 2, n, 8, dtype=torch.float64, generator=lab.generator(i)) for i in range(3))
    window = Causal() & Window(back)
    lab.number("same_window", (last(q, k, v, window, n) - last(q, k, v, window, back + 1)).abs().max())
    lab.number("window_error", (last(q, k, v, window, n) - last(q, k, v, Causal(), n)).abs().max())
    full = counted(lambda: last(q, k, v, Causal(), n))
    lab.claim(
        "skipped",
        Text(
            "A window saves operations when the keys outside it are left out of the product.",
            "只有把窗口外的键真正排除在乘法之外，窗口才省运算。",
        ),
        measure=lambda kept: counted(lambda: last(q, k, v, window, kept)) / full,
        arm=back + 1,
        control=n,
        without=Text("the same window as a mask on the whole product", "同一个窗口，只作为整个乘积上的掩码"),
        holds=below(0.99),
        unit="of full",
    )


def claim_precision(lab: Lab, params: CheaperAttention) -> None:
    """Fewer bits are fewer bytes, not fewer operations."""
    n = params.length

    def ran(kernel: KernelConfig, dtype: torch.dtype) -> Tensor:
        q, k, v = (torch.randn(1, 2, n, 8, generator=lab.generator(9 + i)).to(dtype) for i in range(3))
        return attend(q, k, v, Causal(), kernel)[0]

    whole = ran(Einsum(), torch.float32)
    half = ran(Einsum(), torch.bfloat16).float()
    lab.number("half_error", (half - whole).norm() / whole.norm(), "relative")
    base = counted(lambda: ran(Einsum(), torch.float32))
    lab.claim(
        "same_operations",
        Text(
            "Half precision makes as many operations as single precision: it saves bytes, and time where hardware "
            "multiplies short numbers faster.",
            "半精度的运算次数与单精度相同：省的是字节，以及硬件算短数更快带来的时间。",
        ),
        measure=lambda arm: counted(lambda: ran(*arm)) / base,
        arm=(Einsum(), torch.bfloat16),
        control=(Linear(8), torch.float32),
        without=Text("linear attention instead, another function", "换成线性注意力，函数变了"),
        holds=exactly(1),
        unit="ratio",
    )


def claim_cache(lab: Lab, params: CheaperAttention) -> None:
    """What a cache holds."""
    n, d = params.length, params.d
    filled = {}
    for name, heads in HEADS.items():
        model = small.decoder(VOCAB, d_model=d, n_layers=2, attention={"heads": heads}).eval()
        cache = Cache()
        with torch.no_grad():
            model.decode(torch.zeros(1, n, dtype=torch.long), Tokens.arange(1, n), cache=cache)
        filled[name] = (model.config.stack, cache.bytes())
    for name, (_, held) in filled.items():
        lab.number(f"cache_{name}", held / 1024, "KiB")
    lab.claim(
        "cache_formula",
        Text(
            "The cache of a decoder holds 2·L·G·D numbers a token: keys and values of its own past, in every layer.",
            "解码器缓存每个词存 2·L·G·D 个数：每一层自注意力的历史键和值。",
        ),
        measure=lambda formula: sum(abs(formula(config) - held) for config, held in filled.values()),
        arm=lambda config: cache_bytes(config, n),
        control=lambda config: 4 * n * config.d_model,
        without=Text("the size of one output of an encoder, n·d numbers", "按“缓存编码器输出”估计：n·d 个数"),
        holds=exactly(0),
        unit="bytes",
    )
    lab.figure(
        "cache",
        figures.bars(
            Text("Cache of one text", "一段文字的缓存"),
            Text("KiB", "KiB"),
            {name: held / 1024 for name, (_, held) in filled.items()},
            {
                "all": Text("a key head for each", "每头各有键值"),
                "two": Text("two shared (GQA)", "两组共享（GQA）"),
                "one": Text("one shared (MQA)", "全部共享（MQA）"),
            },
        ),
    )


def claim_groups(lab: Lab, params: CheaperAttention) -> None:
    """Shared key heads are a special case of separate ones."""
    d, n = params.d, params.length
    torch.manual_seed(lab.seed)
    grouped = Attention(AttentionConfig(GroupedQuery(4, 2), kernel=Einsum()), d).double()
    width = grouped.d_head
    tokens = Tokens.arange(1, n)
    view = View(Causal(), tokens, tokens)
    x = torch.randn(1, n, d, dtype=torch.float64, generator=lab.generator(20))
    truth = grouped(x, view)

    def apart(heads: list[int]) -> Tensor:
        """A layer with four key heads, copies of the two as `heads` says."""
        whole = Attention(AttentionConfig(MultiHead(4), kernel=Einsum()), d).double()
        whole.out.load_state_dict(grouped.out.state_dict())
        rows = torch.arange(8 * width).view(8, width)  # four queries, two keys, two values
        chosen = torch.cat([rows[:4], rows[4:6][heads], rows[6:][heads]]).flatten()
        whole.query_key_value.weight.data = grouped.query_key_value.weight.data[chosen]
        whole.query_key_value.bias.data = grouped.query_key_value.bias.data[chosen]
        return (whole(x, view) - truth).detach().abs().max()

    lab.claim(
        "shared_heads",
        Text(
            "Shared key heads compute what separate ones would if neighbours were copies.",
            "共享键值头等于相邻各头的键值互为副本的多头注意力。",
        ),
        measure=apart,
        arm=[0, 0, 1, 1],
        control=[0, 1, 0, 1],
        without=Text("the copies in the other order", "副本换一种排列"),
        holds=below(1e-12),
    )
