"""Greedy decoding through the caches of both sides: token for token what Hugging Face generates."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from qkv.decoding import generate
from qkv.interop import tokens_from_mask
from qkv.nn import Tokens
from tests.models.parity_kit import DECODERS, SEQ2SEQ, hf_model, ours, padded

NEW = 8


def trimmed(rows: torch.Tensor) -> list[list[int]]:
    """Without the end token and what follows it."""
    return [row[: row.index(2)] if 2 in row else row for row in rows.tolist()]


def hf_generate(hf: Any, **inputs: Any) -> torch.Tensor:
    return hf.generate(**inputs, max_new_tokens=NEW, do_sample=False, num_beams=1, eos_token_id=2, pad_token_id=0)


@pytest.mark.parametrize("case", DECODERS)
def test_decoder_only(case: str) -> None:
    hf = hf_model(case, "sdpa")
    ids, mask = padded("left", (6, 4, 1))
    expected = trimmed(hf_generate(hf, input_ids=ids, attention_mask=mask)[:, ids.shape[1] :])
    found = generate(ours(hf), ids, tokens_from_mask(mask), max_new=NEW)
    assert [row[0].ids for row in found] == expected
    assert len({tuple(row) for row in expected}) > 1


@pytest.mark.parametrize("case", SEQ2SEQ)
def test_encoder_decoder(case: str) -> None:
    # transformers gives T5's decoder a cache of the encoder's depth, so here the depths are equal.
    hf = hf_model(case, "sdpa", **({"num_decoder_layers": 2} if case.startswith("t5") else {}))
    source, mask = padded("right", (9, 5, 3))
    start = hf.config.decoder_start_token_id
    expected = trimmed(hf_generate(hf, input_ids=source, attention_mask=mask)[:, 1:])
    model = ours(hf)
    with torch.inference_mode():
        memory = model.encode(source, tokens_from_mask(mask))
    found = generate(model, torch.full((3, 1), start), Tokens.arange(3, 1), memory=memory, max_new=NEW)
    assert [row[0].ids for row in found] == expected
    assert len({tuple(row) for row in expected}) > 1
