"""Hugging Face transformers: MarianMTModel, GPT2LMHeadModel and BertModel, trained and decoded as their users do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, MarianConfig, MarianMTModel
from transformers.utils import logging

from bench.cells import EOS, SIZES, Cell, Size, random_ids
from bench.job import Example, Job, mean_loss, parameters, training_job

PACKAGES = ["torch", "transformers"]
GAIN = {"base": 2.2}  # at 3 its twelve post-norm layers amplify the last bit until it chooses the tokens
logging.set_verbosity_error()


def model(size: Size, dropout: float) -> Any:
    """A randomly initialised model of ``size``; the caller has seeded torch."""
    if size.seq2seq:
        return MarianMTModel(marian(size, dropout))
    if size.decoder_layers:
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=size.vocab,
                n_positions=size.max_length,
                n_embd=size.d_model,
                n_layer=size.decoder_layers,
                n_head=size.heads,
                n_inner=size.d_ff,
                resid_pdrop=dropout,
                embd_pdrop=dropout,
                attn_pdrop=0.0,
                bos_token_id=EOS,
                eos_token_id=EOS,
                pad_token_id=size.pad,
            )
        )
    config = BertConfig(
        vocab_size=size.vocab,
        hidden_size=size.d_model,
        num_hidden_layers=size.encoder_layers,
        num_attention_heads=size.heads,
        intermediate_size=size.d_ff,
        max_position_embeddings=size.max_length,
    )
    return BertModel(config)


def marian(size: Size, dropout: float) -> MarianConfig:
    """Post-norm, sinusoidal, ReLU, one embedding for source, target and output: Vaswani 2017 as Marian has it."""
    return MarianConfig(
        vocab_size=size.vocab,
        max_position_embeddings=size.max_length,
        encoder_layers=size.encoder_layers,
        decoder_layers=size.decoder_layers,
        encoder_attention_heads=size.heads,
        decoder_attention_heads=size.heads,
        encoder_ffn_dim=size.d_ff,
        decoder_ffn_dim=size.d_ff,
        d_model=size.d_model,
        activation_function="relu",
        dropout=dropout,
        scale_embedding=True,
        pad_token_id=size.pad,
        decoder_start_token_id=size.pad,
        eos_token_id=EOS,
        forced_eos_token_id=None,
    )


def save(size: str, seed: int, folder: str) -> None:
    """Writes the random weights that all contenders of a decoding or encoder cell share, as a Hugging Face folder."""
    torch.manual_seed(seed)
    made = model(SIZES[size], 0.0)
    if SIZES[size].decoder_layers:
        enliven(made, SIZES[size])
    made.save_pretrained(folder)


@torch.no_grad()
def enliven(made: Any, size: Size) -> None:
    """Redraws a decoder's weights so that it says different tokens, rows and positions differing, not one for ever.

    Freshly initialised models repeat themselves, and then equal outputs would prove little. Sharper attention, a
    stronger feed-forward layer and no mean in what it adds (ReLU is positive) are enough. The padding id, which starts
    a translation, keeps the zero vector that every Marian model gives it.
    """
    for name, weight in made.named_parameters():
        if weight.dim() == 2 and weight.requires_grad:
            gain = GAIN.get(size.name, 3.0) if any(part in name for part in ("q_proj", "k_proj", "fc1", "fc2")) else 1.0
            fan_in = size.d_ff if "fc2" in name else size.d_model
            nn.init.normal_(weight, std=gain * fan_in**-0.5)
            if "fc2" in name:
                weight -= weight.mean(1, keepdim=True)
    if size.seq2seq:
        made.get_input_embeddings().weight[size.pad] = 0


def load(cell: Cell, folder: str) -> Any:
    """The saved model of ``folder``, in float32 and ready for inference."""
    kind = MarianMTModel if cell.dimensions.seq2seq else GPT2LMHeadModel if cell.kind == "decoding" else BertModel
    loaded = kind.from_pretrained(folder, dtype=torch.float32).eval()
    for name, weight in loaded.named_parameters():
        weight.requires_grad_("embed_positions" not in name)  # a fixed table again, as in a fresh model
    return loaded


def build(cell: Cell, variant: str, folder: str) -> Job:
    if cell.kind == "training":
        return training(cell)
    loaded = load(cell, folder)
    if variant == "bf16":
        loaded = loaded.to(torch.bfloat16)
    return decoding(cell, loaded) if cell.kind == "decoding" else encoding(cell, loaded)


def training(cell: Cell) -> Job:
    made = model(cell.dimensions, cell.dropout)

    def loss(example: Example) -> Tensor:
        if example.source is None:
            logits = made(input_ids=example.inputs, use_cache=False).logits
        else:
            logits = made(input_ids=example.source, decoder_input_ids=example.inputs, use_cache=False).logits
        return mean_loss(logits, example.targets, cell.smoothing)

    return training_job(made, loss, cell, PACKAGES)


def decoding(cell: Cell, loaded: Any) -> Job:
    """``generate`` with its default cache; the end of sentence is forbidden until ``cell.length`` tokens are out."""
    ids = random_ids(cell, cell.batch, cell.prompt, 0)
    mask = torch.ones_like(ids)
    settings = {"max_new_tokens": cell.length, "min_new_tokens": cell.length, "num_beams": cell.beams}

    def step() -> Tensor:
        with torch.inference_mode():
            return loaded.generate(ids, attention_mask=mask, do_sample=False, **settings)

    def output() -> list[list[int]]:
        return step()[:, -cell.length :].tolist()

    return Job(step, parameters(loaded), output, packages=PACKAGES)


def encoding(cell: Cell, loaded: Any) -> Job:
    ids = random_ids(cell, cell.batch, cell.length, 0)
    mask = torch.ones_like(ids)

    def step() -> Tensor:
        with torch.inference_mode():
            return loaded(input_ids=ids, attention_mask=mask).last_hidden_state

    return Job(step, parameters(loaded), packages=PACKAGES)


if __name__ == "__main__":
    name, first_seed, target = sys.argv[1:]
    Path(target).mkdir(parents=True, exist_ok=True)
    save(name, int(first_seed), target)
