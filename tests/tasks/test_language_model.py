"""LanguageModel: streams, packing, continuing, and a loss that is the model's own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from qkv.data.packing import PackingConfig
from qkv.data.windows import WindowConfig
from qkv.decoding import Beam, Greedy, Sample, generate
from qkv.errors import UserError
from qkv.models import gpt2
from qkv.nn import Causal, SameDocument
from qkv.tasks import language_model
from qkv.tasks.language_model import LanguageModel
from qkv.tasks.model import fresh
from qkv.tasks.task import System
from qkv.tasks.tokenizers import Tokenizers, TokenizersConfig
from qkv.text import Characters

TASK = LanguageModel(windows=WindowConfig(length=8, rows=3), max_new=5)
ROWS = ["abcabcabc", "ca", "bbabc"]
TOKENIZERS = TASK.learn(ROWS, TokenizersConfig(target=Characters()))


def make(tokenizers: Tokenizers = TOKENIZERS) -> System:
    config = gpt2(d_model=16, n_layers=1, n_heads=2, max_length=8, dropout=0.0)
    config = replace(config, stack=replace(config.stack, mask=Causal() & SameDocument()))
    return System(fresh(config, tokenizers).eval(), tokenizers)


def test_the_loss_is_the_sum_of_the_log_probabilities_window_by_window() -> None:
    system = make()
    stream = [i for row in TOKENIZERS.target.encode_batch(ROWS) for i in (1, *row)]
    nats = 0.0
    for start in range(0, len(stream) - 1, 8):
        piece = torch.tensor([stream[start : start + 9]])
        from qkv.nn import Tokens

        with torch.no_grad():
            logits = system.model.head(system.model(piece[:, :-1], Tokens.arange(1, piece.shape[1] - 1)))
        nats -= float(logits.log_softmax(-1).gather(2, piece[:, 1:, None]).sum())
    scores = TASK.evaluate(system, ROWS, Greedy())
    assert scores["tokens"] == len(stream) - 1
    assert scores["loss"] == pytest.approx(nats / scores["tokens"], rel=1e-5)
    assert scores["bits_per_char"] == pytest.approx(nats / math.log(2) / 16, rel=1e-5)


def test_packed_documents_cost_what_they_cost_alone() -> None:
    system = make()
    task = replace(TASK, packing=PackingConfig(length=8, overlong="truncate"))
    together = task.evaluate(system, ["abcab", "ca", "bb"], Greedy())
    alone = [task.evaluate(system, [row], Greedy()) for row in ("abcab", "ca", "bb")]
    assert together["tokens"] == sum(s["tokens"] for s in alone) == 12
    nats = sum(s["loss"] * s["tokens"] for s in alone)
    assert together["loss"] * together["tokens"] == pytest.approx(nats, rel=1e-5)
    # Of a document that is cut, the characters that are predicted count and no others.
    cut, short = task.evaluate(system, ["abcabcabcabc"], Greedy()), task.evaluate(system, ["abcabca"], Greedy())
    assert cut["bits_per_char"] == pytest.approx(short["bits_per_char"])


def test_training_windows_are_seeded_and_measuring_ones_are_limited() -> None:
    rows = ["abc" * 50]
    first, again, other = (TASK.batches(rows, TOKENIZERS, seed).plan(0) for seed in (1, 1, 2))
    assert first == again != other
    assert len(TASK.batches(rows, TOKENIZERS, limit=4)) == 4 < len(TASK.batches(rows, TOKENIZERS))


def test_a_continuation_begins_with_the_prompt_and_may_outgrow_the_positions() -> None:
    system = make()
    [prediction] = TASK.predict(system, ["ab"], Sample(seed=3), max_new=30)
    assert prediction.text.startswith("ab")
    assert len(prediction.text) == 32 or prediction.finished[0]
    [short] = TASK.predict(system, ["ab"], Sample(seed=3), max_new=5)
    assert prediction.text.startswith(short.text)


@pytest.mark.parametrize("chooser", [Greedy(), Sample(seed=3), Beam(width=3), Beam(width=3, n_best=2)])
def test_a_text_is_continued_in_a_batch_as_it_is_alone(chooser, monkeypatch) -> None:
    torch.manual_seed(0)
    system, texts = make(), ["ab", "", "abcabca", "c", "bca", "ab"]
    alone = [TASK.predict(system, [text], chooser, 20, first=7 + n)[0] for n, text in enumerate(texts)]
    sizes = []

    def counted(model, ids, *arguments, **options):
        sizes.append(len(ids))
        return generate(model, ids, *arguments, **options)

    monkeypatch.setattr(language_model, "generate", counted)
    together = TASK.predict(system, texts, chooser, 20, first=7)
    assert sizes[0] == len(texts)
    for one, other in zip(alone, together, strict=True):
        assert (one.source, one.texts, one.finished) == (other.source, other.texts, other.finished)
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_several_answers_end_where_the_positions_do() -> None:
    torch.manual_seed(0)
    [prediction] = TASK.predict(make(), ["ab"], Beam(width=3, n_best=3), max_new=30)
    assert {len(text) for text, end in zip(prediction.texts, prediction.finished, strict=True) if not end} == {8}


def test_an_empty_prompt_begins_at_the_beginning() -> None:
    [prediction] = TASK.predict(make(), [""], Greedy())
    assert len(prediction.texts) == 1


def test_several_answers_share_the_prompt() -> None:
    [prediction] = TASK.predict(make(), ["ab"], Beam(width=3, n_best=3), max_new=4)
    assert len(prediction.texts) == 3 and all(text.startswith("ab") for text in prediction.texts)


def test_a_prompt_that_fills_the_positions_is_refused() -> None:
    with pytest.raises(UserError, match="text 1 has 8 tokens, and the model reads 7"):
        TASK.predict(make(), ["abcabcab"], Greedy())
    with pytest.raises(UserError, match="text 129 has 8 tokens"):  # of a stream, whose earlier texts are answered
        TASK.predict(make(), ["abcabcab"], Greedy(), first=128)
