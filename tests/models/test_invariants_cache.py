"""A cache changes the cost of decoding and nothing else: one shot, chunks, padding, beams, dropped rows."""

from __future__ import annotations

import random

import pytest
import torch

from qkv.nn import Cache, Causal, Explicit, GlobalTokens, Prefix, SameDocument, Tokens, Window
from tests.models.zoo import GRID, E, H, L, both, decoder, pad, words
from tests.nn.grid import close, label

grid = pytest.mark.parametrize("row", GRID, ids=label)
T = 9


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def chunks(seed: int, total: int) -> list[int]:
    """Random chunk sizes that sum to `total`."""
    rng, sizes = random.Random(seed), []
    while sum(sizes) < total:
        sizes.append(rng.randint(1, min(4, total - sum(sizes))))
    return sizes


def in_chunks(built, ids, tokens, sizes, cache, **options):
    """Hidden states made piece by piece with a cache."""
    outs, start = [], 0
    for size in sizes:
        piece = slice(start, start + size)
        outs.append(built.decode(ids[:, piece], tokens[:, piece], cache=cache, **options))
        start += size
    return torch.cat(outs, 1)


@grid
def test_token_by_token_and_in_chunks_equals_one_shot(row):
    built, ids, tokens = decoder(row), words(2, T), Tokens.arange(2, T)
    whole = built(ids, tokens)
    for sizes in ([1] * T, [4] + [1] * (T - 4), chunks(1, T), chunks(2, T)):
        cache = Cache(2)
        close(in_chunks(built, ids, tokens, sizes, cache), whole)
        assert cache.length == T
        assert cache.bytes() == 2 * L * row["heads"].groups * (E // H) * T * 8 * 2, "2·L·G·D·S numbers a row"


@grid
@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_prompts_and_their_continuations(row, side):
    """A padded prompt is one chunk, its continuation another: new tokens follow padding on the right, too."""
    built, ids = decoder(row), words(3, T)
    lengths = [6, 2, 4]
    prompt, tokens = pad(ids, lengths, 7, side)
    cache = Cache(2)
    first = built.decode(prompt, tokens, cache=cache)
    steps = [first]
    for step in range(3):
        at = torch.tensor(lengths)[:, None] + step
        steps.append(built.decode(ids.gather(1, at), Tokens(at), cache=cache))
    for i, n in enumerate(lengths):
        alone = built(ids[i : i + 1, : n + 3], Tokens.arange(1, n + 3))[0]
        close(first[i, tokens.valid[i]], alone[:n])
        close(torch.cat([s[i] for s in steps[1:]]), alone[n:])


@grid
def test_cross_attention_with_a_cache_equals_one_shot_and_makes_its_keys_once(row):
    built, ids = both(row), words(2, T)
    source, source_tokens = pad(ids, [5, 3], 6, "left")
    memory = built.encode(source, source_tokens)
    whole = built(source, source_tokens, ids, Tokens.arange(2, T))
    calls = []
    for block in built.decoder.blocks:
        block.cross.key_value.register_forward_hook(lambda *_: calls.append(1))
    cache = Cache()
    close(in_chunks(built, ids, Tokens.arange(2, T), chunks(3, T), cache, memory=memory), whole)
    assert len(calls) == L, "once a layer"
    assert cache.length == T
    assert cache.bytes() == 2 * L * row["heads"].groups * (E // H) * (T + 6) * 8 * 2


MASKS = {
    "window": Causal() & Window(2),
    "prefix": Causal() | Prefix(),
    "documents": Causal() & SameDocument(),
    "global": (Causal() & Window(1)) | (GlobalTokens() & Causal()),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("row", GRID[:6], ids=label)
def test_masks_read_their_fields_from_the_cache(row, name):
    built, ids = decoder(row, MASKS[name]), words(2, T)
    column = torch.arange(T).expand(2, T)
    fields = {"prefix": (column < 3).long(), "doc": column // 4, "global": (column == 1).long()}
    tokens = Tokens(column, fields)
    sizes = [3, 1, 2, 1, 1, 1]  # the prefix is one chunk: a later one could not be seen by an earlier
    close(in_chunks(built, ids, tokens, sizes, Cache(2)), built(ids, tokens))


def test_new_tokens_without_fields_still_see_the_global_ones():
    built, ids = decoder(GRID[0], (Causal() & Window(1)) | (GlobalTokens() & Causal())), words(1, T)
    marks = torch.zeros(1, T, dtype=torch.long)
    marks[:, 0] = 1
    whole = built(ids, Tokens.arange(1, T).with_fields(**{"global": marks}))
    cache = Cache()
    built.decode(ids[:, :5], Tokens.arange(1, 5).with_fields(**{"global": marks[:, :5]}), cache=cache)
    close(in_chunks(built, ids[:, 5:], Tokens.arange(1, 4, start=5), [1, 3], cache), whole[:, 5:])


@grid
def test_rows_leave_the_batch(row):
    built, ids = both(row), words(3, T)
    source, source_tokens = pad(ids, [5, 3, 4], 6, "right")
    whole = built(source, source_tokens, ids, Tokens.arange(3, T))
    memory, cache, rows = built.encode(source, source_tokens), Cache(2), torch.tensor([2, 0])
    built.decode(ids[:, :4], Tokens.arange(3, 4), memory, cache)
    cache.select(rows)
    rest = built.decode(ids[rows, 4:], Tokens.arange(2, T - 4, start=4), memory.select(rows), cache)
    close(rest, whole[rows, 4:])


@grid
def test_a_rejected_proposal_leaves_no_trace(row):
    built, ids, tokens = decoder(row), words(2, T), Tokens.arange(2, T)
    cache = Cache(2)
    built.decode(ids[:, :4], tokens[:, :4], cache=cache)
    built.decode(words(2, 4, seed=8), tokens[:, 4:8], cache=cache)
    cache.truncate(4)
    close(built.decode(ids[:, 4:], tokens[:, 4:], cache=cache), built(ids, tokens)[:, 4:])


@pytest.mark.parametrize("row", GRID[::2], ids=label)
def test_beams_on_the_query_axis_equal_rows_of_their_own(row):
    """W hypotheses live side by side in one row; a table of ancestors says whose keys are whose."""
    built, W, prompt, steps = both(row), 3, 3, 4
    source, source_tokens = pad(words(2, 5), [5, 3], 6, "left")
    memory = built.encode(source, source_tokens)
    ids = words(2, prompt, seed=7)
    lengths = [3, 2]
    start, start_tokens = pad(ids, lengths, prompt, "left")
    cache, rng = Cache(2), random.Random(0)
    built.decode(start, start_tokens, memory, cache)
    histories = [[ids[b, : lengths[b]].tolist() for _ in range(W)] for b in range(2)]
    ancestors = torch.ones(2, W, prompt, dtype=torch.bool)
    for step in range(steps):
        parents = torch.tensor([[rng.randrange(W) for _ in range(W)] for _ in range(2)])
        histories = [[list(histories[b][p]) for p in parents[b].tolist()] for b in range(2)]
        ancestors = ancestors.gather(1, parents[:, :, None].expand(-1, -1, ancestors.shape[2]))
        ancestors = torch.cat((ancestors, torch.eye(W, dtype=torch.bool).expand(2, W, W)), 2)
        new = words(2, W, seed=step)
        pos = torch.tensor(lengths)[:, None].expand(2, W) + step
        out = built.decode(new, Tokens(pos), memory, cache, mask=Explicit(ancestors[:, None]))
        for b in range(2):
            for w in range(W):
                histories[b][w].append(int(new[b, w]))
                line = torch.tensor(histories[b][w])[None]
                one = torch.tensor([b])
                alone = built.decode(line, Tokens.arange(1, line.shape[1]), memory.select(one))
                close(out[b, w], alone[0, -1])
    assert cache.length == prompt + W * steps
