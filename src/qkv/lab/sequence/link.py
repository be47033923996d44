"""How the two halves hold together: one memory, read by every layer of the decoder (A27, A97, B20)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qkv.lab import small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Block, Cache, Tokens

VOCAB = 12


@dataclass(frozen=True)
class Link:
    """source, target: lengths. n_layers: of each stack."""

    source: Annotated[int, within(2, 16)] = 5
    target: Annotated[int, within(2, 16)] = 6
    n_layers: Annotated[int, within(2, 6)] = 3


class Bench:
    """A model in float64 and one pair of sequences."""

    def __init__(self, params: Link, generator: torch.Generator):
        self.n_layers = params.n_layers
        self.model = small.encoder_decoder(VOCAB, d_model=16, n_layers=params.n_layers).double().eval()
        self.source = torch.randint(VOCAB, (1, params.source), generator=generator)
        self.ids = torch.randint(VOCAB, (1, params.target), generator=generator)
        self.source_tokens, self.tokens = Tokens.arange(1, params.source), Tokens.arange(1, params.target)

    def blocks(self) -> list[Block]:
        return self.model.decoder.layers()

    def other(self, ids: Tensor) -> Tensor:
        """Other tokens at every position."""
        return (ids + 1) % VOCAB

    def states(self, ids: Tensor | None = None) -> Tensor:
        return self.model(self.source, self.source_tokens, self.ids if ids is None else ids, self.tokens)

    def encoder_gradient(self, cut: int) -> float:
        """The largest gradient of an encoder's weight when the first `cut` cross-attentions say nothing."""
        model = small.encoder_decoder(VOCAB, d_model=16, n_layers=self.n_layers).double()
        model.load_state_dict(self.model.state_dict())
        for block in model.decoder.layers()[:cut]:
            nn.init.zeros_(block.cross.out.weight)  # type: ignore[union-attr]
        hidden = model(self.source, self.source_tokens, self.ids, self.tokens)
        F.cross_entropy(model.head(hidden)[0], self.other(self.ids)[0]).backward()
        return max(float(p.grad.abs().max()) for p in model.encoder.parameters() if p.grad is not None)

    @torch.no_grad()
    def recorded(self, site: Literal["cross", "self"], ids: Tensor) -> Tensor:
        """Keys and values [L,T|S,·] of one kind of attention in each decoder layer."""
        held: list[Tensor] = []
        linears = [b.cross.key_value if site == "cross" else b.attention.query_key_value for b in self.blocks()]  # type: ignore[union-attr]
        hooks = [linear.register_forward_hook(lambda _m, _i, out: held.append(out[0])) for linear in linears]
        self.states(ids)
        for hook in hooks:
            hook.remove()
        return torch.stack(held)

    def moved(self, site: Literal["cross", "self"]) -> float:
        """The largest change of keys and values when the first token of the prefix is another."""
        ids = self.ids.clone()
        ids[:, 0] = self.other(ids[:, 0])
        return float((self.recorded(site, ids) - self.recorded(site, self.ids)).abs().max())

    @torch.no_grad()
    def read(self, hypothesis: Literal["last", "matching"]) -> float:
        """How far the cross-attention's input of layer l is from the encoder's last output, or from its layer l."""
        held: list[Tensor] = []
        layers: list[Tensor] = []
        hooks = [b.cross.key_value.register_forward_hook(lambda _m, i, _o: held.append(i[0])) for b in self.blocks()]  # type: ignore[union-attr]
        hooks += [b.register_forward_hook(lambda _m, _i, out: layers.append(out)) for b in self.model.encoder.layers()]
        self.states()
        for hook in hooks:
            hook.remove()
        last = self.model.encode(self.source, self.source_tokens).x
        norm = self.model.encoder.norm or (lambda x, _tokens: x)
        wanted = [last if hypothesis == "last" else norm(x, self.source_tokens) for x in layers]
        return max(float((a - b).abs().max()) for a, b in zip(held, wanted, strict=True))

    @torch.no_grad()
    def projections(self, kept: bool) -> float:
        """How often a layer computes keys and values of the memory while the target is read token by token."""
        calls: list[int] = []
        block = self.blocks()[0]
        hook = block.cross.key_value.register_forward_hook(lambda _m, _i, _o: calls.append(1))  # type: ignore[union-attr]
        self.steps(Cache if kept else None)
        hook.remove()
        return len(calls)

    @torch.no_grad()
    def steps(self, make: Callable[[], Cache] | None, cache: Cache | None = None) -> Tensor:
        """States [1,T,E] computed token by token; with no cache, each step reads its whole prefix again."""
        memory = self.model.encode(self.source, self.source_tokens)
        cache = make() if make else cache
        states = []
        for t in range(self.ids.shape[1]):
            part = slice(0 if cache is None else t, t + 1)
            states.append(self.model.decode(self.ids[:, part], self.tokens[:, part], memory, cache)[:, -1:])
        return torch.cat(states, 1)

    @torch.no_grad()
    def stale(self) -> Cache:
        """A cache that holds the cross keys of another source and no tokens."""
        cache = Cache()
        memory = self.model.encode(self.other(self.source), self.source_tokens)
        self.model.decode(self.ids[:, :1], self.tokens[:, :1], memory, cache)
        cache.truncate(0)
        return cache


@experiment()
def cross_link(lab: Lab, params: Link) -> None:
    """The encoder's last output is read by every decoder layer, computed once, and is the encoder's only teacher."""
    bench = Bench(params, lab.generator())
    lab.number("layers", params.n_layers)
    lab.claim(
        "only_link",
        Text(
            "With every cross-attention cut, no gradient reaches the encoder.",
            "切断所有交叉注意力后，没有梯度传到编码器。",
        ),
        measure=bench.encoder_gradient,
        arm=params.n_layers,
        control=params.n_layers - 1,
        without=Text("one of the layers left connected", "保留其中一层的连接"),
        holds=exactly(0),
    )
    lab.claim(
        "last_layer",
        Text(
            "Every decoder layer reads the encoder's last output, not the encoder layer of its own number.",
            "解码器每一层读的都是编码器最后一层的输出，而不是同序号那一层。",
        ),
        measure=bench.read,
        arm="last",
        control="matching",
        without=Text("compared with the encoder layer of the same number", "改与同序号的编码器层比较"),
        holds=exactly(0),
    )
    lab.claim(
        "fixed",
        Text(
            "Keys and values of the memory do not depend on the prefix.",
            "编码器一侧的键和值不随已生成的前缀改变。",
        ),
        measure=bench.moved,
        arm="cross",
        control="self",
        without=Text("the decoder's own keys and values", "换成解码器自身的键和值"),
        holds=exactly(0),
    )
    claim_once(lab, bench)


def claim_once(lab: Lab, bench: Bench) -> None:
    """Keys and values of the memory, computed once and kept."""
    lab.claim(
        "once",
        Text("With a cache a layer projects the memory once a sentence.", "有缓存时，每层对编码结果只投影一次。"),
        measure=bench.projections,
        arm=True,
        control=False,
        without=Text("no cache: once a step", "没有缓存：每步一次"),
        holds=exactly(1),
        unit="times",
    )
    whole = bench.states().detach()
    lab.claim(
        "kept",
        Text(
            "Kept keys and values give the states of the pass in one go.",
            "保存下来的键和值，与一次性计算得到同样的状态。",
        ),
        measure=lambda cache: (bench.steps(None, cache) - whole).abs().max(),
        arm=Cache(),
        control=bench.stale(),
        without=Text("keys kept from another source", "缓存里是另一个源序列的键"),
        holds=below(1e-10),
    )
