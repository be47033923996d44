"""Tokenizers and languages: shared merges (A11), and the weak places of WordPiece (A73)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from qkv.lab import figures
from qkv.lab.checks import above, below, exactly
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.text import BPE, ByteBPE, Characters, Tokenizer, TokenizerConfig, WordPiece, stats, train
from qkv.text.compare import Code, compare, number_cuts, sampled

from .languages import Language


@dataclass(frozen=True)
class TwoLanguages:
    """n_words: types of each language. texts: of both, a twentieth in the small one. vocab_size: of the shared
    tokenizer. alpha: the temperature that is compared with 1."""

    n_words: Annotated[int, within(50, 3000)] = 600
    texts: Annotated[int, within(200, 20_000)] = 3000
    vocab_size: Annotated[int, within(100, 4000)] = 500
    alpha: Annotated[float, within(0, 1)] = 0.3

    def corpus(self, seed: int, part: int = 0) -> dict[str, list[str]]:
        sizes = {"large": self.texts * 19 // 20, "small": self.texts // 20}
        return {name: Language.draw(name, self.n_words, seed).texts(n, seed + part) for name, n in sizes.items()}


@experiment()
def shared_merges(lab: Lab, params: TwoLanguages) -> None:
    """The merges of a shared vocabulary follow the large language; temperature gives some to the small one."""
    texts, held = params.corpus(lab.seed), params.corpus(lab.seed, part=1)
    alphas = sorted({1.0, 0.7, 0.5, params.alpha, 0.0}, reverse=True)
    learned: dict[float, Tokenizer] = {
        alpha: train(BPE(params.vocab_size), sampled(texts, alpha, params.texts, lab.seed)) for alpha in alphas
    }
    fertility = {
        name: [(alpha, stats(learned[alpha], rows).tokens_per_word) for alpha in alphas] for name, rows in held.items()
    }

    def ratio(name: str) -> float:
        found = dict(fertility[name])
        return found[params.alpha] / found[1.0]

    lab.claim(
        "small",
        Text(
            "Temperature sampling lowers the small language's tokens a word by more than 15 %.",
            "温度采样使小语种每词的词元数下降 15% 以上。",
        ),
        measure=ratio,
        arm="small",
        control="large",
        without=Text("the large language, which gives merges away", "大语种，它让出了一部分合并"),
        holds=below(0.85),
        unit="ratio",
    )
    lab.number("large", ratio("large"), "ratio")
    for name in held:
        lab.number(f"{name}_before", dict(fertility[name])[1.0], "tokens/word")
        lab.number(f"{name}_after", dict(fertility[name])[params.alpha], "tokens/word")
    lab.figure(
        "temperature",
        figures.lines(
            Text("Who pays for a shared vocabulary", "共享词表由谁付出代价"),
            Text("α (1: as the data are)", "α（1 为数据原样）"),
            Text("tokens a word", "每词词元数"),
            fertility,
            {"large": Text("large language", "大语种"), "small": Text("small language", "小语种")},
        ),
    )
    _reversal(lab, params, texts, held)
    _exact(lab, params, texts)


def _reversal(lab: Lab, params: TwoLanguages, texts: dict[str, list[str]], held: dict[str, list[str]]) -> None:
    """Characters look better by the token and worse by the byte."""
    both, measured = [*texts["large"], *texts["small"]], [*held["large"], *held["small"]]
    bits, per_token, per_character = {}, {}, {}
    configs: dict[str, TokenizerConfig] = {"characters": Characters(), "merges": BPE(params.vocab_size)}
    for name, config in configs.items():
        tokenizer = train(config, both)
        bits[name] = Code.learn(tokenizer, both).bits_per_byte(measured)
        size = sum(len(text.encode()) for text in measured)
        per_token[name] = bits[name] * size / stats(tokenizer, measured).tokens
        per_character[name] = bits[name] * size / sum(map(len, measured))
        lab.number(f"{name}_bits_per_byte", bits[name], "bit/byte")
        lab.number(f"{name}_perplexity", 2 ** per_token[name])
    lab.claim(
        "reversal",
        Text(
            "Perplexity per token prefers the tokenizer that needs more bits for the text.",
            "按词元算的困惑度，偏爱的恰是编码全文更费比特的分词器。",
        ),
        measure=lambda by: math.log(by["characters"] / by["merges"]) * math.log(bits["characters"] / bits["merges"]),
        arm=per_token,
        control=per_character,
        without=Text("bits per character instead of per token", "改按字符计比特"),
        holds=below(0.0),
    )


def _exact(lab: Lab, params: TwoLanguages, texts: dict[str, list[str]]) -> None:
    def restored(config: TokenizerConfig) -> float:
        tokenizer = train(config, texts["large"])
        rows = texts["small"][:50]
        return sum(tokenizer.decode(tokenizer.encode(row)) == row for row in rows) / len(rows)

    lab.claim(
        "bytes",
        Text("With bytes, text in a script never seen comes back exactly.", "有字节兜底，从未见过的文字也能原样还原。"),
        measure=restored,
        arm=ByteBPE(params.vocab_size),
        control=BPE(params.vocab_size),
        without=Text("no bytes: characters that were never seen are unknown", "没有字节：没见过的字符成为未知词元"),
        holds=exactly(1.0),
        unit="share",
    )


@dataclass(frozen=True)
class OneLanguage:
    """n_words: types. texts: of 8 words each. vocab_size: of the tokenizers."""

    n_words: Annotated[int, within(50, 3000)] = 500
    texts: Annotated[int, within(100, 20_000)] = 2000
    vocab_size: Annotated[int, within(300, 4000)] = 700


CHINESE = ["今天天气很好，我们去公园散步。", "他在学校学习中文。", "我喜欢喝茶，也喜欢看书。"] * 20


@experiment()
def wordpiece_limits(lab: Lab, params: OneLanguage) -> None:
    """WordPiece: a typo breaks a word into pieces, an unseen character loses it, a number is cut by frequency."""
    language = Language.draw("large", params.n_words, lab.seed)
    texts, held = language.texts(params.texts, lab.seed), language.texts(200, lab.seed + 1)
    configs: dict[str, TokenizerConfig] = {
        "pieces": WordPiece(params.vocab_size),
        "characters": Characters(),
        "bytes": BPE(params.vocab_size, byte_fallback=True),
    }
    learned = {name: train(config, texts) for name, config in configs.items()}
    found = {name: compare(Code.learn(tokenizer, texts), held) for name, tokenizer in learned.items()}
    for name, values in found.items():
        lab.number(f"{name}_fertility", values.fertility, "tokens/word")
        lab.number(f"{name}_changed", values.changed, "share")
    lab.claim(
        "typo",
        Text("One slip makes a word more than 1.3 times as many pieces.", "一处笔误使词被切成 1.3 倍以上的词片。"),
        measure=lambda name: found[name].longer,
        arm="pieces",
        control="characters",
        without=Text("characters, where a slip stays a slip", "按字符切分，一处错只错一处"),
        holds=above(1.3),
        unit="ratio",
    )
    lab.claim(
        "unknown",
        Text(
            "One character that training never saw makes the whole word unknown.",
            "一个没见过的字符，让整个词变成未知。",
        ),
        measure=lambda name: _kept(learned[name], language),
        arm="pieces",
        control="bytes",
        without=Text("byte fallback", "字节兜底"),
        holds=exactly(0.0),
        unit="share",
    )
    lab.claim(
        "chinese",
        Text("Chinese is cut into single characters, whatever was learned.", "中文一律切成单字，与学到了什么无关。"),
        measure=lambda config: stats(train(config(300), CHINESE), CHINESE).characters_per_token,
        arm=WordPiece,
        control=BPE,
        without=Text("merges across characters", "允许跨字合并"),
        holds=below(1.0 + 1e-9),
        unit="characters/token",
    )
    _numbers(lab, params)


def _kept(tokenizer: Tokenizer, language: Language) -> float:
    """The share of the known letters that come back from words with one letter that training never saw."""
    kept = total = 0
    for word in language.words[:100]:
        restored = tokenizer.decode(tokenizer.encode(word + "ж"))
        kept += sum(a == b for a, b in zip(restored, word, strict=False))
        total += len(word)
    return kept / total


def _numbers(lab: Lab, params: OneLanguage) -> None:
    texts = [f"{n} {n * n} {7 * n + 3}" for n in range(1, 1500)]
    configs: dict[str, TokenizerConfig] = {"pieces": WordPiece(params.vocab_size), "digits": Characters()}
    for name, config in configs.items():
        tokens, alike = number_cuts(train(config, texts), 4, lab.seed)
        lab.number(f"{name}_number_tokens", tokens, "tokens")
        lab.number(f"{name}_number_alike", alike, "share")
