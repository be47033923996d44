"""The same decoder, one token at a time: positions that go on, left padding, and what is parallel (A62, B6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from qkv.baselines.recurrent import Recurrent, RecurrentConfig
from qkv.decoding import generate
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import PADDING, Cache, Full, PositionConfig, Rotary, Tokens

VOCAB = 12


@dataclass(frozen=True)
class DecoderSteps:
    """length: of the sequence. prompt: the longer of two prompts; the other is shorter by `padding`."""

    length: Annotated[int, within(3, 32)] = 8
    prompt: Annotated[int, within(3, 16)] = 5
    padding: Annotated[int, within(1, 12)] = 2


def decoder(position: PositionConfig | None = None, **changes: Any) -> DecoderOnly:
    """A decoder in float64, not trained."""
    return small.decoder(VOCAB, position=position, **changes).double().eval()


@torch.no_grad()
def stepwise(model: DecoderOnly, ids: Tensor, behind: int = 0) -> Tensor:
    """Logits [B,T,V] of one token a step with a cache; `behind`: how late positions are after the first."""
    cache, out = Cache(), []
    for t in range(ids.shape[1]):
        tokens = Tokens.arange(len(ids), 1, start=max(t - behind, 0))
        out.append(model.head(model.decode(ids[:, t : t + 1], tokens, cache=cache)))
    return torch.cat(out, 1)


@torch.no_grad()
def at_once(model: DecoderOnly, ids: Tensor, start: int = 0) -> Tensor:
    """Logits [B,T,V] of one pass, positions from `start`."""
    return model.head(model(ids, Tokens.arange(len(ids), ids.shape[1], start)))


def gap(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference."""
    return float((a - b).abs().max())


@experiment()
def decoder_steps(lab: Lab, params: DecoderSteps) -> None:
    """A decoding step embeds one token at the next position; a wrong absolute position changes the result."""
    model, rotary = decoder(), decoder(Rotary())
    ids = torch.randint(VOCAB, (2, params.length), generator=lab.generator())
    whole = at_once(model, ids)
    lab.claim(
        "cached",
        Text(
            "One token a step, with cache and the next position, gives the logits of training.",
            "每步一个词，用缓存和下一个位置，得到的分数与训练时相同。",
        ),
        measure=lambda behind: gap(stepwise(model, ids, behind), whole),
        arm=0,
        control=1,
        without=Text("positions one too small from the second step on", "从第二步起位置少算一个"),
        holds=below(1e-10),
    )
    lab.number("behind_rotary", gap(stepwise(rotary, ids, 1), at_once(rotary, ids)))
    lab.claim(
        "constant_shift",
        Text(
            "Rotary positions do not notice when all positions are shifted alike.",
            "所有位置一起平移，旋转位置编码察觉不到。",
        ),
        measure=lambda model: gap(at_once(model, ids, start=3), at_once(model, ids)),
        arm=rotary,
        control=model,
        without=Text("learned absolute positions", "可学习的绝对位置"),
        holds=below(1e-10),
    )
    claim_left_padding(lab, params, model, rotary)


def claim_left_padding(lab: Lab, params: DecoderSteps, model: DecoderOnly, rotary: DecoderOnly) -> None:
    """Two prompts of different length in one batch, continued by the same tokens, against each alone."""
    steps, width = 3, params.prompt
    lengths = [width, max(1, width - params.padding)]
    ids = torch.randint(VOCAB, (2, width + steps), generator=lab.generator(2))
    right = Tokens.from_lengths(lengths, width, "left")
    columns = Tokens(torch.arange(width).where(right.valid, PADDING))  # what a mask without position ids amounts to

    @torch.no_grad()
    def change(model: DecoderOnly, tokens: Tokens) -> float:
        cache = Cache()
        out = [model.decode(ids[:, :width], tokens, cache=cache)[:, -1:]]
        for t in range(steps):
            new = Tokens(tokens.pos[:, -1:] + 1 + t)
            out.append(model.decode(ids[:, width + t : width + t + 1], new, cache=cache))
        batch = torch.cat(out, 1)
        alone = [at_once_states(model, ids[i : i + 1, width - n :])[:, n - 1 :] for i, n in enumerate(lengths)]
        return gap(batch, torch.cat(alone))

    lab.claim(
        "left_padded",
        Text(
            "Prompts of different length, padded on the left, are continued as each is alone.",
            "长度不同的提示左填充成批，续写与单独续写相同。",
        ),
        measure=lambda tokens: change(model, tokens),
        arm=right,
        control=columns,
        without=Text("padding masked, but positions counted from the padding", "遮住了填充，但位置从填充处数起"),
        holds=below(1e-10),
    )
    lab.number("columns_rotary", change(rotary, columns))


@torch.no_grad()
def at_once_states(model: DecoderOnly, ids: Tensor) -> Tensor:
    """States [B,T,E] of one pass."""
    return model(ids, Tokens.arange(*ids.shape))


@dataclass(frozen=True)
class ParallelPass:
    """short, long: two lengths whose chains of dependent operations are compared."""

    short: Annotated[int, within(2, 16)] = 8
    long: Annotated[int, within(17, 64)] = 32


def serial_depth(out: Tensor) -> int:
    """The longest chain of operations that a result waits for, counted in the graph that autograd keeps."""
    depth: dict[Any, int] = {None: 0}
    stack = [out.grad_fn]
    while stack:
        node = stack[-1]
        parents = [parent for parent, _ in node.next_functions if parent is not None]  # type: ignore[union-attr]
        waiting = [parent for parent in parents if parent not in depth]
        if waiting:
            stack.extend(waiting)
        else:
            depth[stack.pop()] = 1 + max((depth[parent] for parent in parents), default=0)
    return depth[out.grad_fn]


def depth_at(model: nn.Module, length: int) -> int:
    """The depth of the last state of a pass over `length` tokens."""
    ids = torch.zeros(1, length, dtype=torch.long)
    return serial_depth(model(ids, Tokens.arange(1, length))[0, -1].sum())


@experiment()
def parallel_pass(lab: Lab, params: ParallelPass) -> None:
    """All positions of a layer are computed at once: the chain of dependent operations does not grow with length."""
    model, rnn = decoder(), Recurrent(RecurrentConfig(VOCAB, 32, cell="rnn"))
    lab.number("depth_long", depth_at(model, params.long), "operations")
    lab.number("depth_recurrent", depth_at(rnn, params.long), "operations")
    lab.claim(
        "depth",
        Text(
            "The chain of dependent operations is as long for a long text as for a short one.",
            "相互等待的运算链，长文本与短文本一样长。",
        ),
        measure=lambda model: depth_at(model, params.long) - depth_at(model, params.short),
        arm=model,
        control=rnn,
        without=Text("a recurrent network: each state waits for the one before", "循环网络：每个状态要等前一个"),
        holds=exactly(0),
        unit="operations",
    )
    claim_passes(lab, params, model)
    lengths = [4, 8, 16, 32]
    series = {"transformer": model, "rnn": rnn}
    names = {"transformer": Text("Transformer", "Transformer"), "rnn": Text("recurrent network", "循环网络")}
    lab.figure(
        "depth",
        figures.lines(
            Text("Operations that must wait for one another", "必须依次等待的运算数"),
            Text("length of the text", "文本长度"),
            Text("operations", "运算数"),
            {key: [(n, depth_at(m, n)) for n in lengths] for key, m in series.items()},
            names,
        ),
    )


def claim_passes(lab: Lab, params: ParallelPass, model: DecoderOnly) -> None:
    """One pass over a text that is given, beside one token after the other."""
    ids = torch.randint(VOCAB, (1, params.short), generator=lab.generator())
    lab.claim(
        "same",
        Text(
            "Under the causal mask one parallel pass gives what reading token by token gives.",
            "有因果掩码时，一次并行计算与逐词计算结果相同。",
        ),
        measure=lambda model: gap(at_once(model, ids), stepwise(model, ids)),
        arm=model,
        control=decoder(mask=Full()),
        without=Text("no causal mask", "没有因果掩码"),
        holds=below(1e-10),
    )

    @torch.no_grad()
    def passes(generating: bool) -> float:
        calls: list[int] = []
        hook = model.decoder.register_forward_hook(lambda _m, _i, _o: calls.append(1))
        if generating:
            generate(model, ids[:, :1], Tokens.arange(1, 1), max_new=params.short, eos=-1)
        else:
            at_once(model, ids)
        hook.remove()
        return len(calls)

    lab.claim(
        "passes",
        Text("Scoring a given text takes one pass, whatever its length.", "给定全文时打分只需一次前向，与长度无关。"),
        measure=passes,
        arm=False,
        control=True,
        without=Text("the text is generated, not given", "文本要生成，而不是给定"),
        holds=exactly(1),
        unit="passes",
    )
