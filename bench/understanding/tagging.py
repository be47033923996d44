"""Tagging, and intents with slots: the recipes, their arms, and plain baselines, on three seeds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from bench.understanding.records import Cell, Results, spread, table, trained
from qkv.data.labelled import Tagged
from qkv.data.tagged_corpora import Atis, ResumeNer, Snips, WeiboNer
from qkv.tasks.schemes import scheme_of
from qkv.tasks.tag_metrics import entity_scores, joint_scores

REQUESTS = {"atis": Atis(), "snips": Snips()}
NAMES = {"resume-ner": ResumeNer(), "weibo-ner": WeiboNer()}
TASK = "task.intent_slots"
ARMS: dict[str, tuple[str, ...]] = {
    "": (),
    "intent alone": (f"{TASK}.only=intent", "training.metric=intent_accuracy"),
    "slots alone": (f"{TASK}.only=slots", "training.metric=slot_f1"),
    "learned weights": (f"{TASK}.weights=learned",),
    "gradient surgery": (f"{TASK}.surgery=true",),
    "slots told the intent": (f"{TASK}.conditioned=true",),
    "no CRF": (f"{TASK}.slots.crf=false",),
    "no CRF, not constrained": (f"{TASK}.slots.crf=false", f"{TASK}.slots.constrained=false"),
    "no spelling": (f"{TASK}.words.spelling=null",),
    "no stem": (f"{TASK}.words.stem=null",),
}
"""What is changed in recipes/atis.yaml; the first is the recipe."""
NER_ARMS: dict[str, tuple[str, ...]] = {
    "": (),
    "no CRF": ("task.tag.output.crf=false",),
    "no CRF, not constrained": ("task.tag.output.crf=false", "task.tag.output.constrained=false"),
}


INTENTS = """### Intents and slots

Mean (least … most) of three seeds, per cent, no pretrained weights. ATIS: the published test file; what training never
saw is wrong. SNIPS: the published dev file, tuned on 700 rows cut from training. F1 of entities, strict, by seqeval.
Baselines: the most frequent tag of a word and the most frequent intent; a softmax over a window of five words with
affixes, and TF-IDF with logistic regression for the intent (scikit-learn).

"""
CHINESE = """### Names in Chinese

A tag a character. Resume: the published test file; Weibo: the published dev file, tuned on a tenth of the training
file. Strict F1; lenient reads a broken sequence as conlleval does.

"""


def main(results: Results) -> str:
    """All cells of the part, and their tables."""
    return "\n\n".join([_intents(results), _arms(results), _names(results), results.machine()])


def _intents(results: Results) -> str:
    """Recipes and baselines on requests."""
    rows = []
    for name, data in REQUESTS.items():
        cells = {
            "most frequent": [results.cell(f"{name}: most frequent", lambda data=data: _frequent(data))],
            "linear": [results.cell(f"{name}: linear", lambda data=data: _linear(data))],
            f"`qkv train {name}`": results.seeds(name, lambda seed, name=name: _run(results, name, "", (), seed)),
        }
        for label, found in cells.items():
            figures = (
                spread(found, figure, digits=2) for figure in ("intent_accuracy", "slot_f1", "sentence_accuracy")
            )
            rows.append((name, label, *figures, spread(found, "seconds", 1, 0)))
    head = ("data", "model", "intent accuracy", "slot F1", "sentence accuracy", "seconds")
    return INTENTS + table(head, rows)


def _arms(results: Results) -> str:
    """What each part of the ATIS recipe is worth."""
    rows = []
    for label, overrides in ARMS.items():
        key = f"atis {label}".strip()
        found = results.seeds(key, lambda seed, label=label, o=overrides: _run(results, "atis", label, o, seed))
        figures = (
            spread(found, f, digits=2) for f in ("intent_accuracy", "slot_f1", "sentence_accuracy", "broken_rows")
        )
        rows.append((label or "the recipe", *figures, spread(found, "seconds", 1, 0)))
    head = ("ATIS, the recipe but for", "intent accuracy", "slot F1", "sentence accuracy", "illegal rows", "seconds")
    return "### What each part is worth\n\n" + table(head, rows)


def _names(results: Results) -> str:
    """Recipes and baselines on names in Chinese."""
    rows = []
    for name, data in NAMES.items():
        cells = {
            "most frequent": [results.cell(f"{name}: most frequent", lambda data=data: _frequent(data))],
            "linear": [results.cell(f"{name}: linear", lambda data=data: _linear(data))],
        }
        for label, overrides in NER_ARMS.items():
            key = f"{name} {label}".strip()
            cells[f"`qkv train {name}`{', ' if label else ''}{label}"] = results.seeds(
                key, lambda seed, name=name, label=label, o=overrides: _run(results, name, label, o, seed)
            )
        for label, found in cells.items():
            figures = (spread(found, f, digits=2) for f in ("precision", "recall", "f1", "lenient_f1", "broken_rows"))
            rows.append((name, label, *figures, spread(found, "seconds", 1, 0)))
    head = ("data", "model", "precision", "recall", "F1", "F1, lenient", "illegal rows", "seconds")
    return CHINESE + table(head, rows)


def _run(results: Results, recipe: str, label: str, overrides: Sequence[str], seed: int) -> Cell:
    folder = results.runs / f"{recipe}-{label.replace(',', '').replace(' ', '-') or 'recipe'}-{seed}"
    found = trained(recipe, [*overrides, f"training.seed={seed}"], folder)
    found.pop("types", None)
    return found


def _scored(given: list[list[str]], test: Sequence[Tagged], intents: list[str] | None) -> dict[str, Any]:
    right = [list(row.tags) for row in test]
    scheme = scheme_of(tag for tags in right for tag in tags)
    if intents is None:
        found = entity_scores(given, right, scheme)
    else:
        found = joint_scores(given, right, intents, [str(row.intent) for row in test], scheme)
    found.pop("types")
    return found


def _frequent(data: Any) -> dict[str, Any]:
    """The tag that each word has most often, and the intent that is most frequent."""
    train, test = data.load("train"), data.load("test")
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        for word, tag in zip(row.words, row.tags, strict=True):
            seen[word][tag] += 1
    given = [[seen[w].most_common(1)[0][0] if w in seen else "O" for w in row.words] for row in test]
    if train[0].intent is None:
        return _scored(given, test, None)
    most = Counter(str(row.intent) for row in train).most_common(1)[0][0]
    return _scored(given, test, [most] * len(test))


def _linear(data: Any) -> dict[str, Any]:
    """A softmax of each word by its window, and TF-IDF with logistic regression for the intent; C chosen on dev."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    train, dev, test = (data.load(split) for split in ("train", "dev", "test"))
    vectors = DictVectorizer()
    x = vectors.fit_transform(f for row in train for f in _window(row.words))
    y = [tag for row in train for tag in row.tags]

    def tagged(model: Any, rows: Sequence[Tagged]) -> list[list[str]]:
        said = iter(model.predict(vectors.transform(f for row in rows for f in _window(row.words))).tolist())
        return [[next(said) for _ in row.words] for row in rows]

    models = [LogisticRegression(C=c, max_iter=60).fit(x, y) for c in (1.0, 10.0)]
    scheme = scheme_of(y)
    best = max(models, key=lambda m: entity_scores(tagged(m, dev), [row.tags for row in dev], scheme)["f1"])
    intents = _linear_intents(train, dev, test) if train[0].intent is not None else None
    return _scored(tagged(best, test), test, intents)


def _linear_intents(train: Sequence[Tagged], dev: Sequence[Tagged], test: Sequence[Tagged]) -> list[str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, intents = zip(*((" ".join(row.words), str(row.intent)) for row in train), strict=True)
    models = [
        make_pipeline(TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+"), LogisticRegression(C=c, max_iter=300))
        for c in (1.0, 10.0, 100.0)
    ]
    held = [" ".join(row.words) for row in dev]
    right = [str(row.intent) for row in dev]
    best = max((m.fit(texts, intents) for m in models), key=lambda m: m.score(held, right))
    return best.predict([" ".join(row.words) for row in test]).tolist()


def _window(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Of each word: itself and two on either side, pairs of neighbours, its affixes, whether it has digits."""
    padded = ["<s>", "<s>", *words, "</s>", "</s>"]
    for i, word in enumerate(words, 2):
        around = {f"w{k - 2}": w for k, w in enumerate(padded[i - 2 : i + 3])}
        pairs = {"w-1,0": f"{padded[i - 1]} {word}", "w0,1": f"{word} {padded[i + 1]}"}
        affixes = {f"{side}{n}": part for n in (1, 2, 3) for side, part in (("p", word[:n]), ("s", word[-n:]))}
        yield {**around, **pairs, **affixes, "digit": any(c.isdigit() for c in word)}
