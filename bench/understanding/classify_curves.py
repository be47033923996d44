"""How many examples it takes: learning curves, a pretrained encoder with few examples or none, and rare labels.

What is chosen is chosen on the whole dev set, also where examples are few; for the pretrained encoder, which reads
slowly, on a part of it."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from bench.understanding import classify
from bench.understanding.records import Cell, Results, spread, table
from qkv.baselines import tfidf
from qkv.data.corpora import Davidson
from qkv.data.labelled import Labelled
from qkv.interop.sentence import SentenceEncoder, load_sentence_encoder, packaged
from qkv.tasks.fewshot import contrast, described, prototypes, shots
from qkv.tasks.task import System, spaced
from qkv.tasks.tokenizers import Tokenizers
from qkv.training.config import TrainingConfig
from qkv.training.optim import AdamW
from qkv.training.schedules import Linear

SIZES = (272, 1087, 4346)
SHOTS = (1, 5, 10)
CONTRASTED = 5
READ = {"train": 2000, "dev": 300}
PRETRAINED = ("trec", "sst2", "r8", "ag-news", "sarcasm", "isarcasm")
STEPS = {272: 150, 1087: 300, 1: 100, 5: 200, 10: 300}  # fewer where texts are few: weights are chosen on dev anyway


def written(folder: Path, recipe: str, some: Sequence[Labelled]) -> list[str]:
    """The rows and the recipe's dev and test as files; the overrides that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": some, "dev": classify.rows(recipe, "dev"), "test": classify.rows(recipe, "test")}
    for name, part in parts.items():
        lines = [json.dumps({"text": row.text, "label": row.labels[0]}, ensure_ascii=False) + "\n" for row in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return [f"data.{name}={folder / name}.jsonl" for name in parts]


def on_few(results: Results, recipe: str, name: str, size: int, seed: int, some: Sequence[Labelled]) -> Cell:
    """A recipe's model on these rows, in fewer steps where they are few."""
    folder = results.runs / f"{recipe}-{size}-{seed}"
    overrides = [*written(folder / "data", recipe, some), f"training.seed={seed}", f"training.max_steps={STEPS[size]}"]
    return classify.fit(recipe, [*classify.settings(name), *overrides], folder / name)


def trec(results: Results, compared: Mapping[str, classify.Compared]) -> str:
    """Accuracy on TREC by number of questions."""
    names = ("Transformer", "CNN", "TF-IDF")

    def model(name: str, size: int, seed: int) -> Cell:
        some = random.Random(seed).sample(classify.rows("trec", "train"), size)
        if name == "TF-IDF":
            return classify.linear(some, classify.rows("trec", "dev"), classify.rows("trec", "test"), "trec")
        return on_few(results, "trec", name, size, seed, some)

    def cells(name: str, size: int) -> list[Cell]:
        if size < SIZES[-1]:
            return results.seeds(f"trec {size} {name}", partial(model, name, size))
        return compared["trec"][names.index(name)]

    lines = [[f"{size:,}", *(spread(cells(name, size), "accuracy") for name in names)] for size in SIZES]
    return table(["TREC, questions", "Transformer", "CNN", "TF-IDF + LR"], lines)


@cache
def minilm() -> SentenceEncoder:
    """The pretrained encoder."""
    return load_sentence_encoder(packaged())


VECTORS: dict[str, Tensor] = {}  # of the pretrained encoder: reading is slow, and seeds share texts


def embedded(some: Sequence[Labelled]) -> Tensor:
    """The frozen encoder's vectors of these rows, [N,E]."""
    new = list(dict.fromkeys(row.text for row in some if row.text not in VECTORS))
    VECTORS.update(zip(new, minilm().embed(new), strict=True))
    return torch.stack([VECTORS[row.text] for row in some])


def labels_of(some: Sequence[Labelled]) -> list[str]:
    """The one label of each row."""
    return [row.labels[0] for row in some]


def nearest(some: Sequence[Labelled]) -> Cell:
    """Prototypes of the frozen encoder from these rows."""
    test = classify.rows("banking77", "test")
    return classify.measures(prototypes(embedded(some), labels_of(some)).predict(embedded(test)), labels_of(test))


def regressed(recipe: str, some: Sequence[Labelled]) -> Cell:
    """Logistic regression on the frozen encoder's vectors; C and, where macro F1 is shown, balancing chosen on dev."""
    from sklearn.linear_model import LogisticRegression

    measure = classify.measure_of(recipe)
    dev, test = spaced(classify.rows(recipe, "dev"), READ["dev"]), classify.rows(recipe, "test")
    best: tuple[float, Cell] = (-1.0, {})
    for weight in ("balanced", None) if measure == "macro_f1" else (None,):
        for strength in classify.STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=500, class_weight=weight)
            model.fit(embedded(some).numpy(), labels_of(some))
            on_dev, on_test = (model.predict(embedded(part).numpy()).tolist() for part in (dev, test))
            reached = classify.measures(on_dev, labels_of(dev))[measure]
            if reached > best[0]:
                best = reached, {**classify.measures(on_test, labels_of(test)), "C": strength, "rows": len(some)}
    return best[1]


def described_only() -> Cell:
    """No example at all: the intents' names, in words."""
    test = classify.rows("banking77", "test")
    found = described(minilm().embed, labels_of(classify.rows("banking77", "train")))
    return classify.measures(found.predict(embedded(test)), labels_of(test))


def contrasted(some: Sequence[Labelled], seed: int) -> Cell:
    """The encoder fine-tuned on pairs of these rows, then prototypes from them."""
    encoder = load_sentence_encoder(packaged())
    system = System(encoder.model, Tokenizers(encoder.tokenizer))
    optimizer = AdamW(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    config = TrainingConfig(
        max_steps=40, seed=seed, threads=1, learning_rate=5e-5, optimizer=optimizer, schedule=Linear(warmup=4)
    )
    with tempfile.TemporaryDirectory() as folder:  # the checkpoint of a run nobody goes on with
        contrast(system, some, config, Path(folder) / "run", rounds=3, size=16)
    found = prototypes(encoder.embed([row.text for row in some]), labels_of(some))
    test = classify.rows("banking77", "test")
    return classify.measures(found.predict(encoder.embed([row.text for row in test])), labels_of(test))


def banking(results: Results, compared: Mapping[str, classify.Compared]) -> str:
    """Accuracy on BANKING77 by number of examples an intent."""

    def model(name: str, count: int, seed: int) -> Cell:
        some = shots(classify.rows("banking77", "train"), count, seed)
        if name == "TF-IDF":
            dev, test = (classify.rows("banking77", split) for split in ("dev", "test"))
            return classify.linear(some, dev, test, "banking77")
        if name == "contrasted":
            return contrasted(some, seed)
        if name == "Transformer":
            return on_few(results, "banking77", name, count, seed, some)
        return nearest(some) if name == "prototypes" else regressed("banking77", some)

    def cells(name: str, count: int) -> list[Cell]:
        if name == "contrasted" and count != CONTRASTED:
            return []
        return results.seeds(f"banking77 {count} {name}", partial(model, name, count))

    names = ("Transformer", "TF-IDF", "regressed", "prototypes", "contrasted")
    zero = results.cell("banking77 0 described", described_only)
    lines = [["0, the intent's name", "–", "–", "–", spread([zero], "accuracy"), "–"]]
    lines += [[str(count), *(spread(cells(name, count), "accuracy") for name in names)] for count in SHOTS]
    whole = compared["banking77"]
    train = classify.rows("banking77", "train")
    regression = [results.cell("banking77 all regressed", lambda: regressed("banking77", train))]
    means = [results.cell("banking77 all prototypes", lambda: nearest(train))]
    scores = (spread(cells, "accuracy") for cells in (whole.transformer, whole.counted, regression, means, []))
    lines.append([f"all, {len(train) / len(set(labels_of(train))):.0f} in the mean", *scores])
    head = ["BANKING77, examples an intent", "Transformer", "TF-IDF + LR", "MiniLM + LR", "MiniLM, nearest mean"]
    return table([*head, "MiniLM contrasted, nearest mean"], lines)


ARMS: dict[str, list[str]] = {
    "nothing": [],
    "drawn ∝ n^½": ["task.classify.power=0.5"],
    "effective number, β 0.999": ["task.classify.output.choice.effective=0.999"],
    "logits adjusted, τ 1": ["task.classify.output.choice.adjustment=1"],
}


def imbalance(results: Results) -> str:
    """Tweets of which 6 % are hate: what each remedy gains on rare labels and what it costs on all."""

    def model(overrides: list[str], seed: int) -> Cell:
        own = ["data=davidson", "training.metric=macro_f1", f"training.seed={seed}", *overrides]
        return classify.fit("sarcasm", own, results.runs / f"davidson-{list(ARMS.values()).index(overrides)}-{seed}")

    arms = {title: results.seeds(f"davidson {title}", partial(model, overrides)) for title, overrides in ARMS.items()}
    for title, balanced in (("TF-IDF + LR", False), ("TF-IDF + LR, balanced", True)):
        arms[title] = [results.cell(f"davidson {title}", partial(davidson, balanced))]
    figures = ("accuracy", "macro_f1", "calibration_error")
    lines = [[title, *(spread(found, figure) for figure in figures)] for title, found in arms.items()]
    counts = Counter(row.labels[0] for row in Davidson().load("train"))
    shares = ", ".join(f"{label} {100 * count / counts.total():.0f} %" for label, count in counts.most_common())
    note = "Weights, features and C are chosen by macro F1 on dev. ECE is before any temperature."
    return f"{note}\n\n{table([f'Davidson: {shares}', 'accuracy', 'macro F1', 'ECE'], lines)}"


def davidson(balanced: bool) -> Cell:
    """TF-IDF with logistic regression on the tweets."""
    parts = [classify.columns(Davidson().load(split)) for split in ("train", "dev", "test")]
    (texts, labels), (dev, dev_labels), (test, right) = parts
    features, strengths = classify.LATIN[:2], classify.STRENGTHS
    found = tfidf.learn(texts, labels, dev, dev_labels, features, strengths, balanced, "macro_f1")
    return classify.judged(found, test, right)


def pretrained(results: Results, compared: Mapping[str, classify.Compared]) -> str:
    """What an encoder that was pretrained elsewhere is worth, frozen, with a part of the labels."""
    lines, ahead = [], []
    for recipe in PRETRAINED:
        measure = classify.measure_of(recipe)
        cell = results.cell(
            f"{recipe} MiniLM",
            lambda recipe=recipe: regressed(recipe, spaced(classify.rows(recipe, "train"), READ["train"])),
        )  # type: ignore[misc]
        title, own = classify.RECIPES[recipe], compared[recipe]
        if cell and own.transformer and cell[measure] > max(each[measure] for each in own.transformer):
            ahead.append(title)
        scores = (spread([each for each in some if each], measure) for some in ([cell], own.transformer, own.counted))
        texts = f"{cell['rows']:,} of {len(classify.rows(recipe, 'train')):,}" if cell else "–"
        lines.append([title, texts, *scores])
    head = [
        "data",
        "labelled texts that MiniLM + LR saw",
        "MiniLM, frozen, + LR",
        "Transformer, all",
        "TF-IDF + LR, all",
    ]
    said = f"Ahead of every Transformer from scratch, with fewer labels: {', '.join(ahead)}." if ahead else ""
    return "\n\n".join(part for part in (table(head, lines), said) if part)
