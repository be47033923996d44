"""How many examples it takes: learning curves, a pretrained encoder with few examples or none, and rare labels."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from torch import Tensor

from bench.understanding import classify
from bench.understanding.records import Cell, Results, spread, table
from qkv.data.labelled import Labelled
from qkv.interop.sentence import SentenceEncoder, load_sentence_encoder, packaged
from qkv.tasks.fewshot import contrast, described, prototypes, shots
from qkv.tasks.task import System
from qkv.tasks.tokenizers import Tokenizers
from qkv.training.config import TrainingConfig
from qkv.training.optim import AdamW
from qkv.training.schedules import Linear

SIZES = (272, 1087, 4346)
SHOTS = (1, 5, 20, 1000)
CONTRASTED = 5
STEPS = {272: 400, 1087: 600, 4346: 800, 1: 200, 5: 600, 20: 1200, 1000: 1800}


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


def trec(results: Results) -> str:
    """Accuracy on TREC by number of questions."""

    def model(name: str, size: int, seed: int) -> Cell:
        some = random.Random(seed).sample(classify.rows("trec", "train"), size)
        if name == "TF-IDF":
            return classify.linear(some, classify.rows("trec", "dev"), classify.rows("trec", "test"), han=False)
        return on_few(results, "trec", name, size, seed, some)

    def cells(name: str, size: int) -> list[Cell]:
        key = f"trec {name}" if size == SIZES[-1] and name != "TF-IDF" else f"trec {size} {name}"
        return results.seeds(key, partial(model, name, size))

    names = ("Transformer", "CNN", "TF-IDF")
    lines = [[f"{size:,}", *(spread(cells(name, size), "accuracy") for name in names)] for size in SIZES]
    return table(["TREC, questions", "Transformer", "CNN", "TF-IDF + LR"], lines)


@cache
def minilm() -> SentenceEncoder:
    """The pretrained encoder."""
    return load_sentence_encoder(packaged())


@cache
def embedded(split: str) -> Tensor:
    """Vectors of a split of BANKING77, in order."""
    return minilm().embed([row.text for row in classify.rows("banking77", split)])


def nearest(some: Sequence[Labelled]) -> Cell:
    """Prototypes of the frozen encoder from these rows."""
    place = {row.text: i for i, row in enumerate(classify.rows("banking77", "train"))}
    vectors = embedded("train")[[place[row.text] for row in some]]
    found = prototypes(vectors, [row.labels[0] for row in some])
    return classify.measures(found.predict(embedded("test")), _labels("test"))


def regressed(some: Sequence[Labelled]) -> Cell:
    """Logistic regression on the frozen encoder's vectors, C chosen on dev."""
    from sklearn.linear_model import LogisticRegression

    place = {row.text: i for i, row in enumerate(classify.rows("banking77", "train"))}
    vectors = embedded("train")[[place[row.text] for row in some]].numpy()
    best: tuple[float, Cell] = (-1.0, {})
    for strength in (1.0, 10.0, 100.0):
        model = LogisticRegression(C=strength, max_iter=500).fit(vectors, [row.labels[0] for row in some])
        hits = classify.measures(model.predict(embedded("dev").numpy()).tolist(), _labels("dev"))["accuracy"]
        if hits > best[0]:
            given = model.predict(embedded("test").numpy()).tolist()
            best = hits, {**classify.measures(given, _labels("test")), "C": strength}
    return best[1]


def described_only() -> Cell:
    """No example at all: the intents' names, in words."""
    names = sorted({row.labels[0] for row in classify.rows("banking77", "train")})
    found = described(minilm().embed, names)
    return classify.measures(found.predict(embedded("test")), _labels("test"))


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
    return classify.measures(found.predict(test), _labels("test"))


def _labels(split: str) -> list[str]:
    return [row.labels[0] for row in classify.rows("banking77", split)]


def banking(results: Results) -> str:
    """Accuracy on BANKING77 by number of examples an intent."""

    def model(name: str, count: int, seed: int) -> Cell:
        some = shots(classify.rows("banking77", "train"), count, seed)
        if name == "TF-IDF":
            return classify.linear(
                some, classify.rows("banking77", "dev"), classify.rows("banking77", "test"), han=False
            )
        if name == "contrasted":
            return contrasted(some, seed)
        if name == "Transformer":
            return on_few(results, "banking77", name, count, seed, some)
        return nearest(some) if name == "prototypes" else regressed(some)

    def cells(name: str, count: int) -> list[Cell]:
        if name == "contrasted" and count != CONTRASTED:
            return []
        whole = count == SHOTS[-1]
        if whole and name != "Transformer":  # nothing is drawn: one seed says it
            return [results.cell(f"banking77 {count} {name}", partial(model, name, count, 0))]
        key = f"banking77 {name}" if whole else f"banking77 {count} {name}"
        return results.seeds(key, partial(model, name, count))

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
        own = ["data=davidson", "training.metric=loss", "training.mode=min", f"training.seed={seed}", *overrides]
        return classify.fit("sarcasm", own, results.runs / f"davidson-{list(ARMS.values()).index(overrides)}-{seed}")

    lines = []
    for title, overrides in ARMS.items():
        found = results.seeds(f"davidson {title}", partial(model, overrides))
        lines.append([title, *(spread(found, figure) for figure in ("accuracy", "macro_f1", "calibration_error"))])
    for title, balanced in (("TF-IDF + LR", False), ("TF-IDF + LR, balanced", True)):
        cell = results.cell(f"davidson {title}", partial(davidson, balanced))
        lines.append([title, spread([cell], "accuracy"), spread([cell], "macro_f1"), "–"])
    return table(["Davidson: hate 6 %, offensive 77 %, neither 17 %", "accuracy", "macro F1", "ECE"], lines)


def davidson(balanced: bool) -> Cell:
    """TF-IDF with logistic regression on the tweets."""
    from qkv.baselines import tfidf
    from qkv.data.corpora import Davidson

    parts = [classify.columns(Davidson().load(split)) for split in ("train", "dev", "test")]
    (texts, labels), (dev, dev_labels), (test, right) = parts
    found = tfidf.learn(texts, labels, dev, dev_labels, classify.LATIN[:2], (1.0, 10.0, 100.0), balanced=balanced)
    return {**classify.measures(found.predict(test), right), "C": found.strength}
