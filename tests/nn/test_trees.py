"""The mask of a tree against a walk over its edges, and what does not depend on how the tree is written down."""

from __future__ import annotations

import pytest
import torch

from qkv.nn import Causal, Tokens, View
from qkv.nn.trees import TreeNeighbours

PARENTS = [[0, 0, 0, 1, 1, 2], [2, 2, 2, 2, 3, 4]]


def tree(parents: list[list[int]] = PARENTS) -> Tokens:
    return Tokens.arange(len(parents), len(parents[0])).with_fields(parent=torch.tensor(parents))


def test_sees_itself_its_parent_and_its_children():
    tokens = tree()
    visible = TreeNeighbours()(tokens, tokens)
    for row, parents in enumerate(PARENTS):
        for q in range(6):
            for k in range(6):
                related = q == k or parents[q] == k or parents[k] == q
                assert bool(visible[row, 0, q, k]) == related


def test_a_tile_is_a_slice_of_the_table():
    tokens = tree()
    visible = TreeNeighbours()(tokens, tokens)
    view = View(TreeNeighbours(), tokens, tokens)
    assert torch.equal(view.tile(slice(1, 4), slice(2, 6))[0], visible[:, :, 1:4, 2:6])


def test_the_order_of_the_columns_does_not_matter():
    tokens, order = tree(), torch.tensor([3, 0, 5, 1, 4, 2])
    moved = Tokens(tokens.pos[:, order], {"parent": tokens.fields["parent"][:, order]})
    visible = TreeNeighbours()(tokens, tokens)
    assert torch.equal(TreeNeighbours()(moved, moved), visible[:, :, order][:, :, :, order])


def test_composes_and_hides_padding():
    tokens = Tokens(torch.tensor([[0, 1, 2, -1]]), {"parent": torch.tensor([[0, 0, 0, 0]])})
    visible, _ = View(TreeNeighbours() & Causal(), tokens, tokens).dense()
    assert visible[0, 0, :3].tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, False, True, False],
    ]


def test_the_field_is_asked_for():
    tokens = Tokens.arange(1, 3)
    with pytest.raises(ValueError, match="field `parent`"):
        TreeNeighbours()(tokens, tokens)
