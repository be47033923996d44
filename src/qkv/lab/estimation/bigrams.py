"""A softmax table of bigrams, the smallest language model: its maximum of likelihood is a ratio of counts (A82)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.data.batch import Batch
from qkv.lab import small
from qkv.lab.kit import Lab
from qkv.models import DecoderOnly
from qkv.nn import NoPosition, Plain
from qkv.training.losses import TokenCrossEntropy
from qkv.training.optim import Sgd
from qkv.training.schedules import Constant


def table(n_symbols: int, log_probs: Tensor | None = None) -> DecoderOnly:
    """A decoder whose one layer writes nothing and whose embedding is the identity, both frozen: logits = W e(x), a row
    of scores a symbol.

    log_probs: log p(next | symbol), [V,V]; zeros unless given. In float64."""
    quiet = {"bias": False, "out_bias": False}
    model = small.decoder(
        n_symbols,
        d_model=n_symbols,
        n_layers=1,
        n_heads=1,
        d_ff=0,
        position=NoPosition(),
        attention=quiet,
        block={"placement": Plain()},
    ).double()
    model.decoder.requires_grad_(False)
    with torch.no_grad():
        model.get_parameter("decoder.blocks.0.attention.out.weight").zero_()
        model.decoder.embedding.token.weight.copy_(torch.eye(n_symbols))
        model.head.weight.copy_(torch.zeros(n_symbols, n_symbols) if log_probs is None else log_probs.T)
    return model.eval()


def probabilities(model: DecoderOnly) -> Tensor:
    """p(next | symbol) of a table, [V,V]."""
    return model.head.weight.detach().T.softmax(-1)


def counts(ids: Tensor, n_symbols: int) -> Tensor:
    """How often each symbol follows each in ids [B,T], [V,V]."""
    pairs = F.one_hot(ids[:, :-1] * n_symbols + ids[:, 1:], n_symbols**2)
    return pairs.sum((0, 1)).view(n_symbols, n_symbols).double()


@dataclass(frozen=True)
class Fit:
    """How a table is trained. decay: of SGD, hence an L2 term beside the loss, which is a mean per token. smoothing:
    of the labels. copies: how many times the corpus is written down. steps: updates at the constant rate."""

    decay: float = 0.0
    smoothing: float = 0.0
    copies: int = 1
    steps: int = 150
    rate: float = 8.0


def trained(lab: Lab, ids: Tensor, n_symbols: int, fit: Fit) -> DecoderOnly:
    """A table trained on all of ids [B,T] at every update, by the toolkit's loop, from zeros."""
    pairs = torch.stack([ids[:, :-1].flatten(), ids[:, 1:].flatten()], 1)  # a table looks no further back
    batch: Batch = small.following(pairs.repeat(fit.copies, 1))
    model = table(n_symbols)
    lab.train(
        model,
        lambda _: batch,
        fit.steps,
        learning_rate=fit.rate,
        loss=TokenCrossEntropy(fit.smoothing),
        optimizer=Sgd(momentum=0.8, weight_decay=fit.decay),
        schedule=Constant(warmup=0),
        clip_norm=None,
    )
    return model


def posterior_mode(count: Tensor, precision: float, iterations: int = 20) -> Tensor:
    """The scores [V,V] that maximise Σ count·log softmax − ½ precision Σ score², by Newton's method, row by row."""
    scores = torch.zeros_like(count)
    eye = torch.eye(count.shape[1]).double()
    for _ in range(iterations):
        p, n = scores.softmax(-1), count.sum(1)[:, None]
        slope = count - n * p - precision * scores
        curve = n[:, None] * (torch.diag_embed(p) - p[:, :, None] * p[:, None, :]) + precision * eye
        scores = scores + torch.linalg.solve(curve, slope[:, :, None])[:, :, 0]
    return scores
