"""The convolutional encoder: its formula in loops, padding and batches that change nothing, a run like any other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qkv.baselines.convolution import Convolution, ConvolutionConfig
from qkv.decoding import Greedy
from qkv.models import Choice, EmbeddingConfig, Reader
from qkv.nn import Tokens
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.train import train

CONFIG = Convolution(EmbeddingConfig(vocab_size=9, dropout=0.0), d_embedding=4, widths=(1, 2, 3), filters=5)


def test_every_value_and_gradient_is_the_loops() -> None:
    torch.manual_seed(0)
    encoder = CONFIG.build().double()
    ids = torch.tensor([[5, 6, 7, 8], [8, 5, 0, 0]])
    found = encoder(ids, Tokens.from_lengths([4, 2]))
    assert found.shape == (2, 4, CONFIG.d_model)
    table = encoder.token.weight
    slow = torch.zeros(2, 4, 15, dtype=torch.float64)
    for row, length in enumerate((4, 2)):
        for t in range(4):
            for bank, width in enumerate(CONFIG.widths):
                weight, bias = encoder.banks[bank].weight, encoder.banks[bank].bias
                h = bias
                for k in range(width):
                    at = t + k - (width - 1) // 2
                    if 0 <= at < length:
                        h = h + weight[:, :, k] @ table[ids[row, at]]
                slow[row, t, bank * 5 : (bank + 1) * 5] = h.relu()
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-12)
    weights = list(encoder.parameters())
    factor = torch.randn_like(slow)
    one = torch.autograd.grad((found * factor).sum(), weights, retain_graph=True)
    other = torch.autograd.grad((slow * factor).sum(), weights)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_padding_changes_nothing_whatever_stands_there() -> None:
    torch.manual_seed(0)
    reader = Reader(ConvolutionConfig(CONFIG), {"label": Choice("max", dropout=0.0)}, {"label": [3, 1]}).eval()
    alone = reader(torch.tensor([[5, 6]]), Tokens.from_lengths([2]))["label"]
    for junk in (0, 7):
        ids = torch.tensor([[5, 6, junk, junk], [5, 6, 7, 8]])
        among = reader(ids, Tokens.from_lengths([2, 4]))["label"][:1]
        torch.testing.assert_close(among, alone, rtol=0, atol=1e-6)


def test_what_cannot_be() -> None:
    for change in ({"widths": ()}, {"widths": (0,)}, {"filters": 0}, {"d_embedding": 0}):
        with pytest.raises(ValueError, match="give"):
            replace(CONFIG, **change)
    with pytest.raises(ValueError, match="vocab_size is 0"):
        Convolution().build()


def test_a_run_trains_and_opens_like_any_other(tmp_path: Path) -> None:
    lines = [f"{w} film {i}\t{label}" for i in range(20) for w, label in (("not bad", "y"), ("bad not", "n"))]
    (tmp_path / "train.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n")
    parts = {
        "task": {"classify": {"output": {"choice": {"pooling": "max", "dropout": 0.5}}}},
        "data": {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "train.tsv")},
        "tokenizers": {"target": "words"},
        "model": {"convolution": {"stack": {"d_embedding": 16, "widths": [2, 3], "filters": 8}}},
        "training": {
            "max_steps": 40,
            "learning_rate": 1e-2,
            "schedule": "constant",
            "threads": 1,
            "tensorboard": False,
        },
    }
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    assert isinstance(run.recipe.model_config, ConvolutionConfig)
    task = run.recipe.task
    assert [p.text for p in task.predict(run.system, ["not bad film 3", "bad not film 3"], Greedy())] == ["y", "n"]
    assert task.evaluate(run.system, task.load(run.recipe.data, "dev"), Greedy())["accuracy"] == 1.0
