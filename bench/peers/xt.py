"""x-transformers: training only. Flash attention is switched on; it is the faster choice on this CPU too."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from x_transformers import Decoder, Encoder, TransformerWrapper

from bench.cells import Cell, Size
from bench.job import Example, Job, mean_loss, training_job

PACKAGES = ["torch", "x-transformers"]


def layers(size: Size, dropout: float) -> dict[str, Any]:
    """Dropout on each sublayer's output, as in every other contender; the rest is the library's default (pre-norm)."""
    return {
        "dim": size.d_model,
        "heads": size.heads,
        "attn_dim_head": size.d_model // size.heads,
        "attn_flash": True,
        "attn_sublayer_dropout": dropout,
        "ff_sublayer_dropout": dropout,
        "ff_mult": size.d_ff // size.d_model,
    }


class Model(nn.Module):
    """A decoder, with an encoder where the size has one; one tied embedding for source, target and output."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        common = {"num_tokens": size.vocab, "max_seq_len": size.max_length, "emb_dropout": dropout}
        body = Decoder(depth=size.decoder_layers, cross_attend=size.seq2seq, **layers(size, dropout))
        self.decoder = TransformerWrapper(attn_layers=body, tie_embedding=True, **common)
        self.encoder = None
        if size.seq2seq:
            body = Encoder(depth=size.encoder_layers, **layers(size, dropout))
            self.encoder = TransformerWrapper(attn_layers=body, return_only_embed=True, **common)
            self.encoder.token_emb = self.decoder.token_emb

    def forward(self, example: Example) -> Tensor:
        """Logits ``[B,T,V]``."""
        if self.encoder is None:
            return self.decoder(example.inputs)
        memory = self.encoder(example.source, return_embeddings=True)
        return self.decoder(example.inputs, context=memory)


def build(cell: Cell, variant: str, folder: str) -> Job:
    made = Model(cell.dimensions, cell.dropout)

    def loss(example: Example) -> Tensor:
        return mean_loss(made(example), example.targets, cell.smoothing)

    return training_job(made, loss, cell, PACKAGES)
