"""Sentences: STS-B in English and Chinese, by counts, by bi-encoders trained from scratch, by a frozen encoder.

Weights, features and directions that are taken away are chosen on dev, cut from the published training set; test is the
published dev set without what it shares with training.
"""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines import tfidf
from qkv.data.labelled import Labelled
from qkv.data.stsb import Language, Stsb
from qkv.decoding import Greedy
from qkv.interop import load_sentence_encoder
from qkv.interop.sentence import packaged
from qkv.probe.isotropy import all_but_the_top, mean_cosine, whitening
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.similarity import Similarity, embed
from qkv.tasks.similarity_metrics import correlations
from qkv.tasks.train import train

RECIPES: dict[Language, str] = {"en": "stsb", "zh": "stsb-zh"}
OBJECTIVES = {
    "regression": [],
    "in batch": ["task.similarity.output={in_batch: {}}"],
    "two dropouts": ["task.similarity.output={two_dropouts: {}}"],
}
FEATURES = {
    "en": [tfidf.Features(1), tfidf.Features(2), tfidf.Features(1, 4)],
    "zh": [tfidf.Features(0, 2, across=True), tfidf.Features(0, 3, across=True)],
}
NOTE = """Correlations times 100 on the published dev set, which nothing was chosen on; training pairs that share a
sentence with it are left out. Mean (range) of three seeds. Random cosine: of two different sentences of the test set,
on average."""


def texts(rows: list[Labelled]) -> list[str]:
    """All first sentences, then all second ones."""
    return [row.text for row in rows] + [row.second or "" for row in rows]


def right(rows: list[Labelled]) -> list[float]:
    """How alike the two of each row are."""
    return [Similarity().score(row) for row in rows]


def counted(language: Language) -> Cell:
    """Cosines of TF-IDF rows, the features chosen on dev."""
    from sklearn.preprocessing import normalize

    splits = {split: Stsb(language).load(split) for split in ("train", "dev", "test")}

    def scores(features: tfidf.Features, rows: list[Labelled]) -> Cell:
        built = features.build().fit(texts(splits["train"]))
        first, second = (
            normalize(built.transform(part)) for part in (texts(rows)[: len(rows)], texts(rows)[len(rows) :])
        )
        found = np.asarray(first.multiply(second).sum(1)).ravel()
        return correlations(found.tolist(), right(rows))

    best = max(FEATURES[language], key=lambda features: scores(features, splits["dev"])["spearman"])
    return {**scores(best, splits["test"]), "features": str(best)}


def fitted(language: Language, objective: str, seed: int, folder: Path) -> Cell:
    """A bi-encoder trained from scratch."""
    chosen = recipes.load(
        RECIPES[language], [*OBJECTIVES[objective], f"training.seed={seed}", "training.tensorboard=false"]
    )
    result = train(chosen, folder, say=lambda _: None)
    run = open_run(folder)
    test = run.recipe.task.load(run.recipe.data, "test")
    found = run.recipe.task.evaluate(run.system, test, Greedy())
    found["random_cosine"] = mean_cosine(embed(run.system, texts(test)))
    dev = run.recipe.task.load(run.recipe.data, "dev")
    found["dev_spearman"] = run.recipe.task.evaluate(run.system, dev, Greedy())["spearman"]
    shutil.rmtree(folder)
    return {**found, "seconds": result.elapsed, "steps": result.step}


@cache
def embedded(language: Language) -> dict[str, Tensor]:
    """What the frozen encoder makes of each split's sentences."""
    encoder = load_sentence_encoder(packaged())
    return {s: encoder.embed(texts(Stsb(language).load(s))) for s in ("train", "dev", "test")}


def frozen(language: Language, how: str) -> Cell:
    """MiniLM as it is, whitened, or without its largest directions; fitted to training sentences, k chosen on dev."""
    vectors = embedded(language)
    rows: dict[str, Any] = {s: right(Stsb(language).load(s)) for s in ("dev", "test")}

    def scores(change: Any, split: str) -> Cell:
        x: Tensor = change(vectors[split])
        first, second = x.chunk(2)
        return {
            **correlations(F.cosine_similarity(first, second).tolist(), rows[split]),
            "random_cosine": mean_cosine(x),
        }

    changes: dict[str, list[Any]] = {
        "as it is": [lambda x: x],
        "whitened": [whitening(vectors["train"], k) for k in (64, 128, 256, None)],
        "top removed": [all_but_the_top(vectors["train"], n) for n in (1, 2, 4, 8)],
    }
    best = max(changes[how], key=lambda change: scores(change, "dev")["spearman"])
    return scores(best, "test")


def main(results: Results) -> str:
    """The table of both languages."""
    lines, verdicts = [], []
    for language in RECIPES:
        arms: dict[str, list[Cell]] = {"TF-IDF": [results.cell(f"{language} tf-idf", lambda: counted(language))]}  # noqa: B023
        for objective in OBJECTIVES:
            name = f"{language} {objective}"
            arms[f"bi-encoder, {objective}"] = results.seeds(
                name,
                lambda seed, objective=objective, name=name: fitted(  # type: ignore[misc]
                    language,  # noqa: B023
                    objective,
                    seed,
                    results.runs / f"{name} {seed}".replace(" ", "-"),
                ),
            )
        if language == "en":
            for how in ("as it is", "whitened", "top removed"):
                arms[f"MiniLM, {how}"] = [results.cell(f"{language} minilm {how}", lambda how=how: frozen("en", how))]  # type: ignore[misc]
        for name, cells in arms.items():
            found = [cell for cell in cells if cell]
            figures = [spread(found, figure) for figure in ("spearman", "pearson")]
            cosine = spread(found, "random_cosine", scale=1, digits=2)
            lines.append([language, name, *figures, cosine, spread(found, "seconds", scale=1, digits=0)])
        verdicts.append(verdict(language, arms))
    head = ["language", "vectors", "Spearman", "Pearson", "random cosine", "seconds"]
    return f"## Sentences\n\n{NOTE}\n\n{table(head, lines)}\n\n{' '.join(verdicts)}\n\n{results.machine()}"


def verdict(language: Language, arms: dict[str, list[Cell]]) -> str:
    """Which way is best, of those without pretraining and of all."""
    means = {name: mean(cell["spearman"] for cell in cells) for name, cells in arms.items() if all(cells) and cells}
    plain = {name: value for name, value in means.items() if "MiniLM" not in name}
    if not plain:
        return ""
    best, first = max(means, key=means.__getitem__), max(plain, key=plain.__getitem__)
    said = f"{language}: of what learns from STS-B alone, {first} is best with {100 * means[first]:.1f}"
    return f"{said}; pretrained, {best} has {100 * means[best]:.1f}." if best != first else f"{said}."
