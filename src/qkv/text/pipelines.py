"""What happens to a text around the model: normalise → guard → pre-tokenise → [model] → decode, for each kind.

Models never look across the borders that a pre-tokenizer draws; a decoder undoes what normaliser and pre-tokenizer
added. The guard keeps users from spelling special tokens (see `specials`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from qkv.text import specials

if TYPE_CHECKING:
    from qkv.text.configs import TokenizerConfig, WordPiece

SPACE = "▁"
"""U+2581 stands for the space before a word inside BPE and Unigram pieces."""
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
"""The pieces that byte fallback spells unseen characters with."""


def build(config: TokenizerConfig, spellings: Iterable[str]) -> Backend:
    """An untrained backend with the pipeline of `config`; `spellings` are the specials that no text may spell."""
    kind = type(config).__name__
    backend = Backend(models.WordLevel({}, unk_token=specials.spelling("unk")))
    steps = _unicode(config) + _NORMALIZERS.get(kind, _nothing_more)(config)
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.Sequence([specials.guard(spellings), *_PRE_TOKENIZERS[kind]()])
    if (decoder := _DECODERS[kind]()) is not None:
        backend.decoder = decoder
    return backend


def _unicode(config: TokenizerConfig) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if config.normalization != "none":
        steps.append({"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}[config.normalization]())
    if config.lowercase:
        steps.append(normalizers.Lowercase())
    return steps


def _nothing_more(config: TokenizerConfig) -> list[normalizers.Normalizer]:
    return []


def _single_spaces(config: TokenizerConfig) -> list[normalizers.Normalizer]:
    """One space between words, none around the text, and no character that would pass for the space mark."""
    return [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(), normalizers.Replace(SPACE, "_")]


def _bert(config: WordPiece) -> list[normalizers.Normalizer]:
    return [normalizers.BertNormalizer(lowercase=config.lowercase, strip_accents=config.strip_accents)]


def _space_marks() -> list[pre_tokenizers.PreTokenizer]:
    # "first": a space is prepended at the start of the text only, not after every cut that the guard makes.
    # Punctuation stands alone, `<` and `>` too, so no text can spell a byte piece.
    return [pre_tokenizers.Metaspace(SPACE, prepend_scheme="first"), pre_tokenizers.Punctuation()]


def _space_mark_decoder() -> decoders.Decoder:
    return decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )


_NORMALIZERS: dict[str, Callable[..., list[normalizers.Normalizer]]] = {
    "BPE": _single_spaces,
    "Unigram": _single_spaces,
    "WordPiece": _bert,
}

_PRE_TOKENIZERS: dict[str, Callable[[], list[pre_tokenizers.PreTokenizer]]] = {
    "Characters": lambda: [pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")],
    "Words": lambda: [pre_tokenizers.WhitespaceSplit()],
    "BPE": _space_marks,
    "Unigram": _space_marks,
    "ByteBPE": lambda: [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "WordPiece": lambda: [pre_tokenizers.BertPreTokenizer()],
}

_DECODERS: dict[str, Callable[[], decoders.Decoder | None]] = {
    "Characters": decoders.Fuse,
    "Words": lambda: None,  # without a decoder the library joins tokens with spaces
    "BPE": _space_mark_decoder,
    "Unigram": _space_mark_decoder,
    "ByteBPE": decoders.ByteLevel,
    "WordPiece": lambda: decoders.WordPiece(prefix="##"),
}
