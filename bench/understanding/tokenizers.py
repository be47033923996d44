"""Tokenizers: one vocabulary over English, German, French and Chinese, by kind and by temperature of sampling."""

from __future__ import annotations

import random

from bench.understanding.records import Cell, Results, table
from qkv.data import sources
from qkv.text import BPE, ByteBPE, Characters, Tokenizer, TokenizerConfig, Unigram, WordPiece, train
from qkv.text.compare import Code, compare, number_cuts, sampled
from qkv.text.dropout import DroppedMerges

SIZE = 8000
KINDS: dict[str, TokenizerConfig] = {
    "characters": Characters(min_frequency=2),
    "WordPiece": WordPiece(SIZE, lowercase=False),
    "BPE": BPE(SIZE),
    "BPE, byte fallback": BPE(SIZE, byte_fallback=True),
    "byte BPE": ByteBPE(SIZE),
    "Unigram": Unigram(SIZE, normalization="nfc"),
}
ALPHAS = (1.0, 0.7, 0.3, 0.0)
TEXTS = 40_000
DROPPED = 0.1
FEW = 1500  # Chinese texts where it is the small language: 1.7 % of all
NOTE = f"""Learned from {TEXTS:,} texts drawn from Multi30k (en, de, fr: 29,000 captions each) and Tatoeba (zh, by
lines of its training part), {SIZE:,} ids. Measured on Multi30k val and Tatoeba dev. Tokens a word where words have
spaces, a character in Chinese. Bits a byte: independent tokens with the frequencies of the same language's training
text, <unk> charged 8 bits a byte. Typo: share of a word's tokens that one slip changes, English. Numbers: tokens of
a random number of four digits, and the share that is cut in the commonest way."""


def corpus() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Training and held-out texts of each language."""
    learned, held = {}, {}
    for language in ("en", "de", "fr"):
        learned[language] = sources.read("multi30k", f"train.{language}").strip().split("\n")
        held[language] = sources.read("multi30k", f"val.{language}").strip().split("\n")
    for part, found in (("train", learned), ("dev", held)):
        lines = sources.read("tatoeba_cmn_eng", f"{part}.tsv").lstrip("\ufeff").strip().split("\n")
        found["zh"] = list(dict.fromkeys(line.split("\t")[1].replace("\u200b", "") for line in lines))
    return learned, held


def measured(config: TokenizerConfig, alpha: float, chinese: int | None = None) -> Cell:
    """A tokenizer learned at a temperature, on every language. chinese: so many Chinese texts (None: all)."""
    learned, held = corpus()
    learned["zh"] = learned["zh"][:chinese]
    tokenizer: Tokenizer = train(config, sampled(learned, alpha, TEXTS))
    cell: Cell = {"vocabulary": tokenizer.vocab_size}
    for language, texts in held.items():
        found = compare(Code.learn(tokenizer, learned[language]), texts)
        cell |= {f"{language}_{name}": value for name, value in vars(found).items()}
    tokens, alike = number_cuts(tokenizer, 4)
    return {**cell, "number_tokens": tokens, "number_alike": alike}


def dropped(p: float) -> Cell:
    """BPE read with dropout: how much longer texts become, and how many are cut anew at the next reading."""
    learned, held = corpus()
    tokenizer = train(KINDS["BPE"], sampled(learned, 1.0, TEXTS))
    reader, draw = DroppedMerges(tokenizer), random.Random(0)
    cell: Cell = {}
    for language, texts in held.items():
        once, again = ([reader.encode(text, p, draw) for text in texts[:300]] for _ in range(2))
        whole = sum(map(len, tokenizer.encode_batch(texts[:300])))
        cell |= {f"{language}_longer": sum(map(len, once)) / whole}
        cell |= {f"{language}_anew": sum(map(list.__ne__, once, again)) / len(once)}
    return cell


def main(results: Results) -> str:
    """Both tables: kinds at the languages' own sizes, and temperatures of BPE."""
    kinds = {name: results.cell(name, lambda config=config: measured(config, 1.0)) for name, config in KINDS.items()}  # type: ignore[misc]
    heats = {
        a: results.cell(f"BPE, {FEW} zh, α={a:g}", lambda a=a: measured(KINDS["BPE"], a, FEW))  # type: ignore[misc]
        for a in ALPHAS
    }
    rows = [[name, *_lengths(cell), *_bits(cell), *_rest(cell)] for name, cell in kinds.items() if cell]
    head = ["kind", "en", "de", "fr", "zh", "bits en", "de", "fr", "zh", "unknown zh", "typo", "numbers"]
    hot = [[f"{a:g}", *_lengths(cell), *_bits(cell)] for a, cell in heats.items() if cell]
    few = f"BPE from {FEW:,} Chinese texts and all others, languages drawn ∝ size^α:"
    read = ""
    if found := results.cell(f"BPE, dropout {DROPPED:g}", lambda: dropped(DROPPED)):
        longer = ", ".join(f"{found[f'{x}_longer']:.2f} ({x})" for x in ("en", "de", "fr", "zh"))
        read = (
            f"With BPE-dropout {DROPPED:g} the same merges read texts in so many times the tokens: {longer}; "
            f"{found['en_anew']:.0%} of English captions and {found['zh_anew']:.0%} of Chinese sentences are cut "
            "otherwise the next time."
        )
    tables = f"{table(head, rows)}\n\n{read}\n\n{few}\n\n{table(['α', *head[1:9]], hot)}"
    return f"## Tokenizers compared\n\n{NOTE}\n\n{tables}\n\n{results.machine()}"


def _lengths(cell: Cell) -> list[str]:
    return [*(f"{cell[f'{x}_fertility']:.2f}" for x in ("en", "de", "fr")), f"{cell['zh_tokens_per_character']:.2f}"]


def _bits(cell: Cell) -> list[str]:
    return [f"{cell[f'{language}_bits_per_byte']:.2f}" for language in ("en", "de", "fr", "zh")]


def _rest(cell: Cell) -> list[str]:
    numbers = f"{cell['number_tokens']:.1f}, {cell['number_alike']:.0%}"
    return [f"{cell['zh_unknown']:.1%}", f"{cell['en_changed']:.0%}", numbers]
