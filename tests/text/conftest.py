from __future__ import annotations

import pytest

from qkv.text import BPE, ByteBPE, Characters, Unigram, WordPiece, Words, train

GERMAN = [
    "Ein Hund läuft über die grüne Wiese.",
    "Zwei Hunde laufen durch das hohe Gras, und ein Mann sieht zu!",
    "Die Straße ist naß; überall stehen Pfützen.",
    "Ein kleines Mädchen hüpft (fröhlich) in die größte Pfütze.",
    "Männer und Frauen warten an der Haltestelle.",
]
CHINESE = ["我很难过。", "他来了，我们走吧！", "你今天去学校了吗？", "我们今天很高兴。", "他今天没来学校，很难过。"]
# Whoever trains on text from the web meets the names of special tokens in it.
SPELLED_OUT = ["<pad> <pad> <pad> <bos>x<eos> <unk> <mask>", "a <mask> b <mask> c<mask>d <0x41> <0x41>"]

CONFIGS = {
    "characters": Characters(),
    "words": Words(),
    "bpe": BPE(vocab_size=220),
    "bpe_fallback": BPE(vocab_size=480, byte_fallback=True),
    "byte_bpe": ByteBPE(vocab_size=330),
    "word_piece": WordPiece(vocab_size=260),
    "unigram": Unigram(vocab_size=190),
    "unigram_fallback": Unigram(vocab_size=450, byte_fallback=True),
}


@pytest.fixture(scope="session")
def corpus():
    return [*GERMAN, *CHINESE, *SPELLED_OUT]


@pytest.fixture(scope="session")
def tokenizers(corpus):
    return {name: train(config, corpus, ["mask", "cls", "sep"]) for name, config in CONFIGS.items()}


@pytest.fixture(scope="session", params=CONFIGS)
def tokenizer(request, tokenizers):
    return tokenizers[request.param]


@pytest.fixture(scope="session", params=CONFIGS)
def config(request):
    return CONFIGS[request.param]
