"""CTranslate2: the Hugging Face model of the cell, converted in memory and run by its C++ engine.

The converter asks for a tokenizer only to learn the vocabulary, so a stand-in that names token ``i`` ``"t<i>"``
replaces the SentencePiece files that a random model does not have.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

import ctranslate2
import torch
from ctranslate2.converters.converter import Converter
from ctranslate2.converters.transformers import _MODEL_LOADERS
from torch import Tensor

from bench.cells import EOS, UNK, Cell, Size, random_ids
from bench.job import Job, parameters
from bench.peers import hf

PACKAGES = ["ctranslate2"]


class Names:
    """A vocabulary without a tokenizer: what ``ctranslate2.converters`` reads of one."""

    eos_token, unk_token, bos_token, pad_token = "</s>", "<unk>", "</s>", "<pad>"

    def __init__(self, size: Size) -> None:
        self.names = [f"t{i}" for i in range(size.vocab)]
        self.names[EOS], self.names[UNK], self.names[size.pad] = self.eos_token, self.unk_token, self.pad_token

    def get_vocab(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def convert_ids_to_tokens(self, index: int) -> str:
        return self.names[index]


class FromMemory(Converter):
    """Converts a model that is already loaded, which ``TransformersConverter`` cannot."""

    def __init__(self, model: Any, names: Names) -> None:
        self.model, self.names = model, names

    def _load(self) -> Any:
        with torch.no_grad():
            return _MODEL_LOADERS[type(self.model.config).__name__](self.model, self.names)


def build(cell: Cell, variant: str, folder: str) -> Job:
    loaded = hf.load(cell, folder)
    count = parameters(loaded)
    names = Names(cell.dimensions)
    loaded.config.position_embedding_type = "absolute"  # BERT's converter reads it; transformers 5 no longer has it
    engine = {"encoder": ctranslate2.Encoder, "decoding": ctranslate2.Generator}[cell.kind]
    if cell.dimensions.seq2seq:
        engine = ctranslate2.Translator
    compute = {"fp32": "float32", "int8": "int8_float32"}[variant]
    with tempfile.TemporaryDirectory() as converted:
        FromMemory(loaded, names).convert(converted, force=True)
        ready = engine(
            converted,
            compute_type=compute,
            inter_threads=1,
            intra_threads=int(os.environ["OMP_NUM_THREADS"]),
        )
    del loaded
    if cell.kind == "encoder":
        return encoding(cell, ready, count)
    return translating(cell, ready, names, count) if cell.dimensions.seq2seq else generating(cell, ready, names, count)


def spelled(ids: Tensor, names: Names) -> list[list[str]]:
    return [[names.names[i] for i in row] for row in ids.tolist()]


def translating(cell: Cell, ready: Any, names: Names, count: int) -> Job:
    source = spelled(random_ids(cell, cell.batch, cell.prompt, 0), names)
    vocabulary = names.get_vocab()
    lengths = {"min_decoding_length": cell.length, "max_decoding_length": cell.length}

    def step() -> Any:
        return ready.translate_batch(source, beam_size=cell.beams, **lengths)

    def output() -> list[list[int]]:
        return [[vocabulary[name] for name in result.hypotheses[0]] for result in step()]

    return Job(step, count, output, packages=PACKAGES)


def generating(cell: Cell, ready: Any, names: Names, count: int) -> Job:
    prompt = spelled(random_ids(cell, cell.batch, cell.prompt, 0), names)
    lengths = {"min_length": cell.length, "max_length": cell.length}

    def step() -> Any:
        return ready.generate_batch(prompt, beam_size=cell.beams, include_prompt_in_result=False, **lengths)

    def output() -> list[list[int]]:
        return [result.sequences_ids[0] for result in step()]

    return Job(step, count, output, packages=PACKAGES)


def encoding(cell: Cell, ready: Any, count: int) -> Job:
    ids = random_ids(cell, cell.batch, cell.length, 0).tolist()
    return Job(lambda: ready.forward_batch(ids), count, packages=PACKAGES)
