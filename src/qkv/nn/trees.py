"""Masks for tokens that are nodes of a tree: who sees whom follows the edges, not the order of the text."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .masks import Mask, _pair
from .tokens import Tokens


@dataclass(frozen=True)
class TreeNeighbours(Mask):
    """A node's own token, its parent and its children.

    The tree is the field `parent` [B,T]: the position of each token's parent, and at a root its own position. With L
    layers a node hears of whatever is at most L edges away. Raises ValueError where the field is missing.
    """

    def __call__(self, q: Tokens, k: Tokens) -> Tensor:
        if "parent" not in q.fields or "parent" not in k.fields:
            raise ValueError("tree_neighbours reads the tree from the field `parent`, which these tokens do not have")
        query, key = _pair(q.pos, k.pos)
        above_query, above_key = _pair(q.get("parent"), k.get("parent"))
        return (query == key) | (above_query == key) | (query == above_key)
