"""Rude sentences (ParaDetox): which words are rude, and rewriting them civilly, beside deleting words.

Weights and thresholds are chosen on dev, a tenth of the training file; reported are the 591 sentences that were held
out of it. Style and fluency are judged by runs of our own that nothing else uses.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.understanding.records import SEEDS, Cell, Results, qkv, spread, table
from qkv.baselines import tfidf
from qkv.data.labelled import Tagged
from qkv.data.paradetox import CIVIL, RUDE, Paradetox, ParadetoxSpans, ParadetoxStyle
from qkv.decoding import Greedy
from qkv.tasks.folder import Run, open_run
from qkv.tasks.rewriting import Guide, Judges, probability, rewriting_scores
from qkv.tasks.toxicity import Lexicon, Score, lexicon, spans

Marks = list[list[bool]]
"""Of each sentence, which of its words are rude."""
THRESHOLDS = (0.02, 0.05, 0.1, 0.2, 0.3)
TUNED = 300  # dev sentences that the threshold of occlusion is chosen on
GUIDE = ("training.seed=7", "training.max_steps=400", "model.encoder_only.stack.d_model=32")
NOTE = """## Rude sentences

Spans: the words of 591 sentences of ParaDetox that no rewrite keeps, %, a word a case; mean (range) of three seeds.
That is not all rude, and not all that is rude: people rephrase more than they must. Occlusion: words without which a
classifier of sentences finds the sentence less rude, by more than a threshold chosen on dev; it sees no marked words.

{spans}

Rewriting, %. J: the mean product, sentence by sentence, of style (a classifier calls it civil), similarity to the
source (chrF) and fluency (a language model of civil sentences needs no more bits a character than for 95 % of the
human rewrites). Guided: beams are weighed by a small classifier, not the one that judges.

{rewriting}

{verdict}

{machine}"""


@cache
def sentences(split: Any) -> list[Tagged]:
    """Rude sentences with what no rewrite keeps."""
    return ParadetoxSpans().load(split)


@cache
def rude_words() -> Lexicon:
    """Learned from the training sentences. Of least z-scores from 1.5 to 4, the first finds most on dev: a word in 89 %
    of the rude sentences, and in 4 % of the civil ones."""
    train = ParadetoxStyle().load("train")
    rude, civil = ([row.text for row in train if row.labels[0] == label] for label in (RUDE, CIVIL))
    return lexicon(rude, civil, least=1.5)


def agreement(found: Marks, split: str = "test") -> Cell:
    """Precision, recall and F1 of marked words."""
    right = [[tag != "O" for tag in row.tags] for row in sentences(split)[: len(found)]]
    pairs = [pair for a, b in zip(found, right, strict=True) for pair in zip(a, b, strict=True)]
    hits, given, wanted = sum(a and b for a, b in pairs), sum(a for a, _ in pairs), sum(b for _, b in pairs)
    return {"precision": hits / max(1, given), "recall": hits / max(1, wanted), "f1": 2 * hits / max(1, given + wanted)}


def listed() -> Marks:
    """Words of the lexicon."""
    return [[bool(rude_words().found(word)) for word in row.words] for row in sentences("test")]


def occluded(score: Score) -> Cell:
    """Words whose absence lowers the score, by the threshold that is best on dev."""

    def drops(split: str, most: int | None = None) -> list[list[float]]:
        found = []
        for row in sentences(split)[:most]:
            text = " ".join(row.words)
            weights = {span.start: span.weight for span in spans(score, text, least=-1.0)}
            starts = [0]
            for word in row.words:
                starts.append(starts[-1] + len(word) + 1)
            found.append([weights[start] for start in starts[:-1]])
        return found

    def marks(weights: list[list[float]], least: float) -> Marks:
        return [[weight >= least for weight in row] for row in weights]

    tried = drops("dev", TUNED)
    best = max(THRESHOLDS, key=lambda least: agreement(marks(tried, least), "dev")["f1"])
    return {**agreement(marks(drops("test"), best)), "threshold": best}


def linear_rudeness() -> Score:
    """TF-IDF with logistic regression, rude or civil."""
    sides = [
        ([r.text for r in rows], [r.labels[0] for r in rows])
        for rows in (ParadetoxStyle().load("train"), ParadetoxStyle().load("dev"))
    ]
    found = tfidf.learn(*sides[0], *sides[1], [tfidf.Features(1), tfidf.Features(2), tfidf.Features(2, 5)])
    place = found.labels.index(RUDE)
    return lambda texts: found.probabilities(list(texts))[:, place].tolist()


def judged(outputs: Sequence[str], judges: Judges) -> Cell:
    """The measures of rewrites of the test."""
    test = Paradetox().load("test")
    return rewriting_scores([p.source for p in test], outputs, [p.targets for p in test], judges)


def without(marks: Marks) -> list[str]:
    """The test sentences without marked words."""
    rows = zip(sentences("test"), marks, strict=True)
    return [" ".join(w for w, gone in zip(row.words, mark, strict=True) if not gone) for row, mark in rows]


def trained(recipe: str, folder: Path, *overrides: str) -> tuple[Run, float]:
    """Train a recipe (or find the run), and the seconds of it."""
    qkv("train", recipe, "training.tensorboard=false", *overrides, "--out", str(folder))
    return open_run(folder), json.loads((folder / "run.json").read_text(encoding="utf-8"))["elapsed"]


def tagger(seed: int, judges: Judges, folder: Path) -> Cell:
    """Train on marked words; its marks, and what deleting them gives."""
    run, seconds = trained("paradetox-spans", folder, f"training.seed={seed}")
    task: Any = run.recipe.task
    said = task.predict(run.system, [" ".join(row.words) for row in sentences("test")], Greedy())
    marks = [[tag != "O" for tag in answer.details["tags"]] for answer in said]
    shutil.rmtree(folder)
    return {"seconds": seconds, **agreement(marks), **judged(without(marks), judges)}


def rewriter(seed: int, judges: Judges, guide: str, folder: Path) -> Cell:
    """Train the rewriter; its answers, those that avoid the lexicon's words, and those that are guided."""
    named = [f"task.translate.judges.{name}={getattr(judges, name)}" for name in ("style", "fluency")]
    run, seconds = trained("paradetox", folder, f"training.seed={seed}", *named)
    (folder / "words.txt").write_text("\n".join(sorted(rude_words().scores)) + "\n", encoding="utf-8")
    task: Any = run.recipe.task
    ways = {
        "": task,
        "avoiding_": replace(task, avoid=str(folder / "words.txt")),
        "guided_": replace(task, guide=Guide(guide)),
    }
    found: Cell = {"seconds": seconds}
    for name, way in ways.items():
        answers = way.predict(run.system, [pair.source for pair in Paradetox().load("test")], run.recipe.decoding)
        scores = judged([answer.text for answer in answers], judges)
        found |= {f"{name}{figure}": value for figure, value in scores.items()}
    shutil.rmtree(folder)
    return found


def main(results: Results) -> str:
    """Measure, and both tables."""
    judges = Judges(str(results.runs / "style"), str(results.runs / "fluency"))
    guide = str(results.runs / "guide")
    if results.measure and not results.record["cells"].keys() >= {f"rewriter {seed}" for seed in SEEDS}:
        for recipe, folder, more in (
            ("paradetox-style", judges.style, ()),
            ("paradetox-civil", judges.fluency, ()),
            ("paradetox-style", guide, GUIDE),
        ):
            trained(recipe, Path(folder), *more)
    tagged = results.seeds("tagger", lambda seed: tagger(seed, judges, results.runs / f"tagger {seed}"))
    marked, rewritten = _spans(results, judges, tagged), _rewriting(results, judges, guide, tagged)
    return NOTE.format(spans=marked, rewriting=rewritten, verdict=verdict(results), machine=results.machine())


def verdict(results: Results) -> str:
    """Which way has the highest J, and why people have less."""
    cells = results.record["cells"]
    found = {key: 100 * cell["joint"] for key, cell in cells.items() if "joint" in cell and not key[-1].isdigit()}
    for arm, name in (("tagger", "deleting what a Transformer tags"), ("rewriter", "the Transformer that writes")):
        seeds = [100 * cells[f"{arm} {seed}"]["joint"] for seed in SEEDS if f"{arm} {seed}" in cells]
        found |= {name: fmean(seeds)} if seeds else {}
    if len(found) < 2:
        return ""
    order = sorted(found, key=found.__getitem__, reverse=True)
    told = "By J: " + ", ".join(f"{name} {found[name]:.1f}" for name in order) + "."
    human = "human (first rewrite)"
    if human in cells and order[0] != human:
        told += f" People rephrase (similarity {100 * cells[human]['similarity']:.0f}), which J takes for a loss."
    return told


def _spans(results: Results, judges: Judges, tagged: list[Cell]) -> str:
    """The table of marked words."""
    arms: dict[str, Callable[[], Cell]] = {
        "every word": lambda: agreement([[True] * len(row.words) for row in sentences("test")]),
        "lexicon": lambda: agreement(listed()),
        "occlusion, TF-IDF + logistic regression": lambda: occluded(linear_rudeness()),
        "occlusion, Transformer": lambda: occluded(probability(judges.style, RUDE)),
    }
    cells = {name: [cell] if (cell := results.cell(f"spans: {name}", make)) else [] for name, make in arms.items()}
    cells["Transformer that tags"] = tagged
    figures = ("precision", "recall", "f1")
    lines = [[name, *(spread(found, figure) for figure in figures)] for name, found in cells.items()]
    return table(["words marked by", "precision", "recall", "F1"], lines)


def _rewriting(results: Results, judges: Judges, guide: str, tagged: list[Cell]) -> str:
    """The table of rewrites."""
    test = Paradetox().load("test") if results.measure else []
    plain: dict[str, Callable[[], Sequence[str]]] = {
        "source, unchanged": lambda: [pair.source for pair in test],
        "human (first rewrite)": lambda: [pair.targets[0] for pair in test],
        "words of the lexicon deleted": lambda: without(listed()),
    }
    arms = {
        name: [results.cell(name, lambda texts=texts: judged(texts(), judges))]  # type: ignore[misc]
        for name, texts in plain.items()
    }
    arms["words deleted that a Transformer tags"] = tagged
    written = results.seeds("rewriter", lambda seed: rewriter(seed, judges, guide, results.runs / f"rewriter {seed}"))
    measures = ("joint", "style_accuracy", "similarity", "fluency", "chrf_to_references")
    lines = [[name, *(spread(cells, each) for each in measures)] for name, cells in arms.items()]
    for prefix, name in (("", "Transformer"), ("avoiding_", "… avoiding the lexicon"), ("guided_", "… guided")):
        lines.append([name, *(spread(written, prefix + each) for each in measures)])
    return table(["", "J", "style", "similarity to source", "fluency", "chrF to references"], lines)
