"""The three places of attention and what each lets a state depend on (A60, B14, A100; Vaswani et al. 2017, §3.2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderDecoder, EncoderDecoderConfig, HeadConfig, Memory, Stack
from qkv.nn import PADDING, Causal, Full, Mask, Tokens

VOCAB = 12


@dataclass(frozen=True)
class Sites:
    """source, target: lengths. padding: cells at the end of the source. d_model, n_layers: of both stacks."""

    source: Annotated[int, within(2, 16)] = 5
    target: Annotated[int, within(2, 16)] = 6
    padding: Annotated[int, within(1, 8)] = 2
    d_model: Annotated[int, within(8, 64)] = 16
    n_layers: Annotated[int, within(1, 4)] = 2


@dataclass(frozen=True)
class Reach:
    """|∂ state / ∂ input| as tables [rows, columns]: encoder [S,S], decoder [T,T], and cross [T,S] by memory."""

    encoder: Tensor
    decoder: Tensor
    cross: Tensor


def model_of(params: Sites, encoder_mask: Mask | None = None, decoder_mask: Mask | None = None) -> EncoderDecoder:
    """An encoder–decoder whose two self-attentions have the given masks; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stacks = [
            small.stack(VOCAB, d_model=params.d_model, n_layers=params.n_layers, mask=mask)
            for mask in (encoder_mask, decoder_mask)
        ]
        return EncoderDecoder(EncoderDecoderConfig(stacks[0], stacks[1], HeadConfig(tied=False))).double().eval()


def inputs_of(stack: Stack) -> list[Tensor]:
    """A list that holds the embeddings [B,T,E] of the stack's latest pass."""
    held: list[Tensor] = []
    stack.embedding.register_forward_hook(lambda _module, _inputs, out: held.append(out))
    return held


def sensitivity(states: Tensor, inputs: Tensor) -> Tensor:
    """[T,S]: the norm of the derivative of a fixed projection of each state [1,T,E] by each input [1,S,E]."""
    probe = torch.linspace(-1, 1, states.shape[-1], dtype=states.dtype).sin()
    return torch.stack(
        [torch.autograd.grad(state @ probe, inputs, retain_graph=True)[0][0].norm(dim=-1) for state in states[0]]
    )


def reach(model: EncoderDecoder, params: Sites, hide_memory: bool = False) -> Reach:
    """What each state of the encoder and of the decoder depends on."""
    generator = torch.Generator().manual_seed(1)
    width = params.source + params.padding
    tokens = Tokens.from_lengths([params.source], width)
    source, target = inputs_of(model.encoder), inputs_of(model.decoder)
    memory = model.encode(torch.randint(VOCAB, (1, width), generator=generator), tokens)
    if hide_memory:
        memory = Memory(memory.x, Tokens(torch.full_like(tokens.pos, PADDING)))
    ids = torch.randint(VOCAB, (1, params.target), generator=generator)
    states = model.decode(ids, Tokens.arange(*ids.shape), memory)
    n = params.source
    return Reach(
        sensitivity(memory.x, source[0])[:n, :n], sensitivity(states, target[0]), sensitivity(states, memory.x)
    )


@experiment()
def attention_sites(lab: Lab, params: Sites) -> None:
    """Encoder states depend on the whole source, decoder states on the past of the target and on all of the memory."""
    model = model_of(params)
    found = reach(model, params)
    n, width = params.source, params.source + params.padding
    lab.number("decoder_pairs", (found.decoder > 0).sum(), "pairs")
    lab.number("decoder_lower", params.target * (params.target + 1) // 2, "pairs")
    lab.number("cross_padding", found.cross[:, n:].max())
    lab.number("width", width)
    lab.claim(
        "encoder",
        Text("Every encoder state depends on every token of the source.", "编码器的每个状态都依赖源序列的每个词。"),
        measure=lambda model: (reach(model, params).encoder > 0).double().mean(),
        arm=model,
        control=model_of(params, encoder_mask=Causal()),
        without=Text("a causal mask in the encoder", "给编码器加上因果掩码"),
        holds=exactly(1),
        unit="share",
    )
    lab.claim(
        "decoder",
        Text("No decoder state depends on a later token of the target.", "解码器的状态不依赖目标序列中更靠后的词。"),
        measure=lambda model: reach(model, params).decoder.triu(1).max(),
        arm=model,
        control=model_of(params, decoder_mask=Full()),
        without=Text("no causal mask in the decoder", "去掉解码器的因果掩码"),
        holds=exactly(0),
    )
    lab.claim(
        "cross",
        Text(
            "Every decoder state depends on every source token's memory, whatever its place.",
            "解码器的每个状态都依赖源序列每个位置的编码，不分先后。",
        ),
        measure=lambda hide: (reach(model, params, hide).cross[:, :n] > 0).double().mean(),
        arm=False,
        control=True,
        without=Text(
            "cross-attention hidden: the decoder's only way to the source", "遮住交叉注意力：通往源序列的唯一通道"
        ),
        holds=exactly(1),
        unit="share",
    )
    structure(lab, params, model)
    lab.figure(
        "reach",
        figures.heat(
            Text("What a decoder state depends on", "解码器状态依赖什么"),
            Text("source (with its padding), then target", "源序列（含填充），然后是目标序列"),
            Text("decoder state", "解码器状态"),
            torch.cat((found.cross / found.cross.max(), found.decoder / found.decoder.max()), 1).tolist(),
            Text("derivative, largest = 1", "导数，最大者为 1"),
        ),
    )


def structure(lab: Lab, params: Sites, model: EncoderDecoder) -> None:
    """What an encoder's layer and a decoder's layer have in common, and what not."""
    encoder = small.encoder(VOCAB, d_model=params.d_model, n_layers=params.n_layers).double().eval()
    ids = torch.randint(VOCAB, (1, params.target), generator=lab.generator())
    tokens = Tokens.arange(*ids.shape)

    @torch.no_grad()
    def difference(mask: Mask) -> float:
        decoder = small.decoder(VOCAB, d_model=params.d_model, n_layers=params.n_layers, mask=mask).double().eval()
        decoder.decoder.load_state_dict(encoder.encoder.state_dict())
        return float((decoder(ids, tokens) - encoder(ids, tokens)).abs().max())

    lab.claim(
        "same_layer",
        Text(
            "But for mask and cross-attention the layers are the same function: one's weights run in the other.",
            "除掩码和交叉注意力外，两种层是同一个函数：权重可以互换。",
        ),
        measure=difference,
        arm=Full(),
        control=Causal(),
        without=Text("the causal mask put back", "恢复因果掩码"),
        holds=below(1e-12),
    )
    d = params.d_model
    plain = small.decoder(VOCAB, d_model=d).decoder

    def extra(stack: Stack) -> float:
        counts = [sum(p.numel() for p in s.blocks[0].parameters()) for s in (stack, model.encoder)]
        return counts[0] - counts[1]

    lab.claim(
        "extra",
        Text(
            "A decoder's layer has one attention (4d² + 4d) and one norm (2d) more than an encoder's.",
            "解码器的一层比编码器多一个注意力（4d² + 4d）和一个归一化（2d）。",
        ),
        measure=extra,
        arm=model.decoder,
        control=plain,
        without=Text("a decoder without an encoder, as in language models", "没有编码器的解码器，如语言模型"),
        holds=exactly(4 * d * d + 6 * d),
        unit="parameters",
    )
