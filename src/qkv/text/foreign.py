"""Tokenizers that others trained: a WordPiece `vocab.txt`, or any Hugging Face `tokenizer.json`.

They keep their own ids; which id plays which role is found by the neighbouring `tokenizer_config.json` or
`special_tokens_map.json` if there is one, else by the spellings in common use.
"""

from __future__ import annotations

import os
from pathlib import Path

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers

from qkv.errors import UserError
from qkv.text.specials import guard
from qkv.text.tokenizer import Tokenizer, parse_backend, read_json

SPELLINGS = {
    "pad": ("<pad>", "[PAD]", "<|pad|>", "<|endoftext|>"),
    "bos": ("<bos>", "<s>", "[BOS]", "<|begin_of_text|>", "<|endoftext|>"),
    "eos": ("<eos>", "</s>", "[EOS]", "<|end_of_text|>", "<|endoftext|>"),
    "unk": ("<unk>", "[UNK]", "<|unk|>"),
    "mask": ("<mask>", "[MASK]"),
    "cls": ("<cls>", "[CLS]"),
    "sep": ("<sep>", "[SEP]"),
}


def from_wordpiece_vocab(path: str | os.PathLike[str], lowercase: bool = True) -> Tokenizer:
    """A tokenizer from a `vocab.txt` with one piece a line (the line number is the id), as Devlin et al. 2019 publish.

    `lowercase` also strips accents, as their uncased models do. Raises `UserError` for a file that cannot be read,
    has a repeated line, or lacks `[UNK]`.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read vocabulary {path}: {error}; expected a text file in UTF-8") from error
    pieces = [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    if len(vocabulary) != len(pieces) or "[UNK]" not in vocabulary:
        wrong = "lacks [UNK]" if "[UNK]" not in vocabulary else "has a repeated line"
        raise UserError(f"{path} is no WordPiece vocabulary: it {wrong}; expected one distinct piece a line")
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    backend.add_special_tokens([known for choices in SPELLINGS.values() for known in choices if known in vocabulary])
    return _adopt(backend, {})


def from_tokenizer_json(path: str | os.PathLike[str]) -> Tokenizer:
    """A tokenizer from a Hugging Face `tokenizer.json`, or from a folder that holds one.

    Templates, padding and truncation that the file asks for are not applied. Raises `UserError` for a missing or
    damaged file.
    """
    path = Path(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    state = read_json(path)
    if "model" not in state:
        raise UserError(f"{path} is no tokenizer.json of Hugging Face: it has no 'model'; check which file this is")
    return _adopt(parse_backend(state, path), _declared(path.parent))


def _declared(folder: Path) -> dict[str, str]:
    """Role → spelling, as the files beside a tokenizer declare it."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if not (folder / name).exists():
            continue
        for role in SPELLINGS:
            token = read_json(folder / name).get(f"{role}_token")
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str):
                found[role] = token
    return found


def _adopt(backend: Backend, declared: dict[str, str]) -> Tokenizer:
    """Guard a foreign backend against spelled-out specials and name its roles."""
    special = [token.content for token in backend.get_added_tokens_decoder().values() if token.special]
    steps = [guard(special), *([backend.pre_tokenizer] if backend.pre_tokenizer is not None else [])]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    roles: dict[str, int] = {}
    for role, usual in SPELLINGS.items():
        choices = (declared[role],) if role in declared else usual
        ids = [i for choice in choices if (i := backend.token_to_id(choice)) is not None]
        if ids:
            roles[role] = ids[0]
    return Tokenizer(backend, roles)
