"""The whole of a Transformer, put together from its parts (B1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models.stack import Memory, Stack
from qkv.nn import Causal, Full, Tokens, View

VOCAB = 9


@dataclass(frozen=True)
class Anatomy:
    """source, target: lengths of the two texts."""

    source: Annotated[int, within(1, 32)] = 7
    target: Annotated[int, within(1, 32)] = 5


def by_hand(stack: Stack, ids: Tensor, memory: Memory | None, cross: bool) -> Tensor:
    """A stack's states [B,T,E], sublayer by sublayer; cross: whether the encoder is read."""
    tokens = Tokens.arange(*ids.shape)
    view = View(Full() if memory is None else Causal(), tokens, tokens)
    x = stack.embedding(ids, tokens)
    for block in stack.layers():
        attend = block.attention
        x = block.attention_residual(x, lambda h, f=attend: f(h, view), tokens)
        if cross and memory is not None and block.cross is not None and block.cross_residual is not None:
            across, source = View(Full(), tokens, memory.tokens), memory.x
            reader = block.cross
            x = block.cross_residual(
                x,
                lambda h, f=reader, v=across, m=source: f(h, v, memory=m),
                tokens,
            )
        if block.feedforward is not None and block.feedforward_residual is not None:
            x = block.feedforward_residual(x, block.feedforward, tokens)
    return x if stack.norm is None else stack.norm(x, tokens)


@experiment()
def anatomy(lab: Lab, params: Anatomy) -> None:
    """An encoder and a decoder are embeddings, residual sublayers and a norm; all places of a text in one pass."""
    model = small.encoder_decoder(VOCAB, d_model=16).double().eval()
    source = torch.randint(VOCAB, (2, params.source), generator=lab.generator())
    ids = torch.randint(VOCAB, (2, params.target), generator=lab.generator(1))
    source_tokens, tokens = Tokens.arange(*source.shape), Tokens.arange(*ids.shape)
    with torch.no_grad():
        truth = model(source, source_tokens, ids, tokens)
        memory = Memory(by_hand(model.encoder, source, None, cross=False), source_tokens)
    lab.claim(
        "parts",
        Text(
            "Embedding, then per layer self-attention, cross-attention and feed-forward, each in a residual, then a "
            "norm: put together by hand this is the model.",
            "嵌入，每层依次是自注意力、交叉注意力、前馈，各带残差，最后归一化：手工拼起来就是整个模型。",
        ),
        measure=lambda cross: (by_hand(model.decoder, ids, memory, cross) - truth).detach().abs().max(),
        arm=True,
        control=False,
        without=Text("the decoder does not read the encoder", "解码器不读编码器"),
        holds=below(1e-12),
    )

    @torch.no_grad()
    def apart(mask: Causal | Full) -> float:
        """One pass over the text against a pass over each of its beginnings."""
        torch.manual_seed(lab.seed)
        reader = small.decoder(VOCAB, d_model=16, mask=mask).double().eval()
        whole = reader(ids, tokens)
        ends = [reader(ids[:, : t + 1], tokens[:, : t + 1])[:, -1] for t in range(params.target)]
        return float((torch.stack(ends, 1) - whole).abs().max())

    lab.claim(
        "one_pass",
        Text(
            "One pass over a text gives what a pass over each of its beginnings gives: training is parallel.",
            "对整段文字一次前向，等于对每个前缀各做一次前向：训练可以并行。",
        ),
        measure=apart,
        arm=Causal(),
        control=Full(),
        without=Text("no causal mask", "没有因果掩码"),
        holds=below(1e-12),
    )
