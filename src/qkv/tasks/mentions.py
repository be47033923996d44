"""Where values are mentioned: matching words against an ontology, and markers that stand for what was found.

A value seen three times in training is learned badly by its name; that a value of the slot `food` stands here is
learned well. So a mention is replaced by a marker, `food@1`, and a model says which marker it is that holds, whatever
the value (delexicalisation: Henderson et al. 2014, "Word-Based Dialog State Tracking with Recurrent Neural Networks").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters that are words by themselves, as a class of a pattern."""
_WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+|[^\w\s]")
STEM = 4  # letters that two forms of a word share at least
MOST = 6  # values of one slot that are marked in one reading


def words(text: str) -> list[str]:
    """Words and punctuation marks in lower case; of Chinese and Japanese each character.

    >>> words("No, Tuesday! 下周二")
    ['no', ',', 'tuesday', '!', '下', '周', '二']
    """
    return _WORD.findall(text.lower())


def alike(a: str, b: str) -> int:
    """How many letters two forms of one word share; 0 if they are none: more than half, and endings of at most four.

    >>> alike("moderate", "moderately"), alike("chinesisch", "chinesisches"), alike("indian", "italian")
    (8, 10, 0)
    """
    if a == b:
        return len(a) + 1
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    longer = max(len(a), len(b))
    return shared if shared >= STEM and longer - shared <= STEM and 2 * shared > longer else 0


@dataclass(frozen=True)
class Mention:
    """Words start to end of a text name a value: of each slot, which."""

    start: int
    end: int
    values: Mapping[str, str]


class Ontology:
    """The values that each slot may have, found in texts.

    >>> known = Ontology({"food": ["modern european", "european"], "price": ["moderate"]})
    >>> [dict(m.values) for m in known.find(words("Modern European, moderately priced"))]
    [{'food': 'modern european'}, {'price': 'moderate'}]
    """

    def __init__(self, values: Mapping[str, Iterable[str]]):
        self.values = {slot: tuple(found) for slot, found in values.items()}
        spelled: dict[tuple[str, ...], dict[str, str]] = {}
        for slot, found in self.values.items():
            for value in found:
                spelled.setdefault(tuple(words(value)), {})[slot] = value
        self._by_start: dict[str, list[tuple[tuple[str, ...], dict[str, str]]]] = {}
        for form, holders in spelled.items():
            if form:
                self._by_start.setdefault(form[0][:STEM], []).append((form, holders))

    def find(self, text: Sequence[str]) -> list[Mention]:
        """Mentions in a text's words, in order; of two that overlap the one of more words, then of more letters."""
        found: list[tuple[int, int, int, dict[str, str]]] = []
        for start, word in enumerate(text):
            for form, holders in self._by_start.get(word[:STEM], ()):
                shared = [alike(a, b) for a, b in zip(form, text[start : start + len(form)], strict=False)]
                if len(shared) == len(form) and all(shared):
                    found.append((len(form), sum(shared), start, holders))
        taken: set[int] = set()
        chosen = []
        for size, _, start, holders in sorted(found, key=lambda each: (-each[0], -each[1], each[2])):
            if taken.isdisjoint(range(start, start + size)):
                taken |= set(range(start, start + size))
                chosen.append(Mention(start, start + size, holders))
        return sorted(chosen, key=lambda mention: mention.start)


def marker(slot: str, number: int) -> str:
    """The word that stands for a mention. No text can spell it: `words` splits at @.

    >>> marker("price range", 1)
    'price_range@1'
    """
    return f"{slot.replace(' ', '_')}@{number}"


def is_marker(word: str, slot: str) -> bool:
    """Whether a word is a marker of the slot."""
    name, at, number = word.rpartition("@")
    return bool(at) and number.isdecimal() and name == slot.replace(" ", "_")


def marked(ontology: Ontology, texts: Sequence[Sequence[str]]) -> tuple[list[list[str]], dict[str, str]]:
    """Texts with markers in place of mentions, and the value of each marker.

    The values of a slot are numbered from the end, so `food@1` is the food that was named last; naming it once more
    gives no new number. A mention of values of several slots becomes a marker for each.

    >>> known = Ontology({"day": ["monday", "tuesday"]})
    >>> marked(known, [words("on monday?"), words("no, tuesday")])
    ([['on', 'day@2', '?'], ['no', ',', 'day@1']], {'day@1': 'tuesday', 'day@2': 'monday'})
    """
    numbers: dict[tuple[str, str], int] = {}
    of_slot: dict[str, int] = {}
    written: list[list[str]] = []
    for text in reversed(texts):
        line: list[str] = []
        last = len(text)
        for mention in reversed(ontology.find(text)):
            for slot, value in mention.values.items():
                if (slot, value) not in numbers and of_slot.get(slot, 0) < MOST:
                    numbers[slot, value] = of_slot[slot] = of_slot.get(slot, 0) + 1
            markers = [marker(s, numbers[s, v]) for s, v in mention.values.items() if (s, v) in numbers]
            line = (markers or list(text[mention.start : mention.end])) + list(text[mention.end : last]) + line
            last = mention.start
        written.append(list(text[:last]) + line)
    return written[::-1], {marker(slot, number): value for (slot, value), number in numbers.items()}
