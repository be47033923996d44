"""A tracker without a model: a value holds when its words are said. The baseline, and enough for a small domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qkv.data.dialogues import Turn
from qkv.tasks.mentions import Ontology, words

from .state import Tracked


class Matching:
    """Values of the ontology in the user's words; of two values of a slot the last one, so "not Monday, Tuesday" and
    "no, Tuesday" are corrections, and "Tuesday, not Monday" is misunderstood.

    A value that several slots share is the slot's that the system asked for, else of the slots that have another value
    so far (a correction), else of all. anything: the value of not caring, given to the slots that were asked for where
    one of `indifferent` is said. requestable: what may be asked for, by its name's words.
    """

    def __init__(
        self,
        ontology: Ontology,
        requestable: Sequence[str] = (),
        anything: str = "dontcare",
        indifferent: Sequence[str] = ("any", "anything", "care", "matter", "doesn", "don"),
    ):
        self.ontology, self.anything, self.indifferent = ontology, anything, frozenset(indifferent)
        self.requestable = Ontology({name: [name.rpartition("/")[2]] for name in requestable})

    def __call__(self, turns: Sequence[Turn]) -> Tracked:
        """What the last of `turns` says."""
        now, said = turns[-1], words(turns[-1].user)
        asked = {slot for slot, value in now.acts if not value}
        updates = {slot: (value, 1.0) for slot, value in self._mentioned(said, asked, turns).items()}
        if not updates and self.indifferent & {*said}:
            updates = {slot: (self.anything, 1.0) for slot in asked if slot in self.ontology.values}
        requests = {name for mention in self.requestable.find(said) for name in mention.values}
        return Tracked(updates, tuple(sorted(requests - updates.keys())) if "?" in said else ())

    def _mentioned(self, said: Sequence[str], asked: set[str], turns: Sequence[Turn]) -> dict[str, str]:
        found: dict[str, str] = {}
        for mention in self.ontology.find(said):
            wanted = [slot for slot in mention.values if slot in asked]
            if not wanted and len(mention.values) > 1:
                wanted = [slot for slot in mention.values if slot in self._known(turns)]
            found |= {slot: mention.values[slot] for slot in wanted or mention.values}
        return found

    def _known(self, turns: Sequence[Turn]) -> Mapping[str, str]:
        """What was said before, by this tracker's own account."""
        known: dict[str, str] = {}
        for end in range(1, len(turns)):
            known |= {slot: value for slot, (value, _) in self(turns[:end]).updates.items()}
        return known
