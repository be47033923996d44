"""`Tokenizer`: the one interface between text and ids, around `tokenizers.Tokenizer`."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from qkv.errors import UserError
from qkv.text.specials import BOS, EOS, PAD, UNK

__all__ = ["BOS", "EOS", "PAD", "UNK", "Tokenizer"]

FORMAT, VERSION = "qkv.tokenizer", 1


class Tokenizer:
    """Text to ids and back.

    Every tokenizer that this library trains has `pad_id, bos_id, eos_id, unk_id = 0, 1, 2, 3`; further specials
    follow. A tokenizer that came from elsewhere (`qkv.text.foreign`) has its own. A role that does not exist is None,
    so code uses these attributes and never the numbers. All specials, by name: `special_ids`.

    `encode` adds no <bos> or <eos>, and no text can spell a special token (see `qkv.text.specials`).
    """

    def __init__(self, backend: Backend, special_ids: Mapping[str, int]) -> None:
        backend.encode_special_tokens = True
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self.special_ids = dict(special_ids)
        self.pad_id = self.special_ids.get("pad")
        self.bos_id = self.special_ids.get("bos")
        self.eos_id = self.special_ids.get("eos")
        self.unk_id = self.special_ids.get("unk")
        self.mask_id = self.special_ids.get("mask")
        self.cls_id = self.special_ids.get("cls")
        self.sep_id = self.special_ids.get("sep")
        self._added = frozenset(backend.get_added_tokens_decoder())
        self._byte_level = _mentions(json.loads(backend.to_str())["decoder"], "ByteLevel")

    @property
    def vocab_size(self) -> int:
        """Number of ids, specials included: V."""
        return self.backend.get_vocab_size()

    def id(self, token: str) -> int | None:
        """The id of a token as the vocabulary spells it (`<mask>`, `▁Hund`, `##ing`), or None."""
        return self.backend.token_to_id(token)

    def normalize(self, text: str) -> str:
        """The text as the model sees it. `decode(encode(text))` gives this back when nothing in it is unknown."""
        normalizer = self.backend.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without <bos> and <eos>; [] for the empty string.

        Raises `UserError` for text with a lone surrogate, which is no Unicode text.
        """
        _check_unicode(text)
        return self.backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        rows = list(texts)
        for row, text in enumerate(rows):
            _check_unicode(text, f"text {row}: ")
        return [found.ids for found in self.backend.encode_batch_fast(rows, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` (any iterable of integers); special tokens, <unk> among them, are skipped."""
        return self.backend.decode([int(i) for i in ids], skip_special_tokens=True)

    def decode_batch(self, rows: Iterable[Iterable[int]]) -> list[str]:
        """`decode` of each row."""
        return self.backend.decode_batch([[int(i) for i in row] for row in rows], skip_special_tokens=True)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """One readable piece an id, specials included: what labels an attention picture.

        Byte-level pieces are shown as the text they stand for, or, where they are a part of a character, as bytes
        like `<0xE4>`. Raises `IndexError` for an id outside the vocabulary.
        """
        return [self._piece(int(i)) for i in ids]

    def _piece(self, i: int) -> str:
        piece = self.backend.id_to_token(i) if i >= 0 else None
        if piece is None:
            raise IndexError(f"token id {i} is outside the vocabulary of {self.vocab_size} tokens")
        return _readable(piece) if self._byte_level and i not in self._added else piece

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one JSON file, atomically: a reader sees the old file or the new one, never a half."""
        path = Path(path)
        state = {
            "format": FORMAT,
            "version": VERSION,
            "special_ids": self.special_ids,
            "tokenizer": json.loads(self.backend.to_str()),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(state, file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tokenizer:
        """Read what `save` wrote. Raises `UserError` for a missing, damaged or foreign file."""
        state = read_json(path)
        if state.get("format") != FORMAT:
            mend = "; import it with qkv.text.from_tokenizer_json" if "added_tokens" in state else ""
            raise UserError(f"{path} is no tokenizer file of qkv{mend or '; train one with `qkv data tokenizer`'}")
        if state.get("version") != VERSION:
            raise UserError(
                f"{path} has tokenizer format version {state.get('version')}, this qkv reads {VERSION}; "
                "update qkv or train the tokenizer again"
            )
        special_ids = state.get("special_ids")
        tokenizer = cls(parse_backend(state.get("tokenizer"), path), {})
        if not isinstance(special_ids, dict) or any(
            type(i) is not int or not 0 <= i < tokenizer.vocab_size for i in special_ids.values()
        ):
            raise UserError(f"{path} is damaged: its special_ids are not ids of its vocabulary; restore or retrain it")
        return cls(tokenizer.backend, special_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        # The backend forgets `encode_special_tokens` when it is copied or sent to a worker; our constructor sets it.
        return _rebuild, (self.backend.to_str(), self.special_ids)

    def __repr__(self) -> str:
        return f"Tokenizer({type(self.backend.model).__name__}, vocab_size={self.vocab_size})"


def _rebuild(state: str, special_ids: Mapping[str, int]) -> Tokenizer:
    return Tokenizer(Backend.from_str(state), special_ids)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The JSON object in `path`, or a `UserError` that says what is wrong with the file."""
    try:
        state = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read tokenizer {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged or no JSON ({error}); restore it or train the tokenizer again") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no tokenizer: expected a JSON object, got {type(state).__name__}")
    return state


def parse_backend(state: Any, path: str | os.PathLike[str]) -> Backend:
    """The `tokenizers.Tokenizer` that `state` describes, or a `UserError` about the file it came from."""
    try:
        return Backend.from_str(json.dumps(state))
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{path} is damaged: {error}; restore it or train the tokenizer again") from error


def _check_unicode(text: str, where: str = "") -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}position {error.start} holds a lone surrogate, which is no character; "
            "read the text with the encoding it was written in"
        ) from error


def _mentions(state: Any, kind: str) -> bool:
    """Whether a component, or one inside a Sequence of components, has type `kind`."""
    if not isinstance(state, dict):
        return False
    return state.get("type") == kind or any(_mentions(part, kind) for part in state.get("decoders", ()))


@cache
def _bytes_of() -> dict[str, int]:
    """Byte-level models write each byte as one printable character: itself, or one from U+0100 on (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _readable(piece: str) -> str:
    """
    >>> _readable("ĠHÃ¼gel"), _readable("Ã")
    (' Hügel', '<0xC3>')
    """
    table: Mapping[str, int] = _bytes_of()
    if not all(character in table for character in piece):
        return piece
    raw: Sequence[int] = [table[character] for character in piece]
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"<0x{byte:02X}>" for byte in raw)
