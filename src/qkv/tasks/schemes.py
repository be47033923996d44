"""How entities are written as one tag a word: BIO, BIOES, BMES; read, written, converted.

bio     B-x begins an entity of type x, I-x goes on; it ends where it is not gone on with (Ramshaw & Marcus 1995, IOB2)
bioes   E-x ends it, S-x is one of a single word
bmes    the same with M for I, as Chinese corpora have it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from qkv.models.crf import part

Scheme = Literal["bio", "bioes", "bmes"]
OUTSIDE = "O"


@dataclass(frozen=True, order=True)
class Entity:
    """Words start … end − 1, of a type."""

    start: int
    end: int
    kind: str


def scheme_of(tags: Iterable[str]) -> Scheme:
    """The scheme that tags are written in.

    >>> scheme_of(["B-x", "I-x", "O"]), scheme_of(["S-x", "O"]), scheme_of(["B-x", "M-x", "E-x"])
    ('bio', 'bioes', 'bmes')
    """
    places = {tag[0] for tag in tags if part(tag)[0] != OUTSIDE}
    if "M" in places:
        return "bmes"
    return "bioes" if places & {"E", "S"} else "bio"


def entities(tags: Sequence[str], scheme: Scheme) -> list[Entity]:
    """The entities that are written by the rules. What breaks them is none: an I-x without its B-x, or, where there is
    an E, a B-x that no E-x ends. This is what strict scores count.

    >>> entities(["B-x", "I-x", "I-y", "B-x"], "bio")
    [Entity(start=0, end=2, kind='x'), Entity(start=3, end=4, kind='x')]
    >>> entities(["B-x", "I-x", "O", "S-y"], "bioes")
    [Entity(start=3, end=4, kind='y')]
    """
    found: list[Entity] = []
    begun, kind = -1, ""
    for i, (place, of) in enumerate([*map(part, tags), (OUTSIDE, "")]):
        goes_on = begun >= 0 and place in ("I", "E") and of == kind
        if begun >= 0 and not goes_on:
            if scheme == "bio":
                found.append(Entity(begun, i, kind))
            begun = -1
        if place == "B":
            begun, kind = i, of
        elif place == "S":
            found.append(Entity(i, i + 1, of))
        elif place == "E" and goes_on:
            found.append(Entity(begun, i + 1, kind))
            begun = -1
    return found


def written(found: Iterable[Entity], length: int, scheme: Scheme) -> list[str]:
    """Entities as tags of `length` words. Raises ValueError where two overlap or one lies outside.

    >>> written([Entity(0, 2, "x"), Entity(3, 4, "y")], 4, "bmes")
    ['B-x', 'E-x', 'O', 'S-y']
    """
    tags = [OUTSIDE] * length
    middle = "M" if scheme == "bmes" else "I"
    for entity in found:
        size = entity.end - entity.start
        if size < 1 or entity.start < 0 or entity.end > length or set(tags[entity.start : entity.end]) != {OUTSIDE}:
            raise ValueError(f"{entity} is empty, overlaps another or lies outside of {length} words")
        places = ["B", *[middle] * (size - 1)]
        if scheme != "bio":
            places = ["S"] if size == 1 else [*places[:-1], "E"]
        tags[entity.start : entity.end] = [f"{place}-{entity.kind}" for place in places]
    return tags


def converted(tags: Sequence[str], given: Scheme, wanted: Scheme) -> list[str]:
    """Tags of one scheme in another; in its own, they stay as they are, broken ones too.

    >>> converted(["B-x", "M-x", "E-x", "S-y"], "bmes", "bio")
    ['B-x', 'I-x', 'I-x', 'B-y']
    """
    return list(tags) if given == wanted else written(entities(tags, given), len(tags), wanted)
