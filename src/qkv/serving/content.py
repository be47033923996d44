"""What the pages show: every question with its answer, the experiments and the evidence of the last full run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qkv.lab import answers, ledger
from qkv.lab.answers import Answer
from qkv.lab.evidence import Evidence
from qkv.lab.kit import Experiment
from qkv.lab.questions import Question, questions
from qkv.lab.registry import experiments
from qkv.serving.prose import html_of

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Entry:
    """A question and what there is to say. answers: by language. faults: why a text that is there is not shown."""

    question: Question
    answers: Mapping[str, Answer]
    faults: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """Whether it is answered, in both languages."""
        return all(language in self.answers for language in LANGUAGES)


@dataclass(frozen=True)
class Library:
    """All entries in the order of the lists; experiments and evidence by the experiment's name."""

    entries: Mapping[str, Entry]
    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        listed: Mapping[str, Question],
        experiments: Mapping[str, Experiment],
        evidence: Mapping[str, Evidence],
    ) -> Library:
        """With the answers that lie beside the experiments."""
        return cls({key: _entry(question, evidence) for key, question in listed.items()}, experiments, evidence)

    @classmethod
    def load(cls) -> Library:
        """The lab as it is installed."""
        return cls.of(questions(), experiments(), ledger.read())

    def neighbours(self, key: str) -> tuple[str | None, str | None]:
        """The ids before and after."""
        keys = list(self.entries)
        at = keys.index(key)
        return keys[at - 1] if at else None, keys[at + 1] if at + 1 < len(keys) else None

    def related(self, key: str) -> list[str]:
        """What to read next: what the question names, what names it, and what rests on the same runs; in this order."""
        own = self.entries[key].question
        others = [e.question for e in self.entries.values() if e.question.id != key]
        naming = [q.id for q in others if key in q.related]
        sharing = [q.id for q in others if set(q.experiments) & set(own.experiments)]
        return [k for k in dict.fromkeys([*own.related, *naming, *sharing]) if k in self.entries and k != key]

    def outdated(self, name: str) -> str:
        """Why the evidence of an experiment is older than what it measured ("" if it is not)."""
        if name not in self.evidence or name not in self.experiments:
            return ""
        return ledger.outdated(self.evidence[name], self.experiments[name])


def _entry(question: Question, evidence: Mapping[str, Evidence]) -> Entry:
    """The question with whatever can be shown of its answers; a text that breaks must not take its page with it."""
    found: dict[str, Answer] = {}
    faults: list[str] = []
    for language in LANGUAGES:
        answer = answers.read(question, language)
        if answer is None:
            continue
        missing = [key for key in answers.KEYS if not answer.sections.get(key, "").strip()]
        try:
            if missing:
                raise ValueError(f"it has no section {', '.join(missing)}")
            for text in answer.sections.values():
                html_of(text, evidence)
            found[language] = answer
        except ValueError as error:
            faults.append(f"{question.label} {language}: {error}")
    return Entry(question, found, tuple(faults))
