"""Objectives of pretraining at equal steps: what their encoders are worth on TREC and SST-2.

Every encoder is the same, reads WikiText-2 for as many updates of as many tokens, and is then probed twice: by logistic
regression on the mean of its states, its weights untouched, and by a short training of all weights. The control has the
same tokenizer and weights that nothing was learned by.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bench.understanding.records import SEEDS, Cell, Results, spread, table, trained

SETS = ("trec", "sst2")
FRESH = "fresh"
OBJECTIVES = {
    FRESH: "none (fresh weights)",
    "mlm-dynamic": "masked words, new in every epoch",
    "mlm-static": "masked words, fixed",
    "mlm-word": "whole words",
    "mlm-span": "spans",
    "mlm-permuted": "permutation",
    "mlm-nsp": "masked + next sentence",
    "mlm-sop": "masked + sentence order",
    "electra": "replaced tokens",
}
REPEATED = (FRESH, "mlm-dynamic", "electra")
"""Those with three seeds; a run takes minutes."""
STEPS = int(os.environ.get("QKV_PRETRAINING_STEPS", "0"))
"""Updates, where they are not the recipe's: for a shorter comparison, whose cells have names of their own."""
PROBE = str(Path(__file__).parent / "probe.yaml")


def main(results: Results) -> str:
    """Pretrain, probe, and write the table."""
    rows = []
    for name, title in OBJECTIVES.items():
        seeds = SEEDS if name in REPEATED else SEEDS[:1]
        pretrained = results.seeds(_key(name), lambda seed, name=name: _pretrain(results, name, seed), seeds)
        row = [title, str(len(seeds)), spread(pretrained, "seconds", 1 / 60)]
        for data in SETS:
            for kind, probe in (("linear", _linear), ("tuned", _tuned)):
                cells = results.seeds(
                    f"{kind} {data} {_key(name)}",
                    lambda seed, name=name, data=data, probe=probe: probe(results, name, data, seed),
                    seeds,
                )
                row.append(spread(cells, "accuracy"))
        rows.append(row)
    head = ["objective", "seeds", "minutes", *(f"{s.upper()} {k}" for s in SETS for k in ("linear", "tuned"))]
    steps = f"{STEPS:,} updates" if STEPS else "the recipes' updates"
    return "\n\n".join(
        [
            "## Pretraining objectives at equal steps",
            f"An encoder of 4 layers of width 128, {steps} of 32 windows of 128 tokens of WikiText-2. Accuracy in "
            "percent, mean and range over seeds: `linear` is logistic regression on the mean of the frozen states, "
            "`tuned` 600 updates of all weights. TREC's test is a tenth of its training file, SST-2's its dev file.",
            table(head, rows),
            results.machine(),
        ]
    )


def _key(name: str) -> str:
    return f"{name} {STEPS}" if STEPS else name


def _folder(results: Results, name: str, seed: int) -> Path:
    return results.runs / _key(name).replace(" ", "-") / str(seed)


def _pretrain(results: Results, name: str, seed: int) -> Cell:
    """A run. Fresh weights are a run of one update at the first rate of a warm-up: next to nothing."""
    steps = ["training.max_steps=1"] if name == FRESH else [f"training.max_steps={STEPS}"] if STEPS else []
    recipe = "mlm-dynamic" if name == FRESH else name
    overrides = [f"training.seed={seed}", "training.tensorboard=false", *steps]
    return trained(recipe, overrides, _folder(results, name, seed), ("--split", "dev", "--limit", "10"))


def _tuned(results: Results, name: str, data: str, seed: int) -> Cell:
    folder = _folder(results, name, seed)
    overrides = [f"data={data}", f"training.seed={seed}", "training.tensorboard=false", "--init", str(folder)]
    return trained(PROBE, overrides, folder.with_name(f"{seed}-{data}"), ("--split", "test"))


def _linear(results: Results, name: str, data: str, seed: int) -> Cell:
    """Logistic regression on mean states, standardised; its strength is chosen on dev."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from qkv.tasks.folder import open_run
    from qkv.tasks.recipe import load

    run = open_run(_folder(results, name, seed))
    source = load(PROBE, [f"data={data}"]).data
    rows = {split: source.load(split) for split in ("train", "dev", "test")}
    states = {split: mean_states(run.system, [row.text for row in found]) for split, found in rows.items()}
    labels = {split: [row.labels[0] for row in found] for split, found in rows.items()}
    best: tuple[float, Any] = (-1.0, None)
    for strength in (0.01, 0.1, 1.0):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        model.fit(states["train"], labels["train"])
        best = max(best, (model.score(states["dev"], labels["dev"]), model), key=lambda found: found[0])
    return {"accuracy": float(best[1].score(states["test"], labels["test"])), "dev": float(best[0])}


def mean_states(system: Any, texts: list[str]) -> Any:
    """The mean of the encoder's last states over the tokens of each text, [N,E] as an array."""
    import numpy as np
    import torch

    from qkv.data.batch import pad
    from qkv.models import pooled
    from qkv.nn import Tokens
    from qkv.tasks.reading import framed

    ids = [x for x, _ in framed(system.tokenizers, texts, [None] * len(texts), 128)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    found = np.empty((len(ids), system.model.config.stack.d_model), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            tokens = Tokens.from_lengths([len(ids[i]) for i in chosen])
            memory = system.model.encode(pad([ids[i] for i in chosen]), tokens)
            found[chosen] = pooled(memory.x, tokens).numpy()
    return found
