"""A tracker without a model: a value holds when its words are said. The baseline, and enough for a small domain."""

from __future__ import annotations

from collections.abc import Sequence

from qkv.data.dialogues import Turn
from qkv.tasks.mentions import Ontology, words

from .state import Tracked, topic_of


class Matching:
    """Values of the ontology in the user's words; of two values of a slot the last one, so "not Monday, Tuesday" and
    "no, Tuesday" are corrections, and "Tuesday, not Monday" is misunderstood.

    A value that several slots share is the slot's that the system asked for, else of the slots whose topic is named, or
    was asked about, else of all. anything: the value of not caring, given to the slots that were asked for where
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
        updates = {slot: (value, 1.0) for slot, value in self._mentioned(said, now.acts).items()}
        if not updates and self.indifferent & {*said}:
            updates = {slot: (self.anything, 1.0) for slot in asked if slot in self.ontology.values}
        requests = {name for mention in self.requestable.find(said) for name in mention.values}
        return Tracked(updates, tuple(sorted(requests - updates.keys())) if "?" in said else ())

    def _mentioned(self, said: Sequence[str], acts: Sequence[tuple[str, str]]) -> dict[str, str]:
        asked = {slot for slot, value in acts if not value}
        found: dict[str, str] = {}
        for mention in self.ontology.find(said):
            narrower = (
                [slot for slot in mention.values if slot in asked],
                [slot for slot in mention.values if topic_of(slot) in said],
                [slot for slot in mention.values if topic_of(slot) in {topic_of(slot) for slot, _ in acts}],
            )
            wanted = next((slots for slots in narrower if slots), list(mention.values))
            found |= {slot: mention.values[slot] for slot in wanted}
        return found
