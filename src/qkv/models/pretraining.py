"""What encoders are pretrained as: with the head over the vocabulary, with outputs beside it, or with a generator that
spoils texts for a detector. The encoder's weights have the names that they have in `Reader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from qkv.nn import FeedForward, Full, Mask, Tokens

from .config import EncoderOnlyConfig, StackConfig
from .stack import Memory, Stack
from .transformer import EncoderOnly


@dataclass(frozen=True)
class Turns(Mask):
    """Keys whose turn has come: those of an earlier `order`, or of the query's own where this is no `query` token;
    `query` tokens are seen by nobody. Without orders, all keys.

    A position that is asked for stands in the row twice, as the content that later turns read, and as a `query` token
    that has its place but not its content: the two streams of Yang et al. 2019 (XLNet, §2.3) as one sequence."""

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        reached = q.get("order") - q.get("query")
        come = k.get("order")[:, None, None, :] <= reached[:, None, :, None]
        return come & (k.get("query") == 0)[:, None, None, :]

    def simplify(self, q: Tokens, k: Tokens) -> Mask:
        return self if "order" in k.fields else Full()


class PretrainedEncoder(EncoderOnly):
    """An encoder with a head over the vocabulary, and outputs by name that read the whole text.

    outputs: entries of the table in `outputs.py`. counts: how often each label of each output occurs."""

    def __init__(
        self,
        config: EncoderOnlyConfig,
        outputs: Mapping[str, Any] | None = None,
        counts: Mapping[str, Sequence[int]] | None = None,
    ):
        super().__init__(config)
        width = config.stack.d_model
        made = {name: out.build(name, width, (counts or {})[name]) for name, out in (outputs or {}).items()}
        self.outputs = nn.ModuleDict(made)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> hidden states [B,T,E]; tokens with the field `order` see those whose turn has come."""
        return self.encoder(ids, tokens, mask=Turns())


class ReplacementDetector(nn.Module):
    """An encoder that says of every token whether it was replaced, and the smaller one that replaces (Clark et al.
    2020, ELECTRA). They share the token embeddings; the generator's width is `share` of the encoder's."""

    def __init__(self, config: EncoderOnlyConfig, share: float = 0.5):
        super().__init__()
        self.config = config
        self.encoder = Stack(config.stack)
        narrow = replace(config, stack=narrowed(config.stack, share), head=replace(config.head, tied=True))
        self.generator = PretrainedEncoder(narrow)
        self.generator.encoder.embedding.token = self.encoder.embedding.token
        self.generator.head.weight = self.encoder.embedding.token.weight
        width = config.stack.d_model
        self.detector = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    @property
    def max_length(self) -> int | None:
        return self.encoder.max_length

    def encode(self, ids: Tensor, tokens: Tokens) -> Memory:
        """ids [B,T] -> hidden states [B,T,E] with their tokens."""
        return Memory(self.encoder(ids, tokens), tokens)

    def forward(self, ids: Tensor, tokens: Tokens) -> Tensor:
        """ids [B,T] -> the logit [B,T] of each token's having been replaced."""
        return self.detector(self.encoder(ids, tokens)).squeeze(-1)


def filler(model: Any) -> EncoderOnly:
    """What fills a <mask>: the generator beside a detector, or the encoder itself."""
    return model.generator if isinstance(model, ReplacementDetector) else model


def narrowed(stack: StackConfig, share: float) -> StackConfig:
    """The stack with `share` of its width and of its feed-forward's, and with the token table of the whole width.

    Raises ValueError where the heads do not divide that width."""
    width = round(share * stack.d_model)
    heads = stack.block.attention.heads.n
    if width < 1 or width % heads:
        raise ValueError(f"a generator of {share} times d_model {stack.d_model} does not split into {heads} heads")
    embedding = replace(stack.embedding, rank=stack.embedding.rank or stack.d_model)
    feedforward = stack.block.feedforward
    if isinstance(feedforward, FeedForward):
        feedforward = replace(feedforward, d_ff=max(1, round(share * feedforward.d_ff)))
    return replace(stack, d_model=width, embedding=embedding, block=replace(stack.block, feedforward=feedforward))


@torch.no_grad()
def drawn(logits: Tensor, at: Tensor) -> Tensor:
    """logits [N,V] and numbers [N] in [0, 1) -> a sample of each row's softmax, [N]: the token in which its cumulative
    probability passes the number."""
    cumulative = logits.softmax(-1).cumsum(-1)
    found = torch.searchsorted(cumulative, at.unsqueeze(-1).to(cumulative.dtype), right=True).squeeze(-1)
    return found.clamp_max(logits.shape[-1] - 1)
