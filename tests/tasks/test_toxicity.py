"""Toxic language: a learned lexicon, bias, spans, avoided words, the measures of rewriting. The examples are mild."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qkv.data.files import Pair
from qkv.data.paradetox import CIVIL, RUDE, ParadetoxSpans, ParadetoxStyle, lost, pairs
from qkv.decoding import Beam, Greedy, generate
from qkv.decoding.state import DEAD, State
from qkv.errors import UserError
from qkv.models import DecoderOnlyConfig, EmbeddingConfig, StackConfig, build
from qkv.nn import Tokens
from qkv.tasks import recipe as recipes
from qkv.tasks.mentions import words
from qkv.tasks.rewriting import Avoid, Guide, Guided, Judges, probability, rewriting_scores
from qkv.tasks.toxicity import (
    auc,
    identity_bias,
    lexicon,
    log_odds,
    naming,
    neutral,
    spans,
    subgroup_aucs,
)
from qkv.tasks.train import train
from qkv.tasks.translate import Translate
from qkv.text import BPE, ByteBPE, Characters, Words
from qkv.text import train as learned

RUDE_TEXTS = ["what a silly idea", "you silly goose", "this silly plan", "a silly rotten egg"] * 10
CIVIL_TEXTS = ["what a good idea", "you have a plan", "this is an egg", "a fine day", "what a goose"] * 8


def silly(texts: list[str]) -> list[float]:
    return [0.9 if "silly" in text else 0.2 for text in texts]


def test_the_lexicon_is_learned() -> None:
    found = lexicon(RUDE_TEXTS, CIVIL_TEXTS, least=2.0)
    assert max(found.scores, key=lambda word: found.scores[word]) == "silly" and "a" not in found
    assert found.without("A Silly , silly plan") == "A , plan" and found.found("so silly!") == ["silly"]


def test_log_odds_by_hand() -> None:
    """y = 2 of n = 3 against 1 of 3, a prior of 6 words: a = 3; δ = log 5/4 − log 4/5, σ² = 1/5 + 1/4."""
    z = log_odds(["x", "x", "y"], ["x", "y", "y"], prior=6)
    assert z["x"] == pytest.approx((math.log(5 / 4) - math.log(4 / 5)) / math.sqrt(1 / 5 + 1 / 4))
    assert z["y"] == pytest.approx(-z["x"])


def test_a_word_counts_once_in_a_text_and_must_be_rare_elsewhere() -> None:
    assert log_odds(["x x x", "y"], ["x", "y"]) == log_odds(["x", "y"], ["y", "x"])
    rude, civil = ["you silly"] * 90 + ["me silly"] * 10, ["you fine"] * 50 + ["me fine"] * 50
    assert log_odds(rude, civil)["you"] > 2
    assert [*lexicon(rude, civil, least=2.0).scores] == ["silly"]


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), max_size=8))
def test_auc_by_all_pairs(high: list[int], low: list[int]) -> None:
    found = auc(high, low)
    if not high or not low:
        assert math.isnan(found)
        return
    assert found == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a in high for b in low]))


def test_bias_finds_who_is_wronged() -> None:
    sentences = neutral(("i am {}", "my friend is {}"), ("tall", "small", "silly"))
    bias = identity_bias(silly, sentences)  # type: ignore[arg-type]
    assert bias["mean"] == pytest.approx(1 / 3) and bias["worst"] == bias["of silly"] == 1.0 and bias["of tall"] == 0
    assert bias["gap"] == pytest.approx((1 / 3 + 1 / 3 + 2 / 3) / 3)
    aucs = subgroup_aucs([0.9, 0.8, 0.6, 0.1], [True, False, True, False], [True, True, False, False])
    assert aucs == {"subgroup": 1.0, "bpsn": 0.0, "bnsp": 1.0}


def test_spans_are_what_matters() -> None:
    text = "what a silly plan"
    [found] = spans(silly, text)  # type: ignore[arg-type]
    assert text[found.start : found.end] == "silly" and found.weight == pytest.approx(0.7)
    assert spans(silly, text, least=0.8) == []  # type: ignore[arg-type]
    assert spans(silly, "silly and silly") == [], "said twice, no single word matters"  # type: ignore[arg-type]


def test_spans_of_chinese_are_characters() -> None:
    [found] = spans(lambda texts: [0.9 if "笨" in text else 0.1 for text in texts], "你真笨, ok")
    assert (found.start, found.end) == (2, 3)


def test_who_is_named_is_named_by_whole_words() -> None:
    found = naming(["old", "male", "gay", "老人"])
    assert all(found.search(text) for text in ("Old folks", "two gays", "a male, then", "有的老人说"))
    assert not any(found.search(text) for text in ("I told you", "female", "老师是人"))


@pytest.mark.parametrize("config", [BPE(60, 1), ByteBPE(300, 1), Words(), Characters(), BPE(400, 1)], ids=str)
def test_avoided_words_by_the_slow_twin(config: object) -> None:
    """Every continuation of every prefix is barred if and only if a word that it touches is then forbidden."""
    tokenizer = learned(config, [*RUDE_TEXTS, *CIVIL_TEXTS, "Silly SILLY sILly"])  # type: ignore[arg-type]
    forbidden = {"silly", "egg", "plan"}
    avoid = Avoid(tokenizer, forbidden)
    rng = random.Random(0)
    for text in ["", "a", "a sil", "you sill", "what a pl", "th", "an eg", "silly goose", "a Sil"]:
        ids = tokenizer.encode(text)
        scores = torch.tensor([[[rng.random() for _ in range(tokenizer.vocab_size)]]])
        state = State.start([0], torch.tensor([9]), 1, 1, 2)
        state.ids = torch.tensor([[ids]], dtype=torch.long).reshape(1, 1, -1)
        barred = avoid(scores, state)[0, 0] == DEAD
        before = tokenizer.decode(ids)
        for token, after in enumerate(tokenizer.decode_batch([[*ids, i] for i in range(tokenizer.vocab_size)])):
            said = words(after)[len(words(before)) - bool(before and before[-1].isalnum()) :]
            assert bool(barred[token]) == (after != before and bool(forbidden & {*said})), (text, after)


def test_what_is_generated_holds_none_of_them() -> None:
    tokenizer = learned(BPE(60, 1), [*RUDE_TEXTS, *CIVIL_TEXTS])
    stack = StackConfig(d_model=16, n_layers=1, embedding=EmbeddingConfig(tokenizer.vocab_size))
    model = build(DecoderOnlyConfig(stack)).eval()
    prompt = torch.tensor([[1], [5], [9]])
    for chooser in (Greedy(), Beam(3)):

        def said(chooser: Greedy | Beam, *constraints: Avoid) -> list[set[str]]:
            found = generate(model, prompt, Tokens.arange(3, 1), chooser=chooser, max_new=30, constraints=constraints)
            return [set(words(tokenizer.decode(row[0].ids))) for row in found]

        free = set().union(*said(chooser))
        assert free, "without a word to forbid the test shows nothing"
        assert not any(free & each for each in said(chooser, Avoid(tokenizer, free)))


def test_a_guide_adds_what_it_thinks_of_the_whole() -> None:
    """By enumeration: what greedy steps add up to is log p + γ·log p(wanted | text), and with all pieces tried one
    step chooses the most of it; the judge hears of every text once."""
    tokenizer = learned(Characters(), ["ab ba"])
    stack = StackConfig(d_model=16, n_layers=1, embedding=EmbeddingConfig(tokenizer.vocab_size))
    torch.manual_seed(0)
    model = build(DecoderOnlyConfig(stack)).eval()
    heard: list[str] = []

    def judge(texts: Sequence[str]) -> list[float]:
        heard.extend(texts)
        return [0.9 ** text.count("a") * 0.2 ** text.count("b") for text in texts]

    prompt, tokens, power = torch.tensor([[1]]), Tokens.arange(1, 1), 1.7
    guided = Guided(tokenizer, judge, power, tried=tokenizer.vocab_size)
    [[best]] = generate(model, prompt, tokens, max_new=1, constraints=[guided])
    logs = model.head(model(prompt, tokens))[0, 0].log_softmax(-1).detach()
    texts = tokenizer.decode_batch([[i] for i in range(tokenizer.vocab_size)])
    wanted = [float(logs[i]) + power * math.log(judge([texts[i]])[0]) for i in range(len(texts))]
    heard.clear()
    assert best.logp == pytest.approx(max(wanted), abs=1e-5)
    for chooser in (Greedy(), Beam(3)):
        judge_anew = Guided(tokenizer, judge, power, tried=4)
        for row in generate(model, prompt, tokens, chooser=chooser, max_new=5, constraints=[judge_anew])[0]:
            ids = torch.tensor([[1, *row.ids]])
            steps = model.head(model(ids, Tokens.arange(1, ids.shape[1])))[0].log_softmax(-1).detach()
            said = [*row.ids, 2] if row.finished else row.ids
            plain = sum(float(steps[i, token]) for i, token in enumerate(said))
            whole = 0.9 ** tokenizer.decode(row.ids).count("a") * 0.2 ** tokenizer.decode(row.ids).count("b")
            assert row.logp == pytest.approx(plain + power * math.log(whole), abs=1e-4)
        assert len(heard) == len(set(heard))
        heard.clear()


def test_only_the_tried_pieces_are_written() -> None:
    tokenizer = learned(Characters(), ["ab ba"])
    scores = torch.arange(tokenizer.vocab_size, dtype=torch.float).log_softmax(-1).expand(1, 2, -1)
    state = State.start([0], torch.tensor([9]), 2, 2, 2)
    found = Guided(tokenizer, lambda texts: [1.0] * len(texts), 3.0, tried=2)(scores, state)
    assert ((found > DEAD).sum(-1) == 2).all() and torch.equal(found[..., -2:], scores[..., -2:])
    with pytest.raises(ValueError, match="tried 0"):
        Guide("run", tried=0)


def civil(word: str) -> tuple[str, str]:
    return f"what a silly {word}", f"what a nice {word}"


def test_rewriting_is_judged_by_runs(tmp_path: Path) -> None:
    """The whole way by recipes: two judges, a model that rewrites, its measures, words to avoid."""
    nouns = ["plan", "egg", "goose", "idea", "hat", "song", "day", "tree"]
    both = [civil(noun) for noun in nouns] * 8
    files = {"pairs": both, "style": [(t, label) for r, c in both for t, label in ((r, RUDE), (c, CIVIL))]}
    for name, rows in files.items():
        head = "source\ttarget" if name == "pairs" else "text\tlabel"
        (tmp_path / f"{name}.tsv").write_text("\n".join([head, *map("\t".join, rows)]) + "\n")
    (tmp_path / "civil.tsv").write_text("\n".join(["text", *(c for _, c in both)]) + "\n")
    stack = {
        "d_model": 32,
        "n_layers": 1,
        "position": "rotary",
        "embedding": {"dropout": 0.0},
        "block": {"dropout": 0.0},
    }
    steps = {"max_steps": 60, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}

    def run(name: str, task: object, model: dict, data: str, **tokenizers: str) -> Path:
        path = str(tmp_path / f"{data}.tsv")
        parts = {"task": task, "data": {"train": path, "dev": path}, "tokenizers": tokenizers, "model": model}
        train(recipes.from_data({**parts, "training": steps}), tmp_path / name, say=lambda _: None)
        return tmp_path / name

    run("style", "classify", {"encoder_only": {"stack": stack}}, "style", target="words")
    windows = {"language_model": {"windows": {"length": 8, "rows": 8}}}
    run("fluency", windows, {"decoder_only": {"stack": stack}}, "civil", target="characters")
    judges = {"style": str(tmp_path / "style"), "fluency": str(tmp_path / "fluency")}
    task = {"translate": {"measure": "rewriting", "judges": judges, "label_smoothing": 0.0}}
    model = {"encoder_decoder": {"encoder": stack, "decoder": stack}}
    found = recipes_open(run("rewriter", task, model, "pairs", shared="words"))
    rows = [Pair(r, (c,)) for r, c in map(civil, nouns)]
    scores = found.recipe.task.evaluate(found.system, rows, Greedy())
    assert scores["style_accuracy"] > 0.9 and scores["joint"] <= min(scores["style_accuracy"], scores["similarity"])
    assert scores["chrf_to_references"] > scores["similarity"] > 0.3
    nothing = rewriting_scores([rows[0].source], [" "], [rows[0].targets], Judges(**judges))
    assert set(nothing.values()) == {0.0}
    (tmp_path / "words.txt").write_text("nice\n")
    careful = replace(found.recipe.task, avoid=str(tmp_path / "words.txt"))
    answers = careful.predict(found.system, [row.source for row in rows], Greedy())
    assert not any("nice" in answer.text for answer in answers)
    rude = Guide(str(tmp_path / "style"), power=50.0, tried=30, wanted=RUDE)
    answers = replace(found.recipe.task, guide=rude).predict(found.system, [row.source for row in rows], Greedy())
    found_rude = probability(str(tmp_path / "style"), RUDE)([answer.text for answer in answers])
    assert min(found_rude) > 0.9, "a guide that wants the other style gets it"


def recipes_open(folder: Path):  # type: ignore[no-untyped-def]
    from qkv.tasks.folder import open_run

    return open_run(folder)


def test_measures_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="needs judges"):
        Translate(measure="rewriting")
    with pytest.raises(UserError, match="no run folder"):
        rewriting_scores(["a"], ["b"], [["c"]], Judges("no such run", "nor this"))


def test_what_no_rewrite_keeps() -> None:
    tags = lost(Pair("So silly , SO very silly .", ("so sad .", "So , very sad")))
    assert tags == ("O", "B-rude", "O", "O", "O", "B-rude", "O")


@pytest.mark.skipif("QKV_DATA" not in os.environ, reason="needs ParaDetox in $QKV_DATA")
def test_paradetox() -> None:
    sides = {split: pairs(split) for split in ("train", "dev", "test")}  # type: ignore[arg-type]
    assert sum(map(len, sides.values())) == 11_324 and len(sides["test"]) == 591
    for a, b in itertools.combinations(sides.values(), 2):
        assert not {p.source for p in a} & {p.source for p in b}
    assert all(p.targets for rows in sides.values() for p in rows)
    style = ParadetoxStyle().load("dev")
    assert {row.labels[0] for row in style} == {RUDE, CIVIL} and len({row.text for row in style}) == len(style)
    spans_of = ParadetoxSpans().load("test")
    assert [" ".join(row.words) for row in spans_of] == [" ".join(p.source.split()) for p in sides["test"]]
    assert 0.1 < sum(tag != "O" for row in spans_of for tag in row.tags) / sum(len(r.words) for r in spans_of) < 0.4
