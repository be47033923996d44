"""qkv: presets from ``qkv.models`` with ``TokenCrossEntropy`` in training; ``qkv.decoding.generate`` in decoding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.cells import EOS, Cell, random_ids
from bench.job import Example, Job, parameters, training_job
from qkv.data.batch import Batch
from qkv.decoding import Beam, Greedy, generate, prepare
from qkv.interop import load_folder
from qkv.models import DecoderOnlyConfig, StackConfig, gpt2, marian
from qkv.models import build as build_model
from qkv.nn import Tokens
from qkv.runtime import keep_memory
from qkv.training.losses import TokenCrossEntropy

PACKAGES = ["torch"]


def fresh(cell: Cell) -> Any:
    """The preset of the cell's size. The translation model is Marian's with ReLU: Vaswani 2017, sinusoids in halves."""
    size = cell.dimensions
    if not size.seq2seq:
        shape = (size.vocab, size.d_model, size.decoder_layers, size.heads, size.d_ff, size.max_length)
        return build_model(without_attention_dropout(gpt2(*shape, dropout=cell.dropout)))
    layers = (size.encoder_layers, size.heads, size.d_ff)
    config = marian(size.vocab, size.d_model, *layers, activation="relu", dropout=cell.dropout)
    return build_model(replace(config, head=replace(config.head, bias=False)))


def without_attention_dropout(config: DecoderOnlyConfig) -> DecoderOnlyConfig:
    """All contenders drop embeddings and sublayer outputs, none drops attention weights."""
    stack: StackConfig = config.stack
    attention = replace(stack.block.attention, dropout=0.0)
    return replace(config, stack=replace(stack, block=replace(stack.block, attention=attention)))


def build(cell: Cell, variant: str, folder: str) -> Job:
    keep_memory()  # as every command of qkv does
    if cell.kind == "training":
        return training(cell)
    made, _ = load_folder(folder, torch.bfloat16 if variant == "bf16" else torch.float32)
    return decoding(cell, prepare(made)) if cell.kind == "decoding" else encoding(cell, made)


def training(cell: Cell) -> Job:
    """Head and label-smoothed loss are one operation; the loss returns a sum and a count, and the loop divides."""
    made = fresh(cell)
    objective = TokenCrossEntropy(cell.smoothing)
    tokens, source_tokens = Tokens.arange(cell.batch, cell.length), Tokens.arange(cell.batch, cell.prompt)

    def loss(example: Example) -> Tensor:
        total, count, _ = objective(
            made, Batch(example.inputs, tokens, example.targets, example.source, source_tokens)
        )["cross_entropy"]
        return total / count

    return training_job(made, loss, cell, PACKAGES)


def decoding(cell: Cell, made: Any) -> Job:
    """A search from the start id alone, or from the prompt; the encoder's pass is part of the step, as in the peers."""
    ids = random_ids(cell, cell.batch, cell.prompt, 0)
    tokens = Tokens.arange(cell.batch, cell.prompt)
    start = torch.full((cell.batch, 1), cell.dimensions.pad)
    start_tokens = Tokens.arange(cell.batch, 1)
    chooser = Beam(cell.beams) if cell.beams > 1 else Greedy()
    settings: dict[str, Any] = {"chooser": chooser, "max_new": cell.length, "min_new": cell.length, "eos": EOS}

    def step() -> Any:
        if not cell.dimensions.seq2seq:
            return generate(made, ids, tokens, **settings)
        with torch.inference_mode():
            memory = made.encode(ids, tokens)
        return generate(made, start, start_tokens, memory=memory, **settings)

    def output() -> list[list[int]]:
        return [hypotheses[0].ids for hypotheses in step()]

    return Job(step, parameters(made), output, packages=PACKAGES)


def encoding(cell: Cell, made: Any) -> Job:
    ids = random_ids(cell, cell.batch, cell.length, 0)
    tokens = Tokens.arange(cell.batch, cell.length)

    def step() -> Tensor:
        with torch.inference_mode():
            return made.encode(ids, tokens).x

    return Job(step, parameters(made), packages=PACKAGES)
