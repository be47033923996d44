"""What each mask of an encoder–decoder is for: delete it, and see who notices (A64, B18, A33, B8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from qkv.data.buckets import BucketConfig, TokenBuckets
from qkv.data.packing import PackedSource, PackingConfig, pack
from qkv.lab import figures, small
from qkv.lab.checks import below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderDecoder, Memory
from qkv.nn import Cache, Causal, Full, Learned, PositionConfig, SameDocument, Sinusoidal, Tokens

VOCAB = 12
EQUAL = below(1e-10)


@dataclass(frozen=True)
class MaskSites:
    """source, target: lengths of one pair. padding: cells added on each side. n_layers: of encoder and decoder."""

    source: Annotated[int, within(2, 32)] = 6
    target: Annotated[int, within(3, 32)] = 6
    padding: Annotated[int, within(1, 16)] = 3
    n_layers: Annotated[int, within(2, 4)] = 2


def unmasked(tokens: Tokens, side: str = "right") -> Tokens:
    """The same positions, but padding passes for tokens: the padding mask is deleted and no more. Padding on the right
    gets the positions that follow, padding on the left, where none are left, position 0."""
    return Tokens.arange(*tokens.shape) if side == "right" else Tokens(tokens.pos.clamp_min(0))


class Pair:
    """A model, a source and a target, and what the decoder makes of them with padding around."""

    def __init__(self, params: MaskSites, generator: torch.Generator):
        self.params = params
        self.model = small.encoder_decoder(VOCAB, d_model=16, n_layers=params.n_layers).double().eval()
        self.source = torch.randint(VOCAB, (1, params.source), generator=generator)
        self.ids = torch.randint(VOCAB, (1, params.target), generator=generator)
        self.junk = torch.randint(VOCAB, (1, params.padding), generator=generator)

    def alone(self) -> Tensor:
        """The decoder's states [1,T,E] without any padding."""
        source, target = Tokens.arange(1, self.params.source), Tokens.arange(1, self.params.target)
        return self.model(self.source, source, self.ids, target)

    @torch.no_grad()
    def padded_source(self, encoder_mask: bool = True, cross_mask: bool = True) -> float:
        """The largest change when the source is padded, with or without the two masks that hide it."""
        ids = torch.cat((self.source, self.junk), 1)
        tokens = Tokens.from_lengths([self.params.source], ids.shape[1])
        memory = self.model.encode(ids, tokens if encoder_mask else unmasked(tokens))
        memory = Memory(memory.x, tokens if cross_mask else unmasked(tokens))
        return self.change(self.model.decode(self.ids, Tokens.arange(*self.ids.shape), memory))

    @torch.no_grad()
    def padded_target(self, side: str, mask: bool) -> float:
        """The largest change when the target is padded on a side, with or without the mask that hides it."""
        ids = torch.cat((self.ids, self.junk) if side == "right" else (self.junk, self.ids), 1)
        tokens = Tokens.from_lengths([self.params.target], ids.shape[1], side)
        memory = self.model.encode(self.source, Tokens.arange(*self.source.shape))
        states = self.model.decode(ids, tokens if mask else unmasked(tokens, side), memory)
        return self.change(states[tokens.valid][None])

    def change(self, states: Tensor) -> float:
        return float((states - self.alone()).abs().max())

    def blind(self) -> EncoderDecoder:
        """The same weights, but every position sees all others: no causal mask."""
        model = small.encoder_decoder(VOCAB, d_model=16, n_layers=self.params.n_layers, mask=Full())
        model.double().eval().load_state_dict(self.model.state_dict())
        return model

    @torch.no_grad()
    def future(self, model: EncoderDecoder) -> float:
        """The largest change of a state when tokens after it are replaced."""
        source, tokens = Tokens.arange(*self.source.shape), Tokens.arange(*self.ids.shape)
        before = model(self.source, source, self.ids, tokens)
        worst = 0.0
        for t in range(self.params.target - 1):
            ids = self.ids.clone()
            ids[:, t + 1 :] = (ids[:, t + 1 :] + 1) % VOCAB
            worst = max(worst, float((model(self.source, source, ids, tokens) - before)[:, : t + 1].abs().max()))
        return worst

    @torch.no_grad()
    def stepwise(self, kept: bool, first: int = 1) -> float:
        """How far states computed one token after the other, without a causal mask, are from those of training.

        kept: keys and values stay in a cache; else each step reads its whole prefix again and takes the last state.
        first: how many tokens the first pass reads at once."""
        model, cache = self.blind(), Cache() if kept else None
        tokens = Tokens.arange(*self.ids.shape)
        memory = model.encode(self.source, Tokens.arange(*self.source.shape))
        states = []
        for end in range(first, self.params.target + 1):
            start = end - 1 if end > first else 0
            part = slice(start if kept else 0, end)
            states.append(model.decode(self.ids[:, part], tokens[:, part], memory, cache)[:, start - end :])
        return self.change(torch.cat(states, 1))


@experiment()
def mask_sites(lab: Lab, params: MaskSites) -> None:
    """Delete each mask of an encoder–decoder in turn: the one thing that it protects breaks."""
    pair = Pair(params, lab.generator())
    claim_sources(lab, pair)
    lab.claim(
        "future",
        Text(
            "With the causal mask no state changes when later tokens do.",
            "有因果掩码时，改动后面的词不影响前面的状态。",
        ),
        measure=pair.future,
        arm=pair.model,
        control=pair.blind(),
        without=Text("no causal mask", "没有因果掩码"),
        holds=EQUAL,
    )
    lab.claim(
        "target_left",
        Text("Padding on the left of the target changes nothing.", "目标序列左侧填充不改变任何状态。"),
        measure=lambda mask: pair.padded_target("left", mask),
        arm=True,
        control=False,
        without=Text("the decoder's padding mask deleted", "删去解码器的填充掩码"),
        holds=EQUAL,
    )
    lab.claim(
        "target_right",
        Text(
            "On the right, the decoder's padding mask is redundant: the causal mask alone hides what comes later.",
            "右侧填充时解码器的填充掩码是多余的：因果掩码已经遮住后面的一切。",
        ),
        measure=lambda side: pair.padded_target(side, mask=False),
        arm="right",
        control="left",
        without=Text("padding on the left, where no causal mask reaches", "改为左侧填充，因果掩码管不到"),
        holds=EQUAL,
    )
    lab.claim(
        "cached_step",
        Text(
            "With a cache, steps of one token need no causal mask: they give the states of training.",
            "有缓存时逐词解码不需要因果掩码：得到的状态与训练时相同。",
        ),
        measure=pair.stepwise,
        arm=True,
        control=False,
        without=Text(
            "no cache: every step reads its prefix again, without a mask", "没有缓存：每步重读整个前缀，也不加掩码"
        ),
        holds=EQUAL,
    )
    lab.number("prefill", pair.stepwise(True, first=3))
    draw_deleted(lab, pair)


def draw_deleted(lab: Lab, pair: Pair) -> None:
    """What is lost with each mask, as bars."""
    deleted = {
        "encoder": pair.padded_source(encoder_mask=False),
        "cross": pair.padded_source(cross_mask=False),
        "causal": pair.future(pair.blind()),
        "left": pair.padded_target("left", False),
        "right": pair.padded_target("right", False),
    }
    names = {
        "encoder": Text("encoder: padding", "编码器：填充"),
        "cross": Text("cross: padding", "交叉：填充"),
        "causal": Text("decoder: causal", "解码器：因果"),
        "left": Text("decoder: left padding", "解码器：左填充"),
        "right": Text("decoder: right padding", "解码器：右填充"),
    }
    title = Text("What changes when one mask is deleted", "删去一个掩码后状态的变化")
    lab.figure("deleted", figures.bars(title, Text("largest change of a state", "状态的最大变化"), deleted, names))


def claim_sources(lab: Lab, pair: Pair) -> None:
    """The two masks that hide the source's padding, each needed."""
    whole = {"encoder_mask": True, "cross_mask": True}
    for name, site_en, site_zh in (
        ("encoder", "encoder's", "编码器自注意力"),
        ("cross", "cross-attention's", "交叉注意力"),
    ):
        lab.claim(
            f"source_{name}",
            Text(
                f"Padding of the source changes nothing; for that the {site_en} mask is needed.",
                f"源序列的填充不改变任何状态；为此{site_zh}的掩码不可少。",
            ),
            measure=lambda masks: pair.padded_source(**masks),
            arm=whole,
            control={**whole, f"{name}_mask": False},
            without=Text(f"the {site_en} mask deleted, the other kept", f"只删去{site_zh}的掩码"),
            holds=EQUAL,
        )


@dataclass(frozen=True)
class VariableLength:
    """documents: how many lengths are drawn for the batches. longest: of them. rows: of a random batch."""

    documents: Annotated[int, within(50, 5000)] = 1000
    longest: Annotated[int, within(8, 255)] = 64
    rows: Annotated[int, within(2, 64)] = 16


@experiment()
def variable_length(lab: Lab, params: VariableLength) -> None:
    """One set of weights reads any length: padded, packed or alone, a sequence gets the same states."""
    generator = lab.generator()
    documents = [torch.randint(4, VOCAB, (n,), generator=generator).tolist() for n in (3, 7, 2, 5)]
    claim_padding(lab, documents)
    claim_packing(lab, documents)

    def growth(position: tuple[PositionConfig, PositionConfig]) -> float:
        short, long = (small.encoder(VOCAB, position=p) for p in position)
        return sum(p.numel() for p in long.parameters()) - sum(p.numel() for p in short.parameters())

    lab.claim(
        "parameters",
        Text(
            "No weight belongs to a length: parameters do not grow with it.",
            "没有哪个权重属于某个长度：参数量与长度无关。",
        ),
        measure=growth,
        arm=(Sinusoidal(), Sinusoidal()),
        control=(Learned(64), Learned(128)),
        without=Text("a learned table of positions, one row a position", "换成可学习的位置表，每个位置一行"),
        holds=exactly(0),
        unit="parameters",
    )
    claim_waste(lab, params, generator)


@torch.no_grad()
def claim_padding(lab: Lab, documents: list[list[int]]) -> None:
    """Padded rows against the same sequences alone."""
    model = small.encoder(VOCAB).double().eval()
    width = max(map(len, documents))
    ids = torch.tensor([[*d, *[0] * (width - len(d))] for d in documents])
    tokens = Tokens.from_lengths([len(d) for d in documents])

    def change(seen: Tokens) -> float:
        batch = model(ids, seen)
        alone = (model(torch.tensor([d]), Tokens.arange(1, len(d)))[0] for d in documents)
        return max(float((row[: len(a)] - a).abs().max()) for row, a in zip(batch, alone, strict=True))

    lab.claim(
        "padded",
        Text("A padded batch gives each sequence the states that it gets alone.", "填充成批与单独计算，状态相同。"),
        measure=change,
        arm=tokens,
        control=unmasked(tokens),
        without=Text("padding not masked", "不遮住填充"),
        holds=EQUAL,
    )


@torch.no_grad()
def claim_packing(lab: Lab, documents: list[list[int]]) -> None:
    """Several documents in one row against the same documents alone."""
    row = pack(documents, sum(len(d) + 1 for d in documents))
    apart = small.decoder(VOCAB, mask=Causal() & SameDocument()).double().eval()
    together = small.decoder(VOCAB, mask=Causal()).double().eval()
    together.load_state_dict(apart.state_dict())
    singles = [pack([d], len(d) + 1) for d in documents]
    alone = torch.cat([apart(single.ids, single.tokens) for single in singles], 1)
    lab.claim(
        "packed",
        Text(
            "Documents packed into one row get the states that they get alone.",
            "多个文档拼进一行，状态与单独计算相同。",
        ),
        measure=lambda model: (model(row.ids, row.tokens) - alone).abs().max(),
        arm=apart,
        control=together,
        without=Text("the causal mask alone, without documents", "只有因果掩码，不区分文档"),
        holds=EQUAL,
    )


def claim_waste(lab: Lab, params: VariableLength, generator: torch.Generator) -> None:
    """How much of a batch is padding, by three ways of making batches of the same lengths."""
    # Skewed lengths, as texts have them: many short, few long.
    drawn = (params.longest * torch.rand(params.documents, generator=generator) ** 2).long() + 1
    lengths = drawn.clamp_max(params.longest - 1).tolist()
    buckets = TokenBuckets(lengths, BucketConfig(tokens=params.rows * params.longest))
    order = torch.randperm(len(lengths), generator=generator).tolist()
    random = [order[i : i + params.rows] for i in range(0, len(order), params.rows)]
    packed = PackedSource([[4] * (n - 1) for n in lengths if n > 1], PackingConfig(params.longest, params.rows))
    waste = {"random": buckets.waste(random), "buckets": buckets.waste(buckets.plan(0)), "packed": packed.waste(0)}
    lab.number("waste_packed", waste["packed"], "share")

    lab.claim(
        "waste",
        Text("Batches of like lengths waste less than a tenth of their cells.", "按长度分桶后，填充不到十分之一。"),
        measure=buckets.waste,
        arm=buckets.plan(0),
        control=random,
        without=Text("batches drawn at random", "随机组批"),
        holds=below(0.1),
        unit="share",
    )
    names = {
        "random": Text("random batches", "随机组批"),
        "buckets": Text("buckets", "按长度分桶"),
        "packed": Text("packed rows", "拼行"),
    }
    title = Text("Padding among the cells of a batch", "一批中填充所占的比例")
    lab.figure("waste", figures.bars(title, Text("share", "比例"), waste, names))
