"""What is measured: sizes, cells (one line of a results table each) and the data that every contender of a cell is fed.

One vocabulary layout holds for all contenders. Translation models use Marian's: ``eos = 0``, ``unk = 1`` and the
padding id, which also starts the decoder, is the last one. Ordinary ids therefore run from 4 to ``vocab - 2``, which is
safe under every other library's conventions too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

EOS, UNK = 0, 1

Kind = Literal["training", "decoding", "encoder"]
Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Size:
    """The dimensions of a model; ``encoder_layers = 0`` means decoder-only, ``decoder_layers = 0`` encoder-only."""

    name: str
    d_model: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    d_ff: int
    vocab: int
    max_length: int

    @property
    def pad(self) -> int:
        return self.vocab - 1

    @property
    def seq2seq(self) -> bool:
        return self.encoder_layers > 0 and self.decoder_layers > 0


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 256, 3, 3, 4, 1024, 8000, 128),
        Size("base", 512, 6, 6, 8, 2048, 8000, 128),
        Size("gpt-char", 384, 0, 6, 6, 1536, 65, 256),
        Size("gpt", 384, 0, 6, 6, 1536, 8000, 256),
        Size("minilm", 384, 6, 0, 12, 1536, 30522, 512),
    )
}


@dataclass(frozen=True)
class Cell:
    """One measurement: a job, a model size, a precision and the shape of its input.

    ``length`` is the target length in training, the number of forced tokens in decoding, the input length of an
    encoder; ``prompt`` the source length of a translation model or the prompt length of a decoder-only model.
    ``dropout`` acts on the embeddings and on each sublayer's output, nowhere else, in every contender that can be told.
    """

    kind: Kind
    size: str
    precision: Precision
    batch: int
    length: int
    prompt: int = 0
    beams: int = 1
    dropout: float = 0.0
    smoothing: float = 0.0
    seed: int = 0

    @property
    def dimensions(self) -> Size:
        return SIZES[self.size]

    @property
    def tokens(self) -> int:
        """Real tokens of a step: targets in training, outputs in decoding (one hypothesis a row), else inputs."""
        return self.batch * self.length

    @property
    def name(self) -> str:
        search = "" if self.kind != "decoding" else f" beam {self.beams}" if self.beams > 1 else " greedy"
        return f"{self.kind} {self.size} {self.precision} {self.batch}x{self.length}{search}"

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def training_cells(precisions: list[Precision]) -> list[Cell]:
    """Batches of 2,048 target tokens, AdamW step included."""
    cells = []
    for precision in precisions:
        for size in ("tiny", "base"):
            cells.append(Cell("training", size, precision, 32, 64, prompt=64, dropout=0.1, smoothing=0.1))
        cells.append(Cell("training", "gpt-char", precision, 8, 256, dropout=0.1))
    return cells


def decoding_cells() -> list[Cell]:
    """64 forced tokens from random weights; sources of 32 tokens, prompts of 8 for the decoder-only model."""
    cells = []
    for size in ("tiny", "base"):
        for batch, beams in ((1, 1), (32, 1), (32, 4)):
            cells.append(Cell("decoding", size, "fp32", batch, 64, prompt=32, beams=beams))
    return cells + [Cell("decoding", "gpt", "fp32", batch, 64, prompt=8) for batch in (1, 16)]


def encoder_cells() -> list[Cell]:
    """A sentence encoder of MiniLM's size, for one short input and for a batch of long ones."""
    return [Cell("encoder", "minilm", "fp32", batch, length) for batch, length in ((1, 32), (32, 128))]


def choose(only: list[str], sizes: list[str], precisions: list[Precision]) -> list[Cell]:
    """The cells that a command line asks for; ``sizes`` match by first word, so ``gpt`` takes ``gpt-char`` too."""
    cells = []
    if "training" in only:
        cells += training_cells(precisions)
    if "decoding" in only:
        cells += decoding_cells()
    if "encoder" in only:
        cells += encoder_cells()
    return [cell for cell in cells if cell.kind == "encoder" or cell.size.split("-")[0] in sizes]


def random_ids(cell: Cell, batch: int, length: int, draw: int) -> Tensor:
    """Ordinary ids ``[batch, length]``, the same for every contender of a cell; ``draw`` numbers the samples."""
    generator = torch.Generator().manual_seed(cell.seed * 1009 + draw)
    low, high = (4, cell.dimensions.vocab - 1)
    return torch.randint(low, high, (batch, length), generator=generator)
