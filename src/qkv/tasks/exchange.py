"""More tagged texts from those there are: what stands in a slot is exchanged for what stood in the same slot elsewhere.

Who asks for flights to Boston may as well ask for flights to Denver, and wants the same. A model that has seen a
sentence with many fillings learns the sentence; one that has seen it with one learns the filling, too (slot
substitution, Louvan & Magnini 2020; mention replacement, Dai & Adel 2020).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from qkv.data.labelled import Tagged
from qkv.tasks.schemes import Entity, entities, scheme_of, written


def exchanged(rows: Sequence[Tagged], copies: int, seed: int) -> list[Tagged]:
    """`copies` of each row; the words of each of its entities are drawn from those of all entities of that type, as
    often as they are there. Rows without an entity, and rows that break their scheme, have no copies.

    >>> two = [Tagged(("to", "boston"), ("O", "B-x"), "go"), Tagged(("new", "york", "please"), ("B-x", "I-x", "O"))]
    >>> sorted({" ".join(row.words) for row in exchanged(two, 9, seed=0)})
    ['boston please', 'new york please', 'to boston', 'to new york']
    """
    scheme = scheme_of(tag for row in rows for tag in row.tags)
    inside = [entities(row.tags, scheme) for row in rows]
    fillings: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for row, found in zip(rows, inside, strict=True):
        for entity in found:
            fillings[entity.kind].append(row.words[entity.start : entity.end])
    draw = random.Random(seed)
    whole = [
        (row, found)
        for row, found in zip(rows, inside, strict=True)
        if found and written(found, len(row.words), scheme) == list(row.tags)
    ]
    copied = []
    for row, found in whole * copies:
        words: list[str] = []
        moved: list[Entity] = []
        at = 0
        for entity in found:
            words += row.words[at : entity.start]
            filling = draw.choice(fillings[entity.kind])
            moved.append(Entity(len(words), len(words) + len(filling), entity.kind))
            words += filling
            at = entity.end
        words += row.words[at:]
        copied.append(Tagged(tuple(words), tuple(written(moved, len(words), scheme)), row.intent))
    return copied
