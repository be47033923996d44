"""What does not fit together is refused when the config is made, before anything is built."""

from __future__ import annotations

import pytest

from qkv.models import EmbeddingConfig, StackConfig
from qkv.nn import AttentionConfig, BlockConfig, GroupedQuery, Learned, MultiHead, Rotary, Sinusoidal


def attention(**fields) -> BlockConfig:
    return BlockConfig(attention=AttentionConfig(**fields))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: StackConfig(d_model=0), "d_model is 0"),
        (lambda: StackConfig(d_model=30), "30 does not divide into 4 heads"),
        (lambda: StackConfig(d_model=12, position=Rotary()), "the head width 3 must be even"),
        (lambda: StackConfig(d_model=12, position=Rotary(), block=attention(d_head=5)), "head width 5 must be even"),
        (lambda: StackConfig(block=attention(d_head=-1)), "d_head -1"),
        (lambda: StackConfig(d_model=9, block=attention(heads=MultiHead(3))), "the embedding width 9 must be even"),
        (
            lambda: StackConfig(embedding=EmbeddingConfig(rank=5), position=Sinusoidal()),
            "the embedding width 5 must be even",
        ),
        (lambda: GroupedQuery(n=4, groups=3), "4 query heads cannot share 3 key heads"),
        (lambda: EmbeddingConfig(rank=0), "rank is 0"),
        (lambda: EmbeddingConfig(segments=-1), "segments is -1"),
        (lambda: EmbeddingConfig(vocab_size=-1), "vocab_size is -1"),
        (lambda: Learned(0), "at least one position"),
    ],
)
def test_it_is_refused_with_a_sentence(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()
