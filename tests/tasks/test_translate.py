"""Translate: examples, answers in order, lengths, and what is measured."""

from __future__ import annotations

import pytest
import torch

from qkv.data.buckets import BucketConfig
from qkv.data.files import Pair
from qkv.decoding import Beam, Greedy, Sample
from qkv.errors import UserError
from qkv.models import vaswani
from qkv.tasks.model import fresh
from qkv.tasks.task import System, spaced
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.translate import Translate
from qkv.text import Characters, Tokenizer, Words

ROWS = [Pair("abc", ("X Y", "Y")), Pair("b", ("Z",)), Pair("ca", ("X",))]
TASK = Translate()
TOKENIZERS = TASK.learn(ROWS, TokenizersConfig(source=Characters(), target=Words()))


@pytest.fixture
def system() -> System:
    return System(fresh(vaswani("tiny", shared_embedding=False), TOKENIZERS).eval(), TOKENIZERS)


def test_training_uses_every_reference_and_the_dev_loss_the_first() -> None:
    assert len(TASK.batches(ROWS, TOKENIZERS, seed=0)) == 4
    assert len(TASK.batches(ROWS, TOKENIZERS)) == 3
    assert len(TASK.batches(ROWS, TOKENIZERS, limit=2)) == 2


def test_a_foreign_tokenizers_specials_replace_ours() -> None:
    source = TOKENIZERS.source
    assert source is not None
    foreign = Tokenizer(TOKENIZERS.target.backend, {"pad": 0, "bos": 6, "eos": 5})
    own = type(TOKENIZERS)(foreign, source)
    batch = TASK.batches(ROWS, own).load([0, 1])
    assert batch.ids[:, 0].tolist() == [6, 6]
    ends = batch.tokens.valid.sum(1) - 1
    assert batch.targets[torch.arange(2), ends].tolist() == [5, 5]
    assert batch.source_ids is not None and batch.source_ids[0, 3] == source.eos_id


def test_answers_come_in_order_and_do_not_depend_on_their_neighbours(system: System) -> None:
    texts = ["abcabc", "a", "bcbca", "ab", "c"]
    together = TASK.predict(system, texts, Beam(3))
    alone = [TASK.predict(system, [text], Beam(3))[0] for text in texts]
    assert [p.source for p in together] == texts
    assert [p.texts for p in together] == [p.texts for p in alone]
    assert [p.scores[0] for p in together] == pytest.approx([p.scores[0] for p in alone], abs=1e-4)


def test_sampling_depends_on_the_number_of_the_text_not_on_the_batch(system: System) -> None:
    texts = ["abc", "abc", "abc", "abc"]
    whole = TASK.predict(system, texts, Sample(seed=1))
    halves = TASK.predict(system, texts[:2], Sample(seed=1)) + TASK.predict(system, texts[2:], Sample(seed=1), first=2)
    assert [p.text for p in whole] == [p.text for p in halves] and len({p.text for p in whole}) > 1


def test_an_answer_ends_by_the_limit(system: System) -> None:
    for chooser in (Greedy(), Sample(seed=2)):
        [prediction] = TASK.predict(system, ["abc"], chooser, max_new=2)
        assert len(prediction.text.split()) <= 2


def test_no_answer_holds_a_token_that_stands_for_no_text(system: System) -> None:
    with torch.no_grad():
        system.model.head.weight[:4] += 0.0
    for prediction in TASK.predict(system, ["abc"] * 8, Sample(n=4, temperature=5.0), max_new=12):
        for text, finished in zip(prediction.texts, prediction.finished, strict=True):
            assert finished or len(text.split()) == 12


def test_a_long_text_is_refused_by_number(system: System) -> None:
    with pytest.raises(UserError, match="text 2 has 9 tokens, and at most 7 are allowed"):
        Translate(longest=8).predict(system, ["abc", "abcabcabc"], Greedy())
    with pytest.raises(UserError, match="text 130 has 9 tokens"):  # of a stream, whose earlier texts are answered
        Translate(longest=8).predict(system, ["abc", "abcabcabc"], Greedy(), first=128)


def test_no_texts_no_answers(system: System) -> None:
    assert TASK.predict(system, [], Greedy()) == []


def test_pronunciations_with_stress_get_both_rows() -> None:
    task = Translate(measure="pronunciation")
    scores = task.score(["AH0 B", "K"], [["AH1 B"], ["K"]])
    assert scores["word_error"] == 0.0 and scores["word_error_with_stress"] == 0.5
    assert scores["phoneme_error_with_stress"] == pytest.approx(1 / 3)
    assert "word_error_with_stress" not in task.score(["AH B"], [["AH B"]])


def test_a_dataset_of_single_texts_is_refused() -> None:
    class Single:
        rows = "texts"

    with pytest.raises(UserError, match="needs pairs of texts"):
        TASK.load(Single(), "train")


def test_spaced_rows_cover_the_whole() -> None:
    assert spaced(list(range(10)), 4) == [0, 2, 5, 7] and spaced([1, 2], 5) == [1, 2] and spaced([1], None) == [1]


def test_the_batches_setting_is_used() -> None:
    task = Translate(batch=BucketConfig(tokens=8))
    assert max(len(b) for b in task.batches(ROWS, TOKENIZERS, seed=0).plan(0)) <= 2
