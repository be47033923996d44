"""What must hold of every combination of parts: causality, padding, batch composition, order, packing."""

from __future__ import annotations

import pytest
import torch

from qkv.models import Memory
from qkv.nn import Causal, Chunked, Einsum, Full, Fused, NoPosition, PerHead, Prefix, SameDocument, Tokens, Window
from tests.models.zoo import BATCH_NORM, GRID, VOCAB, E, both, decoder, encoder, gradients, pad, words
from tests.nn.grid import close, label

grid = pytest.mark.parametrize("row", GRID, ids=label)
LENGTHS = [6, 3, 5]


def embedded(built, ids, tokens):
    """(embeddings that require a gradient, hidden states made from them)."""
    made = []

    def keep(module, inputs, output):
        made.append(output.detach().requires_grad_())
        return made[0]

    stack = getattr(built, "decoder", None) or built.encoder
    handle = stack.embedding.register_forward_hook(keep)
    hidden = stack(ids, tokens)
    handle.remove()
    return made[0], hidden


@grid
def test_no_gradient_comes_from_the_future(row):
    built, ids = decoder(row), words(2, 7)
    for t in (0, 3, 5):
        x, hidden = embedded(built, ids, Tokens.arange(2, 7))
        (gradient,) = torch.autograd.grad(hidden[:, t].square().sum(), x)
        assert gradient[:, t + 1 :].eq(0).all(), "the future"
        assert gradient[:, : t + 1].ne(0).any(-1).all(), "the past and the present"


@grid
def test_an_encoder_token_sees_all_others(row):
    x, hidden = embedded(encoder(row), words(2, 5), Tokens.arange(2, 5))
    (gradient,) = torch.autograd.grad(hidden[:, 2].square().sum(), x)
    assert gradient.ne(0).any(-1).all()


@pytest.mark.parametrize("row", GRID[:10], ids=label)
def test_every_target_token_reads_every_source_token_but_padding(row):
    built, ids = both(row), words(2, 5)
    source, source_tokens = pad(ids, [5, 3], 6, "left")
    memory = built.encode(source, source_tokens)
    x = memory.x.detach().requires_grad_()
    for t in (0, 2):
        hidden = built.decode(ids, Tokens.arange(2, 5), Memory(x, source_tokens))
        (gradient,) = torch.autograd.grad(hidden[:, t].square().sum(), x)
        assert gradient.ne(0).any(-1).equal(source_tokens.valid)


def test_a_memory_is_neither_forgotten_nor_ignored():
    ids, tokens = words(2, 4), Tokens.arange(2, 4)
    memory = encoder(GRID[0]).encode(ids, tokens)
    for built, given in ((both(GRID[0]), None), (decoder(GRID[0]), memory)):
        with pytest.raises(ValueError, match="needs its memory, and no other stack takes one"):
            built.decode(ids, tokens, given)


def test_a_further_mask_is_joined_to_the_stacks_own():
    built, ids, tokens = decoder(GRID[0]), words(2, 6), Tokens.arange(2, 6)
    close(built.decode(ids, tokens, mask=Full()), built(ids, tokens))
    windowed = decoder(GRID[0], Causal() & Window(1))
    close(built.decode(ids, tokens, mask=Window(1)), windowed(ids, tokens))


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (Causal() & Window(1), {3, 4}),
        (Causal() | Prefix(), {0, 1, 2, 3, 4, 6}),
        (~Causal(), {4, 5, 6}),
        (Window(0, 2), {4, 5, 6}),
    ],
)
def test_one_layer_reads_what_its_mask_says(mask, seen):
    built = encoder(GRID[0], mask, n_layers=1)
    prefix = torch.tensor([[0, 0, 0, 0, 0, 0, 1]])
    x, hidden = embedded(built, words(1, 7), Tokens.arange(1, 7).with_fields(prefix=prefix))
    (gradient,) = torch.autograd.grad(hidden[:, 4].square().sum(), x)
    assert set(gradient[0].ne(0).any(-1).nonzero().flatten().tolist()) == seen | {4}  # itself by the residual path


@grid
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("make", [encoder, decoder], ids=["encoder", "decoder"])
def test_padding_changes_neither_values_nor_gradients(row, side, make):
    built, ids = make(row), words(3, 6)
    weight = torch.randn(sum(LENGTHS), VOCAB, dtype=torch.float64)
    hidden, grads = [], []
    for width, where in ((6, "right"), (10, side)):
        padded, tokens = pad(ids, LENGTHS, width, where)
        out = built(padded, tokens)
        assert out.isfinite().all()
        hidden.append(out[tokens.valid])
        grads.append(gradients(built, out, tokens.valid, weight))
    close(*hidden)
    for name in grads[0]:
        close(grads[0][name], grads[1][name], 1e-9)


@grid
def test_a_row_does_not_depend_on_its_batch(row):
    built, ids = both(row), words(3, 6)
    source, source_tokens = pad(ids, LENGTHS, 7, "left")
    target, tokens = pad(ids.flip(1), [2, 6, 4], 6, "right")
    together = built(source, source_tokens, target, tokens)
    assert together.shape == (3, 6, E)
    for i in range(3):
        m, n = LENGTHS[i], [2, 6, 4][i]
        alone = built(ids[i : i + 1, :m], Tokens.arange(1, m), ids.flip(1)[i : i + 1, :n], Tokens.arange(1, n))
        close(together[i, :n], alone[0])


def test_batch_norm_in_training_ignores_padding():
    for side in ("right", "left"):
        built, ids = encoder(BATCH_NORM).train(), words(3, 6)
        weight = torch.randn(sum(LENGTHS), VOCAB, dtype=torch.float64)
        runs = []
        for width in (6, 10):
            padded, tokens = pad(ids, LENGTHS, width, side)
            out = built(padded, tokens)
            runs.append((out[tokens.valid], gradients(built, out, tokens.valid, weight)))
        close(runs[0][0], runs[1][0])
        for name in runs[0][1]:
            close(runs[0][1][name], runs[1][1][name], 1e-9)


@grid
def test_without_positions_an_encoder_is_permutation_equivariant(row):
    built, ids, order = encoder(row | {"position": NoPosition()}), words(2, 6), torch.randperm(6)
    tokens = Tokens.arange(2, 6)
    close(built(ids[:, order], tokens), built(ids, tokens)[:, order])


@pytest.mark.parametrize("row", [r for r in GRID if not isinstance(r["position"], NoPosition)], ids=label)
def test_with_positions_it_is_not(row):
    built, tokens = encoder(row), Tokens.arange(1, 6)
    ids, order = torch.arange(6)[None], torch.tensor([2, 0, 1, 3, 5, 4])  # not a reflection: distances survive it
    moved = built(ids[:, order], tokens) - built(ids, tokens)[:, order]
    assert moved.abs().max() > 1e-4


@grid
def test_with_positions_moved_along_columns_may_be_in_any_order(row):
    """Attention reads `pos`, not the column: shuffled columns with their positions give shuffled outputs."""
    built, ids, order = decoder(row), words(2, 6), torch.randperm(6)
    pos = torch.arange(6).expand(2, 6)
    close(built(ids[:, order], Tokens(pos[:, order])), built(ids, Tokens(pos))[:, order])


@grid
def test_packed_documents_are_separate_sequences(row):
    lengths = [4, 1, 3]
    ids = words(1, sum(lengths))
    pos = torch.cat([torch.arange(n) for n in lengths] + [torch.tensor([-1, -1])])[None]
    doc = torch.cat([torch.full((n,), i) for i, n in enumerate([*lengths, 2])])[None]
    padded = torch.cat((ids, words(1, 2)), 1)
    for make, mask in ((decoder, Causal() & SameDocument()), (encoder, SameDocument())):
        built = make(row, mask)
        packed = built(padded, Tokens(pos, {"doc": doc}))
        start = 0
        for n in lengths:
            alone = built(ids[:, start : start + n], Tokens.arange(1, n))
            close(packed[:, start : start + n], alone)
            start += n


@pytest.mark.parametrize("row", GRID[:8], ids=label)
def test_kernels_agree_in_whole_models(row):
    """The same weights with another kernel: values and gradients of a ragged batch."""
    ids, results = words(3, 6), []
    padded, tokens = pad(ids, LENGTHS, 8, "left")
    weight = torch.randn(sum(LENGTHS), VOCAB, dtype=torch.float64)
    for kernel in (PerHead(), Einsum(), Fused(), Chunked(2)):
        built = decoder(row | {"kernel": kernel})
        out = built(padded, tokens)
        results.append((out[tokens.valid], gradients(built, out, tokens.valid, weight)))
    for out, grads in results[1:]:
        close(out, results[0][0])
        for name in grads:
            close(grads[name], results[0][1][name], 1e-9)
