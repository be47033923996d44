"""The loop: exact accumulation, early stopping, which weights are kept, refusals."""

from __future__ import annotations

import itertools
import json
import math
import time

import pytest
import torch
from torch import nn

from qkv.errors import UserError
from qkv.training.averaging import average_checkpoints
from qkv.training.fit import fit
from qkv.training.losses import TokenCrossEntropy
from qkv.training.optim import Sgd
from qkv.training.schedules import Constant, Linear
from qkv.training.weights import load_weights, weights

from . import kit

PARTS = [[0, 1], [2, 3, 4, 5, 6], [7]]


def train(out, source, **changes):
    model = kit.model(dtype=torch.float64)
    fit(model, TokenCrossEntropy(0.1), source, kit.config(**changes), out)
    return weights(model)


def distance(a, b):
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def test_micro_batches_are_one_batch_on_ragged_lengths(tmp_path):
    settings = dict(max_steps=3, optimizer=Sgd(), learning_rate=0.5, clip_norm=0.3)
    whole = train(tmp_path / "one", kit.Ragged(plan=[list(itertools.chain(*PARTS))]), **settings)
    parts = train(tmp_path / "three", kit.Ragged(plan=PARTS), accumulate=3, **settings)
    assert distance(whole, parts) < 1e-12


def test_a_mean_of_means_would_differ(tmp_path):
    """The control: the same micro-batches, each divided by its own count."""

    class MeanOfMeans(TokenCrossEntropy):
        def __call__(self, model, batch):
            return {n: (total / count, 1.0, w) for n, (total, count, w) in super().__call__(model, batch).items()}

        def counts(self, batch):
            return {"cross_entropy": 1.0}

    settings = dict(max_steps=1, optimizer=Sgd(), learning_rate=0.5, clip_norm=None)
    exact = train(tmp_path / "exact", kit.Ragged(plan=[list(itertools.chain(*PARTS))]), **settings)
    model = kit.model(dtype=torch.float64)
    fit(model, MeanOfMeans(0.1), kit.Ragged(plan=PARTS), kit.config(accumulate=3, **settings), tmp_path / "means")
    assert distance(exact, weights(model)) > 1e-3


def test_epochs_follow_each_other_without_gaps(tmp_path):
    seen = []

    class Recording(kit.Ragged):
        def load(self, indices):
            seen.append(indices)
            return super().load(indices)

    source = Recording(examples=10, rows=3)
    train(tmp_path, source, max_steps=3, accumulate=3)
    assert seen == list(itertools.chain(source.plan(0), source.plan(1), source.plan(2)))[:9]


def test_several_terms_are_divided_apart_and_weighted(tmp_path):
    """total = Σ weight · sum / count: two copies of a loss, one halved in weight, make 1.5 of it."""

    class Two(TokenCrossEntropy):
        def __call__(self, model, batch):
            [(total, count, _)] = super().__call__(model, batch).values()
            return {"whole": (total, count, 1.0), "half": (3 * total, 3.0 * count, 0.5)}

        def counts(self, batch):
            [count] = super().counts(batch).values()
            return {"whole": count, "half": 3.0 * count}

    settings = dict(max_steps=2, optimizer=Sgd(), clip_norm=None, log_every=1)
    one = train(tmp_path / "one", kit.Ragged(), learning_rate=0.15, **settings)
    model = kit.model(dtype=torch.float64)
    fit(model, Two(0.1), kit.Ragged(), kit.config(learning_rate=0.1, **settings), tmp_path / "two")
    assert distance(one, weights(model)) < 1e-12
    single, double = kit.metrics(tmp_path / "one")[0], kit.metrics(tmp_path / "two")[0]
    assert double["loss"] == pytest.approx(1.5 * single["loss"])
    assert double["whole"] == pytest.approx(single["loss"]) == pytest.approx(2 * double["half"])


def test_the_log_is_the_mean_over_tokens(tmp_path):
    source, loss, model = kit.Ragged(), TokenCrossEntropy(), kit.model()
    batches = [source.load(rows) for rows in source.plan(0)[:4]]
    terms = [loss(model, batch)["cross_entropy"] for batch in batches]
    expected = sum(float(total) for total, _, _ in terms) / sum(count for _, count, _ in terms)
    cells = sum(b.ids.numel() + b.source_ids.numel() for b in batches)
    valid = sum(int(b.tokens.valid.sum() + b.source_tokens.valid.sum()) for b in batches)
    # A rate that moves nothing, so that every step measures the same weights.
    settings = dict(max_steps=4, log_every=4, learning_rate=1e-30, schedule=Linear(0, 0.5))
    fit(model, loss, source, kit.config(**settings), tmp_path)
    [line] = kit.metrics(tmp_path)
    assert line["loss"] == pytest.approx(expected, rel=1e-5)
    assert line["padding"] == pytest.approx(1 - valid / cells)
    assert line["learning_rate"] == pytest.approx(0.5e-30)


def test_the_rate_is_that_of_the_update_being_made(tmp_path):
    settings = dict(max_steps=5, log_every=1, learning_rate=0.01, schedule=Constant(warmup=4))
    fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), kit.config(**settings), tmp_path)
    rates = [line["learning_rate"] for line in kit.metrics(tmp_path)]
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])


def test_clipping_bounds_the_joint_norm(tmp_path):
    start = weights(kit.model(dtype=torch.float64))
    end = train(tmp_path, kit.Ragged(), max_steps=1, optimizer=Sgd(), learning_rate=1.0, clip_norm=0.01)
    assert math.sqrt(sum(float((end[n] - start[n]).square().sum()) for n in end)) == pytest.approx(0.01, rel=1e-3)


def test_early_stopping_keeps_the_best(tmp_path):
    losses = {1: 5.0, 2: 6.0, 3: 3.0, 4: 4.0, 5: 3.0, 6: math.nan, 7: 1.0}
    seen = {}

    def evaluate(model, step):
        assert not model.training and not torch.is_grad_enabled()
        torch.rand(7)  # must not disturb training
        seen[step] = {n: t.clone() for n, t in weights(model).items()}
        return {"score": losses[step], "other": step}

    model = kit.model(dropout=0.1)
    settings = kit.config(eval_every=1, patience=3, metric="score", max_steps=7)
    result = fit(model, TokenCrossEntropy(), kit.Ragged(), settings, tmp_path / "a", evaluate=evaluate)
    assert (result.step, result.reason, result.metrics) == (6, "patience", {"score": 3.0, "other": 3.0})
    assert "step 3" in result.weights and "score" in result.weights
    assert distance(weights(model), seen[3]) == 0 == distance(load_weights(tmp_path / "a/model.safetensors"), seen[3])
    assert distance(seen[3], seen[6]) > 0 and not model.training
    plain = kit.model(dropout=0.1)
    fit(plain, TokenCrossEntropy(), kit.Ragged(), kit.config(max_steps=6), tmp_path / "b")
    assert distance(weights(plain), seen[6]) == 0


def test_more_can_be_better(tmp_path):
    settings = kit.config(eval_every=1, metric="bleu", mode="max", max_steps=4)
    scores = {1: 1.0, 2: 9.0, 3: 2.0, 4: 3.0}
    result = fit(
        kit.model(),
        TokenCrossEntropy(),
        kit.Ragged(),
        settings,
        tmp_path,
        evaluate=lambda m, step: {"bleu": scores[step]},
    )
    assert result.metrics == {"bleu": 9.0}


def test_last_checkpoints_are_averaged(tmp_path):
    model = kit.model()
    settings = kit.config(checkpoint_every=2, keep_checkpoints=3, average_last=3)
    measured = []

    def evaluate(m, step):
        measured.append({n: t.clone() for n, t in weights(m).items()})
        return {"loss": 1.0}

    result = fit(model, TokenCrossEntropy(), kit.Ragged(), settings, tmp_path, evaluate=evaluate)
    folders = [tmp_path / "checkpoints" / f"step-{n}" for n in (4, 6, 8)]
    mean = average_checkpoints(folders)
    kept = [load_weights(folder / "model.safetensors") for folder in folders]
    assert distance(mean, {n: sum(tensors[n] for tensors in kept) / 3 for n in mean}) < 1e-6
    assert distance(*kept[:2]) > 1e-4
    assert distance(weights(model), mean) == 0 and "4, 6, 8" in result.weights
    assert distance(measured[-1], mean) == 0


def test_only_regular_checkpoints_are_averaged(tmp_path):
    settings = kit.config(checkpoint_every=3, eval_every=1, keep_checkpoints=1, average_last=2)
    improving = {"evaluate": lambda m, step: {"loss": -step}}  # every step is the best so far, and is saved
    result = fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), settings, tmp_path / "a", **improving)
    assert result.weights == "mean of the weights at steps 3, 6"
    assert sorted(p.name for p in (tmp_path / "a/checkpoints").iterdir()) == ["step-3", "step-6", "step-8"]
    settings = kit.config(max_steps=2, checkpoint_every=3, average_last=2)
    result = fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), settings, tmp_path / "b")
    assert result.weights == "mean of the weights at steps 2"  # it ended before the first


def test_the_rate_of_tokens_is_of_training_only(tmp_path):
    source = kit.Ragged()

    def slow(model, step):
        time.sleep(0.5)
        return {"loss": -step}

    fit(kit.model(), TokenCrossEntropy(), source, kit.config(eval_every=1), tmp_path, evaluate=slow)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    before, after = (line for line in lines if line["kind"] == "train" and line["step"] in (4, 6))
    tokens = sum(int(source.load(rows).tokens.valid.sum()) for rows in source.plan(0)[4:6])
    assert after["elapsed"] - before["elapsed"] > 1.0
    assert tokens / after["tokens_per_second"] < 0.5


def test_the_moving_average_is_evaluated_and_kept(tmp_path):
    decay, model, history, seen = 0.8, kit.model(), [], {}

    class Recording(TokenCrossEntropy):
        def __call__(self, m, batch):
            history.append({n: p.detach().double().clone() for n, p in m.named_parameters()})
            return super().__call__(m, batch)

    def evaluate(m, step):
        seen.update({n: p.detach().clone() for n, p in m.named_parameters()})
        return {"loss": 1.0}

    fit(model, Recording(), kit.Ragged(), kit.config(max_steps=6, ema_decay=decay), tmp_path, evaluate=evaluate)
    history.append({n: t.double() for n, t in load_weights(tmp_path / "checkpoints/step-6/model.safetensors").items()})
    expected = history[0]
    for step, now in enumerate(history[1:], 1):
        d = min(decay, (1 + step) / (10 + step))
        expected = {n: d * expected[n] + (1 - d) * now[n] for n in expected}
    assert distance(expected, {n: t.double() for n, t in seen.items()}) < 1e-6
    assert distance(seen, dict(model.named_parameters())) == 0
    assert distance(seen, load_weights(tmp_path / "checkpoints/step-6/model.safetensors")) > 1e-4


def test_a_loss_that_is_not_finite_stops_with_the_checkpoint_intact(tmp_path):
    class Breaking(TokenCrossEntropy):
        calls = 0

        def __call__(self, model, batch):
            terms = super().__call__(model, batch)
            self.calls += 1
            return {n: (t * (math.inf if self.calls == 6 else 1), c, w) for n, (t, c, w) in terms.items()}

    settings = kit.config(checkpoint_every=2, log_every=100, keep_checkpoints=9)
    with pytest.raises(UserError, match=r"step 6.*learning_rate"):
        fit(kit.model(), Breaking(), kit.Ragged(), settings, tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-2", "step-4"]
    assert not (tmp_path / "run.json").exists()
    assert fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), settings, tmp_path).step == 8


def test_what_is_not_exact_is_refused(tmp_path):
    class Contrast(TokenCrossEntropy):
        additive = False

    with pytest.raises(UserError, match="Contrast is not a sum"):
        fit(kit.model(), Contrast(), kit.Ragged(), kit.config(accumulate=2), tmp_path / "a")
    assert fit(kit.model(), Contrast(), kit.Ragged(), kit.config(max_steps=1), tmp_path / "b").step == 1
    model = kit.model()
    model.extra = nn.BatchNorm1d(4)
    with pytest.raises(UserError, match="extra normalises over its batch"):
        fit(model, TokenCrossEntropy(), kit.Ragged(), kit.config(accumulate=2), tmp_path / "c")


def test_unknown_metric_and_empty_data_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"metric.*'loss'.*bleu"):
        settings = kit.config(max_steps=1)
        fit(kit.model(), TokenCrossEntropy(), kit.Ragged(), settings, tmp_path / "a", evaluate=lambda m, s: {"bleu": 1})
    with pytest.raises(UserError, match="not a single batch"):
        fit(kit.model(), TokenCrossEntropy(), kit.Ragged(plan=[]), kit.config(), tmp_path / "b")


def test_bf16_trains_and_keeps_fp32_weights(tmp_path):
    model = kit.model()
    settings = kit.config(precision="bf16", max_steps=20, log_every=10)
    fit(model, TokenCrossEntropy(), kit.Ragged(), settings, tmp_path)
    first, last = kit.metrics(tmp_path)
    assert last["loss"] < first["loss"]
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_finished_run_is_loaded_not_trained(tmp_path):
    first, second = kit.model(), kit.model()
    result = fit(first, TokenCrossEntropy(), kit.Ragged(), kit.config(), tmp_path)
    log = (tmp_path / "metrics.jsonl").read_bytes()
    assert fit(second, TokenCrossEntropy(), kit.Ragged(), kit.config(), tmp_path) == result
    assert distance(weights(first), weights(second)) == 0
    assert (tmp_path / "metrics.jsonl").read_bytes() == log
    assert json.loads((tmp_path / "run.json").read_text())["reason"] == "max_steps"
    with pytest.raises(UserError, match=r"training\.learning_rate.*--fresh"):
        fit(second, TokenCrossEntropy(), kit.Ragged(), kit.config(learning_rate=0.5), tmp_path)
