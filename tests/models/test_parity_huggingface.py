"""Every family's logits and gradients against Hugging Face's with the same weights."""

from __future__ import annotations

import pytest
import torch

from qkv.interop import from_state_dict, tokens_from_mask
from qkv.nn import Cache
from tests.models.parity_kit import CASES, DECODERS, assert_close, exact, hf_logits, hf_model, our_logits, ours, padded

SIDES = [(case, side) for case in CASES for side in (("right", "left") if case in DECODERS else ("right",))]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("case", "side"), SIDES)
def test_logits_float32(case: str, side: str, attention: str) -> None:
    hf = hf_model(case, attention)
    with torch.inference_mode():
        expected, _ = hf_logits(hf, case, side)
        assert_close(our_logits(ours(hf), case, side), expected, 1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("case", "side"), SIDES)
def test_logits_float64(case: str, side: str, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hf = hf_model(case, attention, torch.float64)
    exact(hf, monkeypatch)
    with torch.inference_mode():
        expected, _ = hf_logits(hf, case, side)
        assert_close(our_logits(ours(hf), case, side), expected, 1e-10)


@pytest.mark.parametrize("case", ["albert", "gpt2", "llama", "t5-v1.1", "marian"])
def test_gradients(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every tensor, through sharing, ties and transposes: a gradient goes where its weight went."""
    hf = hf_model(case, "eager", torch.float64)
    exact(hf, monkeypatch)
    model = ours(hf)
    expected, _ = hf_logits(hf, case)
    logits = our_logits(model, case)
    probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (expected * probe).sum().backward()
    (logits * probe).sum().backward()
    # Load "weights" that are their gradients: the map of weights is linear, so these must be ours.
    theirs = {name: tensor.grad for name, tensor in hf.named_parameters() if tensor.grad is not None}
    if case == "marian":  # over there the bias per word is no parameter
        theirs["final_logits_bias"] = probe.sum(0, keepdim=True)
    mapped = from_state_dict(hf.config.to_dict(), theirs)
    for (name, parameter), (_, gradient) in zip(model.named_parameters(), mapped.named_parameters(), strict=True):
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, gradient.detach(), atol=1e-9, rtol=1e-9, msg=name)


@pytest.mark.parametrize("case", ["gpt2", "llama"])
def test_cached_steps_equal_one_shot(case: str) -> None:
    """Prompt, then token by token through the cache, left-padded: the logits of Hugging Face's single pass."""
    hf = hf_model(case, "sdpa")
    model = ours(hf)
    ids, mask = padded("left")
    tokens, cache, parts = tokens_from_mask(mask), Cache(2), []
    with torch.inference_mode():
        expected, seen = hf_logits(hf, case, "left")
        for span in (slice(0, 6), slice(6, 7), slice(7, 9)):
            parts.append(model.head(model.decode(ids[:, span], tokens[:, span], cache=cache)))
    assert_close(torch.cat(parts, 1)[seen], expected, 1e-5)
