"""Special tokens, and why no text can spell one.

A special token (`<pad>`, `<mask>`, ...) is an instruction to the model; a user who types its name must not be able to
give that instruction. Two doors have to be shut:

1. The library cuts registered specials out of the text before the model sees it. `encode_special_tokens = True`
   switches that off (`Tokenizer` sets it; the flag is not stored in the file).
2. The model's vocabulary holds the specials as well, so a word-level or Unigram model would still find `<pad>` as an
   ordinary piece. `guard` therefore cuts the text after the first character of every spelled-out special, before any
   other pre-tokenizer: models never look across a cut, so `<pad>` reaches them as `<` and `pad>`. The guard runs
   after the normalizer, so spellings that only *become* a special (`<PAD>`, full-width `＜pad＞`) are caught too, and
   it runs in training as well, so that no trainer can learn the piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Regex, pre_tokenizers

from qkv.errors import UserError

PAD, BOS, EOS, UNK = 0, 1, 2, 3
FIXED = ("pad", "bos", "eos", "unk")


def spelling(name: str) -> str:
    """The text of a special token.

    >>> spelling("mask")
    '<mask>'
    """
    return f"<{name}>"


def names(further: Iterable[str] = ()) -> list[str]:
    """The bare names of all specials in the order of their ids: the four fixed ones, then `further` without repeats.

    >>> names(["mask", "<cls>", "pad"])
    ['pad', 'bos', 'eos', 'unk', 'mask', 'cls']

    Raises `UserError` for a name that is not made of letters, digits and underscores.
    """
    bare = [name.removeprefix("<").removesuffix(">") for name in further]
    for name in bare:
        if not re.fullmatch(r"\w+", name, re.ASCII):
            raise UserError(f"special token {name!r}: use letters, digits and underscores only, for example 'mask'")
    return list(dict.fromkeys([*FIXED, *bare]))


def guard(spellings: Iterable[str]) -> pre_tokenizers.PreTokenizer:
    """A pre-tokenizer that isolates the first character of every spelled-out special and touches nothing else.

    >>> guard(["<pad>", "<unk>"]).pre_tokenize_str("a <b> <pad>")
    [('a <b> ', (0, 6)), ('<', (6, 7)), ('pad>', (7, 11))]

    A special of one character cannot be cut and is left alone.
    """
    # Ruby's syntax, which `Regex` speaks, gives a special meaning to fewer characters than Python's escape covers.
    cuts = [f"{_literal(text[0])}(?={_literal(text[1:])})" for text in spellings if len(text) > 1]
    return pre_tokenizers.Split(Regex("|".join(cuts) or r"(?!)"), "isolated")


def _literal(text: str) -> str:
    return re.sub(r"([^\w\s])", r"\\\1", text, flags=re.ASCII)
