"""The cache by itself: what it holds, how long it is, how many bytes, and that cross keys are made once."""

from __future__ import annotations

import pytest
import torch

from qkv.nn import Cache, Tokens

B, G, D, L = 2, 3, 4, 2


def parts(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(B, G, length, D), torch.randn(B, G, length, D)


def fill(cache: Cache, lengths: list[int]) -> list[list[torch.Tensor]]:
    """Append chunks of the given lengths; returns everything appended, [layer][key or value]."""
    history: list[list[torch.Tensor]] = [[torch.empty(B, G, 0, D)] * 2 for _ in range(L)]
    for length in lengths:
        cache.extend(Tokens.arange(B, length, start=cache.length))
        for layer in range(L):
            new = parts(length)
            history[layer] = [torch.cat(pair, 2) for pair in zip(history[layer], new, strict=True)]
            for got, expected in zip(cache.append(layer, new), history[layer], strict=True):
                assert got.equal(expected)
    return history


@pytest.mark.parametrize("capacity", [1, 4, 64])
@pytest.mark.parametrize("lengths", [[1] * 9, [5, 1, 1, 1], [3, 4, 2], [64, 1], [70]])
def test_appended_parts_come_back_in_order(capacity, lengths):
    cache = Cache(capacity)
    fill(cache, lengths)
    assert cache.length == sum(lengths)
    assert cache.tokens.pos.tolist() == [list(range(sum(lengths)))] * B
    assert cache.bytes() == 2 * L * B * G * D * sum(lengths) * 4


def test_growth_doubles():
    cache, sizes = Cache(4), set()
    for _ in range(100):
        cache.extend(Tokens.arange(B, 1, start=cache.length))
        cache.append(0, parts(1))
        sizes.add(cache.capacity)
    assert sizes == {4, 8, 16, 32, 64, 128}


def test_cross_keys_are_made_once_a_layer():
    cache, calls = Cache(), []

    def make():
        calls.append(1)
        return parts(6)

    first = [cache.cross(layer, make) for layer in range(L)]
    for _ in range(3):
        for layer in range(L):
            assert cache.cross(layer, make)[0] is first[layer][0]
    assert len(calls) == L and cache.length == 0
    assert cache.bytes() == 2 * L * B * G * D * 6 * 4


def test_select_moves_tokens_keys_and_cross_keys_together():
    cache = Cache(4)
    history = fill(cache, [3])
    cross = cache.cross(0, lambda: parts(5))
    rows = torch.tensor([1])
    cache.select(rows)
    assert cache.tokens.shape == (1, 3) and cache.length == 3
    assert cache.cross(0, lambda: parts(5))[1].equal(cross[1][rows])
    cache.extend(Tokens.arange(1, 1, start=3))
    new = (torch.randn(1, G, 1, D), torch.randn(1, G, 1, D))
    key, value = cache.append(1, new)
    assert key.equal(torch.cat((history[1][0][rows], new[0]), 2))
    assert value.equal(torch.cat((history[1][1][rows], new[1]), 2))


def test_truncate_forgets_the_end():
    cache = Cache(4)
    history = fill(cache, [5])
    cache.truncate(2)
    assert cache.length == 2 and cache.bytes() == 2 * L * B * G * D * 2 * 4
    cache.extend(Tokens.arange(B, 1, start=2))
    new = parts(1)
    assert cache.append(0, new)[0].equal(torch.cat((history[0][0][:, :, :2], new[0]), 2))
    assert cache.tokens.pos.tolist() == [[0, 1, 2]] * B


def test_keep_drops_key_positions_row_by_row():
    cache = Cache(8)
    past = fill(cache, [5])
    cross = cache.cross(0, lambda: parts(6))
    columns = torch.tensor([[0, 2, 4], [1, 3, 4]])
    cache.keep(columns)
    assert cache.length == 3 and cache.tokens.pos.tolist() == columns.tolist()
    cache.extend(Tokens.arange(B, 1, start=5))
    for layer in range(L):
        new = parts(1)
        for got, old, last in zip(cache.append(layer, new), past[layer], new, strict=True):
            kept = torch.stack([old[row][:, columns[row]] for row in range(B)])
            assert got.equal(torch.cat((kept, last), 2))
    assert cache.cross(0, lambda: parts(1))[0] is cross[0]
