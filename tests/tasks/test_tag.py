"""Tagging: schemes, words in pieces, spellings, runs, scores."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
import torch

from qkv.data import sources
from qkv.data.batch import IGNORE
from qkv.data.labelled import Tagged
from qkv.data.tagged_corpora import Atis, ResumeNer, Snips, WeiboNer
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models.lexical import Lexical, Spelling
from qkv.models.stems import Convolution
from qkv.models.tagging import Tagging
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.model import fresh, resolve
from qkv.tasks.schemes import Entity, converted, entities, scheme_of, written
from qkv.tasks.tag import TAGS, Tag
from qkv.tasks.tag_metrics import broken, entity_scores
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.train import train
from qkv.text import BPE, Characters, Words

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}
ROWS = [
    Tagged(("fly", "to", "new", "york"), ("O", "O", "B-city", "I-city")),
    Tagged(("boston", "at", "nine"), ("B-city", "O", "B-time")),
]
SCHEMES = ("bio", "bioes", "bmes")
SPELLED = TokenizersConfig(target=Words(), source=Characters())


def system(task: Tag, rows: list[Tagged], config: TokenizersConfig | None = None) -> System:
    torch.manual_seed(0)
    tokenizers = task.learn(rows, config or TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


def some_entities(seed: int, length: int) -> list[Entity]:
    draw, found, at = random.Random(seed), [], 0
    while at < length:
        size = draw.randint(1, 4)
        if draw.random() < 0.6 and at + size <= length:
            found.append(Entity(at, at + size, draw.choice("xy")))
        at += size
    return found


@pytest.mark.parametrize("seed", range(20))
def test_entities_survive_every_scheme(seed: int) -> None:
    found = some_entities(seed, 9)
    for scheme in SCHEMES:
        assert entities(written(found, 9, scheme), scheme) == found
    for one, other in itertools.product(SCHEMES, SCHEMES):
        assert converted(written(found, 9, one), one, other) == written(found, 9, other)


@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_what_breaks_a_scheme_is_read_as_seqeval_reads_it(scheme: str) -> None:
    """Ours against seqeval's strict reader on random tags, most of them broken."""
    seqeval = pytest.importorskip("seqeval.scheme")
    reader = seqeval.IOB2 if scheme == "bio" else seqeval.IOBES
    places = "BI" if scheme == "bio" else "BIES"
    names = ["O", *(f"{place}-{kind}" for place in places for kind in "xy")]
    draw = random.Random(0)
    for _ in range(300):
        tags = [draw.choice(names) for _ in range(draw.randint(1, 7))]
        [theirs] = seqeval.Entities([tags], reader).entities
        assert [(e.start, e.end, e.kind) for e in entities(tags, scheme)] == [(e.start, e.end, e.tag) for e in theirs]


def test_what_cannot_be_written_is_refused() -> None:
    for wrong in ([Entity(0, 2, "x"), Entity(1, 3, "y")], [Entity(2, 5, "x")], [Entity(1, 1, "x")]):
        with pytest.raises(ValueError, match="overlaps"):
            written(wrong, 3, "bio")


def test_the_scheme_is_told_by_the_tags() -> None:
    assert scheme_of(["O", "NOUN"]) == "bio" and scheme_of(["E-x"]) == "bioes" and scheme_of(["M-x"]) == "bmes"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_strict_scores_do_not_depend_on_the_scheme(scheme: str) -> None:
    pytest.importorskip("seqeval")
    right = [written(some_entities(seed, 8), 8, scheme) for seed in range(8)]
    given = [written(some_entities(seed + seed % 2, 8), 8, scheme) for seed in range(8)]
    scores = entity_scores(given, right, scheme)
    pairs = [(set(entities(a, scheme)), set(entities(b, scheme))) for a, b in zip(given, right, strict=True)]
    both, said, there = (
        sum(f(a, b) for a, b in pairs) for f in (lambda a, b: len(a & b), lambda a, _: len(a), lambda _, b: len(b))
    )
    assert scores["precision"] == pytest.approx(both / said)
    assert scores["recall"] == pytest.approx(both / there)
    assert scores["f1"] == pytest.approx(2 * both / (said + there))
    assert sum(of["entities"] for of in scores["types"].values()) == there
    assert broken(given, scheme) == 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_tag_without_its_beginning_counts_only_where_one_is_lenient(scheme: str) -> None:
    pytest.importorskip("seqeval")
    right = [written([Entity(0, 2, "x"), Entity(3, 5, "x")], 6, scheme)]
    given = [["O", *right[0][1:]]]
    scores = entity_scores(given, right, scheme)
    assert scores["precision"] == 1 and scores["recall"] == 0.5 and scores["types"]["x"]["f1"] == scores["f1"]
    assert scores["lenient_f1"] < 1 and broken(given, scheme) == 1
    begun = entity_scores([["O", "I-x", "O"]], [["O", "B-x", "O"]], "bio")
    assert begun["f1"] == 0 and begun["lenient_f1"] == 1


def test_nothing_found_where_nothing_is() -> None:
    pytest.importorskip("seqeval")
    assert entity_scores([["O"]], [["O"]], "bio")["f1"] == 0


def test_a_label_stands_at_the_first_piece_of_its_word() -> None:
    task = Tag()
    made = system(task, ROWS, TokenizersConfig(target=BPE(vocab_size=24)))
    batch = task.batches(ROWS, made.tokenizers).load([0])
    known, encode = made.tokenizers.labels[TAGS], made.tokenizers.target.encode
    pieces = [encode(word) for word in ROWS[0].words]
    assert max(map(len, pieces)) > 1
    targets = [[known.number(tag), *[IGNORE] * (len(ids) - 1)] for tag, ids in zip(ROWS[0].tags, pieces, strict=True)]
    assert batch.ids[0].tolist() == made.tokenizers.framed([i for ids in pieces for i in ids])
    assert batch.targets[0].tolist() == [IGNORE, *(t for word in targets for t in word), IGNORE]


def test_words_beyond_the_longest_are_outside() -> None:
    task = Tag(longest=4)
    made = system(task, ROWS)
    [prediction] = task.predict(made, ["boston boston boston boston"], Greedy())
    assert prediction.details["tags"][2:] == ["O", "O"]
    assert len(task.batches(ROWS, made.tokenizers).load([0]).ids[0]) == 4


@pytest.mark.parametrize("output", [Tagging(), Tagging(crf=True)], ids=["softmax", "crf"])
def test_an_answer_does_not_depend_on_its_batch(output: Tagging) -> None:
    task = Tag(output=output, words=Lexical(spelling=Spelling(8, 8), stem=Convolution(3, causal=False)))
    made = system(task, ROWS, SPELLED)
    [alone] = task.predict(made, ["to boston"], Greedy())
    [_, among] = task.predict(made, ["the extraordinarily long way to new york at nine", "to boston"], Greedy())
    assert alone.texts == among.texts and alone.details == among.details
    assert alone.scores == pytest.approx(among.scores, abs=1e-5)


def test_unknown_words_are_told_apart_by_their_letters_alone() -> None:
    task = Tag(words=Lexical(spelling=Spelling(8, 8)))
    made = system(task, ROWS, SPELLED)
    batch = task.source([Tagged(("tobias",)), Tagged(("bosnia",))], made.tokenizers).load([0, 1])
    scores = made.model(batch.ids, batch.tokens)[TAGS]
    assert batch.ids[0].equal(batch.ids[1]) and not torch.allclose(scores[0], scores[1])
    plain = Tag()
    deaf = system(plain, ROWS)
    scores = deaf.model(batch.ids, batch.tokens)[TAGS]
    assert torch.equal(scores[0], scores[1])


def test_only_training_reads_words_as_unknown() -> None:
    task = Tag(words=Lexical(unknown=0.5))
    made = system(task, ROWS)
    batch = task.batches(ROWS, made.tokenizers).load([0, 1])
    once, again = (made.model(batch.ids, batch.tokens)[TAGS] for _ in range(2))
    assert torch.equal(once, again)
    embedding = made.model.encoder.embedding.train()
    seen = [embedding(batch.ids, batch.tokens) for _ in range(2)]
    assert not torch.equal(*seen)


def test_digits_and_characters() -> None:
    task = Tag(unit="character", digits=True)
    made = system(task, [Tagged(tuple("在2楼"), ("O", "B-x", "O"))])
    assert task.split("在 3 楼") == ("在", "3", "楼")
    batch = task.source([Tagged(tuple("在7楼")), Tagged(tuple("在2楼"))], made.tokenizers).load([0, 1])
    assert batch.ids[0].equal(batch.ids[1]) and made.tokenizers.target.unk_id not in batch.ids[0]
    [prediction] = task.predict(made, ["在3楼"], Greedy())
    assert prediction.details["words"] == ["在", "3", "楼"] and " " not in prediction.text


def test_a_run_learns_converts_and_answers(tmp_path: Path) -> None:
    """Trained in BIOES on data in BIO; every name is new at the end, so only the letters and the neighbours tell."""
    pytest.importorskip("seqeval")
    names = [f"{a}{b}ville" for a in "bdfgk" for b in "aeiou"]
    lines = [f"go to {n} at {i % 9}\tO O B-city O B-hour" for i, n in enumerate(names)]
    (tmp_path / "train.tsv").write_text("words\ttags\n" + "\n".join(lines) + "\n")
    data = {"train": str(tmp_path / "train.tsv"), "dev": str(tmp_path / "train.tsv")}
    settings = {"max_steps": 60, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    words = {"unknown": 0.2, "spelling": {"width": 8, "filters": 8}, "stem": {"convolution": {"causal": False}}}
    task = {"tag": {"scheme": "bioes", "digits": True, "output": {"crf": True}, "words": words}}
    parts = {"task": task, "data": data, "model": MODEL, "training": settings}
    parts["tokenizers"] = {"target": "words", "source": "characters"}
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    assert set(run.system.tokenizers.labels[TAGS].names) == {"O", "S-city", "S-hour"}
    scores = run.recipe.task.evaluate(run.system, run.recipe.task.load(run.recipe.data, "dev"), Greedy())
    assert scores["f1"] > 0.95 and scores["types"]["city"]["entities"] == len(names)
    [prediction] = run.recipe.task.predict(run.system, ["go to zuville at 4"], Greedy())
    assert prediction.text == "go to [zuville](city) at [4](hour)"
    assert prediction.details["entities"][0] == {"type": "city", "start": 2, "end": 3, "text": "zuville"}


def test_a_tag_that_training_never_saw_is_wrong_and_no_crash() -> None:
    pytest.importorskip("seqeval")
    task = Tag()
    made = system(task, ROWS)
    rows = [Tagged(("to", "nine"), ("O", "B-airline"))]
    assert task.batches(rows, made.tokenizers).load([0]).targets.tolist()[0][2] == IGNORE
    assert task.evaluate(made, rows, Greedy())["types"]["airline"]["recall"] == 0


def test_what_is_missing_is_said() -> None:
    with pytest.raises(UserError, match=r"source.*characters"):
        Tag(words=Lexical(spelling=Spelling())).learn(ROWS, TokenizersConfig(target=Words()))
    with pytest.raises(UserError, match="at least two"):
        Tag().labels([Tagged(("a",), ("O",))])


def have(name: str, file: str):
    return pytest.mark.skipif(not sources.find(name, file), reason=f"{name} is neither in $QKV_DATA nor in the cache")


CORPORA = [
    pytest.param(Atis(), "bio", marks=have("atis", "train/label")),
    pytest.param(Atis(pooled=True), "bio", marks=have("atis", "train/label")),
    pytest.param(Snips(), "bio", marks=have("snips", "train/label")),
    pytest.param(ResumeNer(), "bmes", marks=have("resume_ner", "train.char.bmes")),
    pytest.param(WeiboNer(), "bio", marks=have("weibo_ner", "weiboNER_2nd_conll.train")),
]


@pytest.mark.parametrize(("data", "scheme"), CORPORA)
def test_the_corpora_are_whole_legal_and_without_leaks(data, scheme: str) -> None:
    splits = [data.load(split) for split in ("train", "dev", "test")]
    texts = [{" ".join(row.words) for row in rows} for rows in splits]
    assert not texts[0] & (texts[1] | texts[2]) and min(map(len, splits)) > 100
    every = [row for rows in splits for row in rows]
    assert all(len(row.words) == len(row.tags) for row in every)
    assert scheme_of(tag for row in every for tag in row.tags) == scheme
    assert broken([row.tags for row in every], scheme) < 0.01  # four rows of Resume and eight of Weibo are


@have("atis", "train/label")
def test_pooled_rows_are_those_of_both_files() -> None:
    apart, pooled = Atis(), Atis(pooled=True)
    both = {" ".join(row.words) for split in ("train", "dev") for row in apart.load(split)}
    test = {" ".join(row.words) for row in apart.load("test")}
    train, dev = ({" ".join(row.words) for row in pooled.load(split)} for split in ("train", "dev"))
    assert train | dev == both - test and 0.04 < len(dev) / len(both) < 0.06
    assert pooled.load("test") == apart.load("test")
