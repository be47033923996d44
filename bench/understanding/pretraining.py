"""Objectives of pretraining at equal steps: what the states of their models say of labelled texts.

Every model has the same stack and makes as many updates of as many windows of WikiText-2. Its weights then stay as they
are: logistic regression reads the mean of its last states, from all labels of TREC and SST-2, and from few. The control
is the same stack with fresh weights; beside them stands TF-IDF with logistic regression on the same texts.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from bench.understanding.records import SEEDS, Cell, Results, spread, table

SETS = {"trec": "TREC", "sst2": "SST-2"}
FRESH = "fresh"
OBJECTIVES = {
    FRESH: "none: fresh weights",
    "mlm-dynamic": "masked words",
    "mlm-word": "masked, whole words",
    "mlm-span": "masked, spans",
    "mlm-permuted": "permutation",
    "mlm-nsp": "masked + next sentence",
    "mlm-sop": "masked + sentence order",
    "electra": "replaced tokens",
    "electra, 50": "replaced tokens, the detector weighs 50 as published",
    "prefix-lm": "prefix LM",
    "span-lm": "spans told behind the text",
    "fim": "fill in the middle",
}
CHANGED = {
    FRESH: ("mlm-dynamic", ()),
    "electra, 50": ("electra", ("task.masked_language_model.objective.replaced_tokens.weight=50",)),
}
"""What is not a recipe as it is: which one, and overrides."""
REPEATED = (FRESH, "mlm-dynamic", "electra")
"""Those with three seeds; a run takes minutes."""
OWN = {"mlm-dynamic": "masks new in every epoch", "mlm-static": "the same masks in all epochs"}
"""What the articles are masked with that are read several times over."""
ARTICLES = 20
FEW = 20
DRAWS = 3
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
PROBES = [(data, few) for data in SETS for few in (True, False)]


def main(results: Results) -> str:
    """Pretrain, probe, and write the tables."""
    import torch

    torch.set_num_threads(1)
    cells, own = _measured(results)
    counted = [results.cell("TF-IDF", counts)]
    head = [
        "objective",
        "seeds",
        "seconds",
        "tokens an update",
        *(_title(*p) for p in PROBES),
        "perplexity, one hidden",
    ]
    lines = [[title, *_line(cells[name])] for name, title in OBJECTIVES.items()]
    lines.append(["TF-IDF + LR, no pretraining", "–", "–", "–", *(spread(counted, _key(*p)) for p in PROBES), "–"])
    again = [[title, *_line(own[name])] for name, title in OWN.items()]
    return "\n\n".join(
        [
            "## Pretraining objectives at equal steps",
            "    python -m bench.understanding pretraining",
            f"{results.machine()} {_setting(cells)}",
            table(head, lines),
            _verdict(cells, counted),
            _asked(cells),
            f"Masks that are drawn once and masks that are drawn anew are the same masks in the first epoch, and the "
            f"runs above end within the second. So both were trained once more on the first {ARTICLES} articles, "
            f"given as a file of one's own: {_epochs(own)} epochs.",
            table(head, again),
            "All weights fine-tuned by the recipes for TREC and SST-2; both lines are the stack of masked words, seed "
            "by seed, and differ in the weights that it starts from. Accuracy on test, %.",
            table(["start", *SETS.values()], [[title, *line] for title, line in _tuned_lines(results)]),
        ]
    )


def _title(data: str, few: bool) -> str:
    return f"{SETS[data]}, {f'{FEW} a label' if few else 'all labels'}"


def _key(data: str, few: bool) -> str:
    return f"{data} {'few' if few else 'all'}"


def _line(cells: Sequence[Cell]) -> list[str]:
    hidden = spread(cells, "pseudo_perplexity", 1, 0)
    probes = (spread(cells, _key(*probe)) for probe in PROBES)
    trained = [cell for cell in cells if "steps" in cell]
    return [str(len(cells)), spread(trained, "seconds", 1, 0), spread(cells[:1], "update", 1, 0), *probes, hidden]


def _setting(cells: dict[str, list[Cell]]) -> str:
    """What the numbers are of."""
    runs = [cell for name, found in cells.items() if name != FRESH for cell in found]
    steps, parameters = ({cell[figure] for cell in runs} for figure in ("steps", "parameters"))
    sizes = f"{min(parameters, default=0) / 1e6:.1f} to {max(parameters, default=0) / 1e6:.1f}"
    return (
        f"{' / '.join(f'{n:,}' for n in sorted(steps))} updates of every objective; {sizes} million weights. Accuracy "
        f"in per cent of logistic regression on the mean of the frozen states, C chosen on dev; with {FEW} examples a "
        f"label the mean of {DRAWS} draws; mean and range over seeds. TREC's test is a tenth of its training file, "
        "SST-2's its dev file: figures are not those of published test files. Last column: the perplexity of each "
        "token of the same dev windows when it alone is hidden; in the generator's words for replaced tokens. "
        "Decoders read a text in both directions, as a prefix, but for the causal one that fills in the middle."
    )


def _verdict(cells: dict[str, list[Cell]], counted: Sequence[Cell]) -> str:
    """Who is above the untrained encoder, and above counting words; from the cells."""
    said = []
    for data, few in PROBES:
        key = _key(data, few)
        known = {name: [cell[key] for cell in found if key in cell] for name, found in cells.items()}
        if not all(known.values()) or not counted[0]:
            return "Not measured yet."
        means = {name: statistics.mean(values) for name, values in known.items()}
        above = [OBJECTIVES[name] for name, mean in means.items() if name != FRESH and mean > max(known[FRESH])]
        best = max(means, key=lambda name: means[name])
        gap = 100 * (means[best] - counted[0][key])
        named = f" ({'; '.join(above)})" if 0 < len(above) < len(means) - 1 else ""
        said.append(
            f"{_title(data, few)}: above every untrained encoder are {len(above)} of {len(means) - 1} objectives"
            f"{named}; best is {OBJECTIVES[best]}, {abs(gap):.1f} points {'above' if gap > 0 else 'below'} TF-IDF."
        )
    return "\n".join(f"- {line}" for line in said)


ASKED = {
    "mlm-nsp": ("pair_accuracy", "next sentences judged right"),
    "mlm-sop": ("pair_accuracy", "orders judged right"),
    "electra": ("detection_f1", "F1 of replaced tokens"),
}


def _asked(cells: dict[str, list[Cell]]) -> str:
    """What each objective itself asks, on dev."""
    parts = [f"{title} {spread(cells[name], figure)} %" for name, (figure, title) in ASKED.items()]
    gaps = [spread(cells["fim"], f"middle{kind}_loss", 1, 2) for kind in ("", "_without_suffix")]
    parts.append(f"a middle told with what follows it {gaps[0]} nat a token, without {gaps[1]}")
    return f"Their own questions, on dev: {'; '.join(parts)}."


def _epochs(own: dict[str, list[Cell]]) -> str:
    return " / ".join(sorted({f"{cell['epochs']:.1f}" for found in own.values() for cell in found})) or "some"


def _measured(results: Results) -> tuple[dict[str, list[Cell]], dict[str, list[Cell]]]:
    """The cells by objective, on WikiText-2 and on a file; the first seed of all before the second of any."""
    cells: dict[str, list[Cell]] = {name: [] for name in OBJECTIVES}
    own: dict[str, list[Cell]] = {name: [] for name in OWN}
    for seed in SEEDS:
        for name in OBJECTIVES if seed == SEEDS[0] else REPEATED:
            cells[name] += results.seeds(name, partial(_run, results, name, False), (seed,))
    for name in OWN:
        own[name] += results.seeds(f"own {name}", partial(_run, results, name, True), SEEDS[:1])
    return cells, own


def _run(results: Results, name: str, own: bool, seed: int) -> Cell:
    """Train, or go on with, a run, and probe it. Fresh weights are those that the run of that seed begins with."""
    from qkv.runtime import seed_everything
    from qkv.tasks import model as models
    from qkv.tasks.folder import open_run
    from qkv.tasks.task import System
    from qkv.tasks.train import train

    recipe, folder = _recipe(results, name, own, seed)
    task = recipe.task
    if name == FRESH:
        tokenizers = task.learn([], recipe.tokenizers)
        seed_everything(seed)
        system = System(models.fresh(recipe.model_config, tokenizers, task).eval(), tokenizers)
        return {**_told(system, task), **probed(system)}
    result = train(recipe, folder, say=lambda _: None)
    system = open_run(folder).system
    found: Cell = {"seconds": result.elapsed, "steps": result.step, "parameters": models.parameters(system.model)}
    if own:
        rows = task.batches(task.load(recipe.data, "train"), system.tokenizers)
        found["epochs"] = result.step * task.size / len(rows)  # type: ignore[union-attr]
    return {**found, **_told(system, task), **probed(system)}


def _recipe(results: Results, name: str, own: bool, seed: int) -> tuple[Any, Path]:
    """What trains an objective, and the folder of its run."""
    from qkv.tasks import recipe as recipes

    base, overrides = CHANGED.get(name, (name, ()))
    recipe = recipes.load(base, [f"training.seed={seed}", *overrides, *_given(results, name, own)])
    return recipe, results.runs / f"{'own-' if own else ''}{name}-{seed}"


STARTS = {FRESH: "fresh weights", "mlm-dynamic": "after masked words"}


def _tuned_lines(results: Results) -> list[tuple[str, list[str]]]:
    """Accuracy after fine-tuning, a line for each start."""
    cells = {
        (name, data): results.seeds(f"{data} from {name}", partial(_tuned, results, name, data))
        for data in SETS
        for name in STARTS
    }
    return [(title, [spread(cells[name, data], "accuracy") for data in SETS]) for name, title in STARTS.items()]


def _tuned(results: Results, name: str, data: str, seed: int) -> Cell:
    """A recipe for labelled texts that starts from the masked words of that seed, or from its model with weights that
    were never trained."""
    from qkv.decoding import Greedy
    from qkv.runtime import seed_everything
    from qkv.tasks import model as models
    from qkv.tasks import recipe as recipes
    from qkv.tasks.folder import open_run
    from qkv.tasks.task import System
    from qkv.tasks.train import train

    words, folder = _recipe(results, "mlm-dynamic", False, seed)
    train(words, folder, say=lambda _: None)  # most often only found
    start = open_run(folder)
    if name == FRESH:
        tokenizers = start.system.tokenizers
        seed_everything(seed)
        untrained = models.fresh(start.recipe.model_config, tokenizers, start.recipe.task).eval()
        start = replace(start, system=System(untrained, tokenizers))
    out = results.runs / "tuned"
    shutil.rmtree(out, ignore_errors=True)
    recipe = recipes.load(data, [f"training.seed={seed}", "training.tensorboard=false"])
    result = train(recipe, out, say=lambda _: None, start=start)
    run = open_run(out)
    return {**run.recipe.task.evaluate(run.system, labelled(data, "test"), Greedy()), "seconds": result.elapsed}


def _given(results: Results, name: str, own: bool) -> list[str]:
    """Overrides: the encoders' tokenizer, which is learned once, and the file of one's own."""
    found = ["training.tensorboard=false"]
    if name.startswith(("mlm", "electra", FRESH)):
        path = _tokenizer(results.runs / "target.json")
        found.append(f"tokenizers={json.dumps({'target': {'file': {'path': str(path)}}})}")
    return [*found, *_own_text(results)] if own else found


def _tokenizer(path: Path) -> Path:
    """The file of what the encoders' recipes learn, all the same of the same texts."""
    from qkv.tasks import recipe as recipes

    if not path.exists():
        recipe = recipes.load("mlm-dynamic")
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe.task.learn(recipe.task.load(recipe.data, "train"), recipe.tokenizers).target.save(path)
    return path


def _own_text(results: Results) -> list[str]:
    """The first articles as a file, and the overrides that name it. Dev stays as it is."""
    from qkv.data.wikitext import Wikitext2

    parts: dict[Any, int | None] = {"train": ARTICLES, "dev": None}
    paths = {split: results.runs / f"{split}.jsonl" for split in parts}
    results.runs.mkdir(parents=True, exist_ok=True)
    for split, count in parts.items():
        lines = [json.dumps({"text": text}) + "\n" for text in Wikitext2().load(split)[:count]]
        paths[split].write_text("".join(lines), encoding="utf-8")
    return [f"data={json.dumps({split: str(path) for split, path in paths.items()})}"]


def _told(system: Any, task: Any) -> Cell:
    """The task's own measures on a few articles of dev, and the tokens of an update."""
    from qkv.data.wikitext import Wikitext2
    from qkv.decoding import Greedy
    from qkv.tasks.task import spaced

    if hasattr(task, "pseudo"):
        task = replace(task, pseudo=4)
    rows = spaced(Wikitext2().load("dev"), 8)
    source = task.batches(rows, system.tokenizers)
    tokens = statistics.mean(len(source.row(i).ids) for i in range(len(source)))
    return {"update": task.size * tokens, **task.evaluate(system, rows, Greedy())}


@cache
def labelled(data: str, split: str) -> list[Any]:
    """The rows of TREC or SST-2."""
    from qkv.tasks import recipe as recipes

    recipe = recipes.load(data)
    return recipe.task.load(recipe.data, split)  # type: ignore[arg-type]


def samples(data: str, few: bool) -> list[list[Any]]:
    """The rows to learn from: all of them, or so many draws of few of each label."""
    from qkv.tasks.fewshot import shots

    rows = labelled(data, "train")
    return [shots(rows, FEW, seed) for seed in range(DRAWS)] if few else [rows]


def probed(system: Any) -> Cell:
    """Accuracy of logistic regression on mean states, standardised; its strength is chosen on dev."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    found: Cell = {}
    for data in SETS:
        rows = {split: labelled(data, split) for split in ("train", "dev", "test")}
        labels = {split: [row.labels[0] for row in own] for split, own in rows.items()}
        states = {split: mean_states(system, [row.text for row in own]) for split, own in rows.items()}
        place = {id(row): i for i, row in enumerate(rows["train"])}
        for few in (True, False):
            reached = []
            for some in samples(data, few):
                chosen = [place[id(row)] for row in some]
                fits = [make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300)) for c in STRENGTHS]
                for model in fits:
                    model.fit(states["train"][chosen], [labels["train"][i] for i in chosen])
                best = max(fits, key=lambda model: model.score(states["dev"], labels["dev"]))
                reached.append(best.score(states["test"], labels["test"]))
            found[_key(data, few)] = statistics.mean(reached)
    return found


def counts() -> Cell:
    """TF-IDF with logistic regression from the same texts."""
    from bench.understanding import classify
    from qkv.baselines import tfidf

    found: Cell = {}
    for data, few in PROBES:
        (dev, dev_labels), (test, right) = (classify.columns(labelled(data, split)) for split in ("dev", "test"))
        reached = []
        for some in samples(data, few):
            model = tfidf.learn(*classify.columns(some), dev, dev_labels, classify.LATIN[:2])
            reached.append(classify.measures(model.predict(test), right)["accuracy"])
        found[_key(data, few)] = statistics.mean(reached)
    return found


def mean_states(system: Any, texts: list[str]) -> Any:
    """The mean of a model's last states over the tokens of each text, [N,E] as an array; a decoder that opens a prefix
    is given the text as one."""
    import numpy as np
    import torch

    from qkv.data.batch import pad
    from qkv.models import pooled
    from qkv.nn import Tokens
    from qkv.tasks.reading import framed

    model = system.model
    ids = [x for x, _ in framed(system.tokenizers, texts, [None] * len(texts), 128)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = np.empty((len(ids), model.config.stack.d_model), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            tokens = Tokens.from_lengths([len(ids[i]) for i in chosen])
            tokens = tokens.with_fields(prefix=tokens.valid.long())
            read = pad([ids[i] for i in chosen])
            states = model.encode(read, tokens).x if hasattr(model, "encode") else model(read, tokens)
            found[chosen] = pooled(states, tokens).numpy()
    return found
