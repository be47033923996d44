"""Tiny randomly initialised Hugging Face models for parity tests, and how to ask both sides for the same thing.

Nothing is downloaded. All weights are drawn anew, biases and norms too, with a spread that makes logits of order one:
the libraries' own initial values would hide a swapped bias or a forgotten factor.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qkv.interop import from_state_dict, tokens_from_mask

transformers = pytest.importorskip("transformers", reason="parity needs the package transformers")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

VOCAB = 31
ENCODER = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 16,
           "type_vocab_size": 3}  # fmt: skip
MARIAN = {"d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
          "decoder_attention_heads": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 48, "max_position_embeddings": 16,
          "scale_embedding": True, "activation_function": "swish", "pad_token_id": 0, "eos_token_id": 2,
          "decoder_start_token_id": 1, "decoder_vocab_size": VOCAB, "forced_eos_token_id": None}  # fmt: skip
T5 = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4,
      "relative_attention_num_buckets": 8, "relative_attention_max_distance": 12, "pad_token_id": 0,
      "eos_token_id": 2, "decoder_start_token_id": 1}  # fmt: skip
LLAMA = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2,
         "intermediate_size": 40, "pad_token_id": 0}  # fmt: skip

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("Bert", "ForMaskedLM", {**ENCODER, "num_hidden_layers": 3}),
    "bert-options": ("Bert", "ForMaskedLM", {**ENCODER, "num_hidden_layers": 1, "hidden_act": "relu",
                                             "layer_norm_eps": 1e-3}),
    "albert": ("Albert", "ForMaskedLM", {**ENCODER, "num_hidden_layers": 4, "embedding_size": 8}),
    "albert-groups": ("Albert", "ForMaskedLM", {**ENCODER, "num_hidden_layers": 4, "embedding_size": 8,
                                             "num_hidden_groups": 2, "hidden_act": "gelu"}),
    "gpt2": ("GPT2", "LMHeadModel", {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 16, "pad_token_id": 0}),
    "gpt2-options": ("GPT2", "LMHeadModel", {"n_embd": 24, "n_layer": 1, "n_head": 4, "n_positions": 16, "n_inner": 40,
                                             "scale_attn_weights": False, "tie_word_embeddings": False,
                                             "activation_function": "relu", "layer_norm_epsilon": 1e-3}),
    "llama": ("Llama", "ForCausalLM", LLAMA),
    "llama-options": ("Llama", "ForCausalLM", {**LLAMA, "attention_bias": True, "mlp_bias": True, "head_dim": 6,
                                               "tie_word_embeddings": True, "rms_norm_eps": 1e-3,
                                               "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    "t5": ("T5", "ForConditionalGeneration", T5),
    "t5-v1.1": ("T5", "ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu",
                                                   "tie_word_embeddings": False}),
    "marian": ("Marian", "MTModel", MARIAN),
    "marian-separate": ("Marian", "MTModel", {**MARIAN, "share_encoder_decoder_embeddings": False,
                                              "decoder_vocab_size": 29, "scale_embedding": False,
                                              "activation_function": "gelu"}),
}  # fmt: skip
ENCODERS = [name for name in CASES if "bert" in name]
DECODERS = [name for name in CASES if name.startswith(("gpt2", "llama"))]
SEQ2SEQ = [name for name in CASES if name.startswith(("t5", "marian"))]


def hf_model(case: str, attention: str = "eager", dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A Hugging Face model in evaluation mode with weights drawn from a fixed seed; `changes` to its config."""
    prefix, suffix, options = CASES[case]
    options = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 2, **options, **changes}
    config = getattr(transformers, prefix + "Config")(**options)
    config._attn_implementation = attention
    model = getattr(transformers, prefix + suffix)(config)
    if case == "t5-v1.1":  # transformers ties it until a checkpoint says otherwise
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.lm_head.weight))
        model.all_tied_weights_keys.pop("lm_head.weight", None)
    scatter(model)
    return model.to(dtype).eval()


def scatter(model: nn.Module, std: float = 0.15) -> None:
    """Draw every trained tensor anew; norm weights around one."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.requires_grad or name == "final_logits_bias":
            centre = 1.0 if "norm" in name.lower() or "ln_" in name else 0.0
            tensor.data.normal_(0.0, std, generator=generator)
            tensor.data += centre if name.endswith("weight") else 0.0


def ours(hf: Any) -> Any:
    """Our model with the weights of a Hugging Face model."""
    return from_state_dict(hf.config.to_dict(), hf.state_dict())


def padded(side: str, lengths: tuple[int, ...] = (9, 5, 1), vocab: int = VOCAB, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(ids [B,T], mask [B,T]), padded with random ids: padding must not matter."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    ids = torch.randint(3, vocab, (len(lengths), width), generator=generator)
    column, size = torch.arange(width), torch.tensor(lengths).unsqueeze(1)
    return ids, ((column < size) if side == "right" else (column >= width - size)).long()


def hf_logits(hf: Any, case: str, side: str = "right") -> tuple[Tensor, Tensor]:
    """(logits of the real tokens [N,V], which tokens those are [B,T])."""
    ids, mask = padded(side)
    if case in ENCODERS:
        return hf(input_ids=ids, attention_mask=mask, token_type_ids=ids % 3).logits[mask.bool()], mask.bool()
    if case in DECODERS:
        position_ids = (mask.cumsum(1) - 1).clamp_min(0)
        return hf(input_ids=ids, attention_mask=mask, position_ids=position_ids).logits[mask.bool()], mask.bool()
    target, seen = padded("right", (4, 7, 6), vocab=29, seed=1)
    logits = hf(input_ids=ids, attention_mask=mask, decoder_input_ids=target, decoder_attention_mask=seen).logits
    return logits[seen.bool()], seen.bool()


def our_logits(model: Any, case: str, side: str = "right") -> Tensor:
    """The same of our model, [N,V]."""
    ids, mask = padded(side)
    if case in ENCODERS:
        return model.head(model(ids, tokens_from_mask(mask, ids % 3)))[mask.bool()]
    if case in DECODERS:
        return model.head(model(ids, tokens_from_mask(mask)))[mask.bool()]
    target, seen = padded("right", (4, 7, 6), vocab=29, seed=1)
    return model.head(model(ids, tokens_from_mask(mask), target, tokens_from_mask(seen)))[seen.bool()]


def exact(hf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what transformers computes in float32 inside a float64 model, so that the oracle is one."""
    from transformers.models.llama import modeling_llama
    from transformers.models.t5 import modeling_t5

    def rms_norm(self: Any, x: Tensor) -> Tensor:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()

    def rotary(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        theta, width = self.config.rope_parameters["rope_theta"], 2 * len(self.inv_freq)
        angle = position_ids[..., None] * theta ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
        return torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()

    # Both RMS norms upcast to float32, which in a float64 model is a downcast.
    monkeypatch.setattr(modeling_t5.T5LayerNorm, "forward", rms_norm)
    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", rms_norm)
    # The rotation's angles are float32 whatever the model is.
    monkeypatch.setattr(modeling_llama.LlamaRotaryEmbedding, "forward", rotary)
    # Llama's eager attention takes its softmax in float32.
    monkeypatch.setattr(nn.functional, "softmax", lambda x, dim, dtype=None: x.softmax(dim))
    if hf.config.model_type == "marian":  # the table of sinusoids was rounded to float32 when it was made
        for stack in (hf.model.encoder, hf.model.decoder):
            n, width = stack.embed_positions.weight.shape
            angle = torch.arange(n)[:, None] * 10000.0 ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
            stack.embed_positions.weight.data = torch.cat((angle.sin(), angle.cos()), -1)


def assert_close(a: Tensor, b: Tensor, tolerance: float) -> None:
    """Equal within an absolute tolerance, and not because there is nothing to see."""
    assert b.std() > 0.1, "these numbers are too small for an absolute tolerance to mean anything"
    assert a.dtype == b.dtype
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0.0)
