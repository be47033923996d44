"""How many examples it takes: learning curves, a pretrained encoder with few examples or none, and rare labels.

A dev set is whole wherever something is chosen on it, also where examples are few."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

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
SHOTS = (1, 5, 20, 1000)
CONTRASTED = 5
READ = {"train": 1500, "dev": 400}
PRETRAINED = ("trec", "sst2", "ag-news", "sarcasm", "isarcasm")
STEPS = {272: 200, 1087: 350, 1: 100, 5: 300, 20: 600}  # fewer where texts are few: weights are chosen on dev anyway


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


@cache
def embedded(recipe: str, split: str) -> Tensor:
    """Vectors of `sample(recipe, split)`, in order."""
    return minilm().embed([row.text for row in sample(recipe, split)])


def sample(recipe: str, split: str) -> list[Labelled]:
    """The rows that the pretrained encoder reads: all of BANKING77 and of a test set, READ of another split."""
    found = classify.rows(recipe, split)
    return found if recipe == "banking77" or split == "test" else spaced(found, READ[split])


def vectors_of(recipe: str, some: Sequence[Labelled]) -> Tensor:
    """Vectors of some of the training texts."""
    place = {row.text: i for i, row in enumerate(sample(recipe, "train"))}
    return embedded(recipe, "train")[[place[row.text] for row in some]]


def nearest(some: Sequence[Labelled]) -> Cell:
    """Prototypes of the frozen encoder from these rows."""
    found = prototypes(vectors_of("banking77", some), [row.labels[0] for row in some])
    return classify.measures(found.predict(embedded("banking77", "test")), _labels("banking77", "test"))


def regressed(recipe: str, some: Sequence[Labelled]) -> Cell:
    """Logistic regression on the frozen encoder's vectors; C and, where macro F1 is shown, balancing chosen on dev."""
    from sklearn.linear_model import LogisticRegression

    measure = classify.measure_of(recipe)
    vectors = vectors_of(recipe, some).numpy()
    best: tuple[float, Cell] = (-1.0, {})
    for weight in ("balanced", None) if measure == "macro_f1" else (None,):
        for strength in classify.STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=500, class_weight=weight)
            model.fit(vectors, [row.labels[0] for row in some])
            dev, test = (model.predict(embedded(recipe, split).numpy()).tolist() for split in ("dev", "test"))
            reached = classify.measures(dev, _labels(recipe, "dev"))[measure]
            if reached > best[0]:
                best = reached, {**classify.measures(test, _labels(recipe, "test")), "C": strength, "rows": len(some)}
    return best[1]


def described_only() -> Cell:
    """No example at all: the intents' names, in words."""
    names = sorted({row.labels[0] for row in classify.rows("banking77", "train")})
    found = described(minilm().embed, names)
    return classify.measures(found.predict(embedded("banking77", "test")), _labels("banking77", "test"))


def contrasted(some: Sequence[Labelled], seed: int) -> Cell:
    """The encoder fine-tuned on pairs of these rows, then prototypes from them."""
    encoder = load_sentence_encoder(packaged())
    system = System(encoder.model, Tokenizers(encoder.tokenizer))
    optimizer = AdamW(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    config = TrainingConfig(
        max_steps=60, seed=seed, threads=1, learning_rate=5e-5, optimizer=optimizer, schedule=Linear(warmup=6)
    )
    with tempfile.TemporaryDirectory() as folder:  # the checkpoint of a run nobody goes on with
        contrast(system, some, config, Path(folder) / "run", rounds=3, size=16)
    found = prototypes(encoder.embed([row.text for row in some]), [row.labels[0] for row in some])
    test = encoder.embed([row.text for row in classify.rows("banking77", "test")])
    return classify.measures(found.predict(test), _labels("banking77", "test"))


def _labels(recipe: str, split: str) -> list[str]:
    return [row.labels[0] for row in sample(recipe, split)]


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
        if count < SHOTS[-1]:
            return results.seeds(f"banking77 {count} {name}", partial(model, name, count))
        if name in ("regressed", "prototypes"):  # nothing is drawn: one seed says it
            return [results.cell(f"banking77 {count} {name}", partial(model, name, count, 0))]
        return compared["banking77"].transformer if name == "Transformer" else compared["banking77"].counted

    names = ("Transformer", "TF-IDF", "regressed", "prototypes", "contrasted")
    zero = results.cell("banking77 0 described", described_only)
    lines = [["0, the intent's name", "–", "–", "–", spread([zero], "accuracy"), "–"]]
    for count in SHOTS:
        title = "all, 105 in the mean" if count == SHOTS[-1] else str(count)
        lines.append([title, *(spread(cells(name, count), "accuracy") for name in names)])
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
        cell = results.cell(f"{recipe} MiniLM", lambda recipe=recipe: regressed(recipe, sample(recipe, "train")))  # type: ignore[misc]
        title, own = classify.RECIPES[recipe], compared[recipe]
        if cell and own.transformer and cell[measure] > max(each[measure] for each in own.transformer):
            ahead.append(title)
        scores = (spread([each for each in some if each], measure) for some in ([cell], own.transformer, own.counted))
        texts = f"{cell.get('rows', 0):,} of {len(classify.rows(recipe, 'train')):,}"
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
