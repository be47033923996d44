"""The largest few against a full sort, at sizes around the blocks they are searched in."""

from __future__ import annotations

import pytest
import torch

from qkv.decoding import largest as room
from qkv.decoding.largest import BLOCK, largest


@pytest.mark.parametrize("size", [1, 3, BLOCK, 4 * BLOCK, 20 * BLOCK, 20 * BLOCK + 1, 21 * BLOCK - 1, 8000])
@pytest.mark.parametrize("k", [1, 2, 8])
def test_they_are_those_of_a_full_sort(size: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MANY", 0)
    torch.manual_seed(size + k)
    scores = torch.randperm(2 * 3 * size).view(2, 3, size).float()
    scores[0, 0, : size // 2] = float("-inf")
    values, places = largest(scores, k)
    expected = scores.sort(-1, descending=True).values[..., :k]
    assert values.equal(expected) and scores.gather(-1, places).equal(expected)


def test_the_place_may_lie_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MANY", 0)
    size = 4 * BLOCK + 5
    scores = torch.eye(size)
    assert largest(scores, 1)[1].flatten().tolist() == list(range(size))
