"""Encoders from texts alone: each objective beside a slow twin, runs that fill gaps, and what starts from them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qkv.data.batch import IGNORE
from qkv.data.corruption import Vocabulary
from qkv.data.pretraining import PAIR, Example, NextSentence, Row, SentenceOrder, collate
from qkv.decoding import Beam, Greedy
from qkv.errors import UserError
from qkv.models.pretraining import Turns, drawn
from qkv.nn import Tokens
from qkv.tasks import recipe as recipes
from qkv.tasks.folder import open_run
from qkv.tasks.masked_language_model import MaskedLanguageModel, masked_ids
from qkv.tasks.model import fresh, resolve
from qkv.tasks.objectives import Masked, Permuted, ReplacedTokens
from qkv.tasks.task import System
from qkv.tasks.tokenizers import File, TokenizersConfig
from qkv.tasks.train import train
from qkv.text import Words
from qkv.text import train as learn
from qkv.training.pretraining import DRAWS, replacements

STACK = {"d_model": 16, "n_layers": 2, "position": "rotary", "block": {"attention": {"heads": {"multi_head": 2}}}}
MODEL = {"encoder_only": {"stack": {**STACK, "embedding": {"segments": 2, "dropout": 0.0}}}}
TEXTS = ["the cat sat . the dog ran . the cat ran . the dog sat .", "a bird sings . a fish swims . a bird swims ."]


def system(task: MaskedLanguageModel, texts: list[str] = TEXTS) -> System:
    torch.manual_seed(0)
    tokenizers = task.learn(texts, TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


def small(**fields: Any) -> MaskedLanguageModel:
    return MaskedLanguageModel(length=12, size=4, **fields)


@pytest.mark.parametrize("objective", [Masked(rate=0.4), ReplacedTokens(rate=0.4), Permuted(rate=0.4)])
def test_a_loss_is_a_sum_over_rows(objective: Any) -> None:
    """Of rows one by one, of whatever length, the sums are those of the batch."""
    task = small(objective=objective)
    made = system(task)
    source = task.batches(TEXTS, made.tokenizers, seed=1)
    indices = list(range(len(source)))
    together = task.loss(True)(made.model, source.load(indices))
    for name, (total, count, _) in together.items():
        alone = [task.loss(True)(made.model, source.load([i]))[name] for i in indices]
        assert sum(part[1] for part in alone) == count == task.loss(True).counts(source.load(indices))[name]
        assert float(sum(part[0].detach() for part in alone)) == pytest.approx(float(total.detach()), rel=1e-5)


def test_masked_loss_by_a_loop() -> None:
    task = small(pair=SentenceOrder(), objective=Masked(rate=0.4))
    made = system(task)
    batch = task.batches(TEXTS, made.tokenizers, seed=0).load([0, 1])
    model: Any = made.model
    terms = task.loss(False)(model, batch)
    logits = model.head(model(batch.ids, batch.tokens))
    logits, slow, n = logits.detach(), 0.0, 0
    for row, line in enumerate(batch.targets.tolist()):
        for place, token in enumerate(line):
            if token != IGNORE:
                slow, n = slow - float(logits[row, place].log_softmax(-1)[token]), n + 1
    assert terms["cross_entropy"][1] == n
    assert float(terms["cross_entropy"][0].detach()) == pytest.approx(slow, rel=1e-5)
    scores = model.outputs[PAIR](model.encode(batch.ids, batch.tokens))
    expected = F.cross_entropy(scores, batch.extra[PAIR], reduction="sum")
    assert float(terms[PAIR][0].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_replaced_tokens_by_a_loop() -> None:
    task = small(objective=ReplacedTokens(rate=0.5))
    made = system(task)
    batch = task.batches(TEXTS, made.tokenizers, seed=0).load([0, 1])
    model: Any = made.model
    terms = task.loss(True)(model, batch)
    logits = model.generator.head(model.generator(batch.ids, batch.tokens)).detach()
    shown, wrong = batch.ids.clone(), torch.zeros(batch.ids.shape)
    for row, place in itertools.product(*map(range, batch.ids.shape)):
        if batch.targets[row, place] != IGNORE:
            at, token = float(batch.extra["draw"][row, place]) / DRAWS, 0
            for p in logits[row, place].softmax(-1).tolist():
                at -= p
                if at < 0:
                    break
                token += 1
            shown[row, place] = token
            wrong[row, place] = float(token != batch.targets[row, place])
    assert torch.equal(shown, replacements(logits[batch.targets != IGNORE], batch)[0])
    p, slow = model(shown, batch.tokens).sigmoid().detach(), 0.0
    for row, place in zip(*batch.tokens.valid.nonzero(as_tuple=True), strict=True):
        slow -= math.log(float(p[row, place] if wrong[row, place] else 1 - p[row, place]))
    assert float(terms["detection"][0].detach()) == pytest.approx(slow, rel=1e-4)
    assert wrong.sum() > 0 and terms["detection"][2] == 50


def test_detection_is_scored_by_a_loop() -> None:
    task = small(objective=ReplacedTokens(rate=0.5))
    made = system(task)
    source, model = task.batches(TEXTS, made.tokenizers), made.model
    first = source.load(source.plan(0)[0])
    middle = model(first.ids, first.tokens)[first.tokens.valid].median().detach()  # so that it says both
    with torch.no_grad():
        model.detector[-1].bias -= middle  # type: ignore[union-attr, index]
    said, true = [], []
    for indices in source.plan(0):
        batch = source.load(indices)
        hidden = model.generator(batch.ids, batch.tokens)  # type: ignore[union-attr, operator]
        shown, replaced = replacements(model.generator.head(hidden[batch.targets != IGNORE]), batch)  # type: ignore[union-attr, operator]
        judged = model(shown, batch.tokens) > 0
        for row, place in batch.tokens.valid.nonzero().tolist():
            said.append(bool(judged[row, place]))
            true.append(bool(replaced[row, place]))
    scores = task.evaluate(made, TEXTS, Greedy())
    right = [a == b for a, b in zip(said, true, strict=True)]
    found = [a and b for a, b in zip(said, true, strict=True)]
    assert 0 < sum(said) < len(said) and any(true)
    assert scores["replaced"] == pytest.approx(sum(true) / len(true))
    assert scores["detection_accuracy"] == pytest.approx(sum(right) / len(right))
    assert scores["detection_f1"] == pytest.approx(2 * sum(found) / (sum(said) + sum(true)))


def test_detector_and_generator_share_their_words_and_no_gradient_of_the_draw() -> None:
    task = small(objective=ReplacedTokens(rate=0.5))
    model: Any = system(task).model
    table = model.encoder.embedding.token.weight
    assert model.generator.head.weight is table is model.generator.encoder.embedding.token.weight
    assert model.generator.config.stack.d_model == 8 and table.shape[1] == 16
    made = system(task)
    batch = task.batches(TEXTS, made.tokenizers, seed=0).load([0])
    task.loss(True)(made.model, batch)["detection"][0].backward()
    generator: Any = made.model.generator  # type: ignore[union-attr]
    assert all(p.grad is None for p in generator.encoder.blocks.parameters())


def test_a_generator_shares_its_words_beside_an_untied_head_too() -> None:
    untied = {"encoder_only": {**MODEL["encoder_only"], "head": {"tied": False}}}
    task = small(objective=ReplacedTokens())
    tokenizers = task.learn(TEXTS, TokenizersConfig(target=Words()))
    model: Any = fresh(resolve(untied), tokenizers, task)
    assert model.generator.head.weight is model.encoder.embedding.token.weight
    task.loss(True)(model, task.batches(TEXTS, tokenizers, seed=0).load([0]))["cross_entropy"][0].backward()


def test_drawn_tokens_have_their_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    at = (torch.arange(100_000) + 0.5) / 100_000
    counts = drawn(logits.expand(len(at), -1), at).bincount(minlength=4) / len(at)
    torch.testing.assert_close(counts, logits.softmax(-1), atol=2e-5, rtol=0)
    assert int(drawn(logits[None], torch.tensor([1.0]))) == 3


def test_who_sees_whom_in_a_permutation() -> None:
    """By a loop over the turns: content sees what came no later, a query what came before it, nobody a query."""
    vocabulary = Vocabulary(50, 4, np.arange(5, 50), np.ones(50, dtype=bool))
    ids = np.arange(10, 18)
    row = Permuted(rate=0.5).row(Example(ids, np.ones(8, dtype=bool)), vocabulary, np.random.default_rng(0))
    batch = collate([row])
    visible = Turns()(batch.tokens, batch.tokens)[0, 0]
    places = row.fields["pos"][8:]
    turn = {int(p): t for t, p in enumerate(places, 1)}
    for q, k in itertools.product(range(12), repeat=2):
        content = k < 8
        mine = turn.get(q, 0) if q < 8 else turn[int(places[q - 8])]
        theirs = turn.get(k, 0)
        assert bool(visible[q, k]) is (content and (theirs <= mine if q < 8 else theirs < mine))
    assert row.targets.tolist() == [IGNORE] * 8 + ids[places].tolist()
    assert row.ids.tolist() == [*ids.tolist(), 4, 4, 4, 4]


def test_a_query_knows_neither_its_content_nor_what_comes_later() -> None:
    task = small(objective=Permuted(rate=0.6))
    made = system(task)
    batch = task.batches(TEXTS, made.tokenizers, seed=0).load([0])
    model: Any = made.model
    content = batch.ids.shape[1] - int(batch.tokens.fields["query"].sum())
    order = batch.tokens.fields["order"][0]
    before = model(batch.ids, batch.tokens)[0]
    for place in range(content):
        ids = batch.ids.clone()
        ids[0, place] = 8 + (ids[0, place] - 7) % 3
        moved = (model(ids, batch.tokens)[0] - before).abs().amax(-1)[content:] > 1e-7
        assert moved.tolist() == (order[content:] > order[place]).tolist()


def test_without_turns_all_is_seen() -> None:
    tokens = Tokens.arange(1, 4)
    assert type(Turns().simplify(tokens, tokens)).__name__ == "Full"


@pytest.mark.parametrize("objective", [Masked(), Permuted()])
def test_pseudo_perplexity_by_a_loop(objective: Any) -> None:
    task = small(objective=objective, pseudo=2)
    made = system(task)
    scores = task.evaluate(made, TEXTS, Greedy())
    examples = task.examples(TEXTS, made.tokenizers)
    numbers = [i * len(examples) // 2 for i in range(2)]
    nats, model = [], made.model
    for number in numbers:
        example = examples.example(number, np.random.default_rng(0))
        for place in np.flatnonzero(example.free).tolist():
            row = objective.asking(example.ids, [place], Vocabulary.of(made.tokenizers.target))
            batch = collate([row])
            [[asked]] = (batch.targets[0] != IGNORE).nonzero().T.tolist()
            logits = model.head(model(batch.ids, batch.tokens))[0, asked]  # type: ignore[union-attr, operator]
            nats.append(-float(logits.log_softmax(-1)[example.ids[place]].detach()))
    assert scores["pseudo_perplexity"] == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)


def test_several_masks_are_ranked_by_their_product() -> None:
    task = small()
    made = system(task)
    [best] = task.predict(made, ["the <mask> sat <mask>"], Beam(width=4, n_best=4))
    model, own = made.model, made.tokenizers.target
    ids, _ = masked_ids(made.tokenizers, "the <mask> sat <mask>")
    logits = model.head(model(torch.tensor([ids]), Tokens.arange(1, len(ids))))[0]  # type: ignore[union-attr, operator]
    logits[:, list(own.special_ids.values())] = float("-inf")
    p = logits.softmax(-1)[[i for i, x in enumerate(ids) if x == own.mask_id]].detach()
    pairs = itertools.product(range(own.vocab_size), repeat=2)
    slow = sorted(((float(p[0, a] * p[1, b]), a, b) for a, b in pairs), reverse=True)[:4]
    assert best.scores == pytest.approx([chance for chance, *_ in slow], rel=1e-4)
    words = [(own.decode([a]), own.decode([b])) for _, a, b in slow]
    assert best.texts == [f"the {a} sat {b}" for a, b in words]
    assert len(best.details["masks"]) == 2 and best.details["masks"][0][0]["word"] == words[0][0]


def test_an_answer_does_not_depend_on_its_batch() -> None:
    for objective in (Masked(), Permuted(), ReplacedTokens()):
        task = small(objective=objective)
        made = system(task)
        [alone] = task.predict(made, ["the <mask> sat"], Greedy())
        _, among = task.predict(made, ["a bird sings and <mask> and a fish <mask> .", "the <mask> sat"], Greedy())
        assert alone.texts == among.texts
        assert alone.scores == pytest.approx(among.scores, abs=1e-5)


def recipe(tmp_path: Path, task: Any, steps: int = 60, **model: Any) -> recipes.Recipe:
    lines = [f"the {a} {b}s . a {b} {a}s ." for a, b in itertools.product(("cat", "dog", "cow"), ("run", "sit"))] * 4
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{line}"}}\n' for line in lines))
    data = {"train": str(tmp_path / "texts.jsonl"), "dev": str(tmp_path / "texts.jsonl")}
    settings = {"max_steps": steps, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    parts = {"task": task, "data": data, "tokenizers": {"target": "words"}, "model": MODEL, "training": settings}
    return recipes.from_data({**parts, **model})


@pytest.mark.parametrize(
    "task",
    [
        {"objective": "masked", "pair": "sentence_order"},
        {"objective": {"masked": {"unit": "span"}}, "pair": "next_sentence"},
        {"objective": {"replaced_tokens": {"rate": 0.3}}},
        {"objective": {"permuted": {"rate": 0.3}}},
    ],
    ids=["order", "next", "replaced", "permuted"],
)
def test_a_run_is_measured_fills_gaps_and_is_started_from(tmp_path: Path, task: dict) -> None:
    fields = {"length": 12, "size": 8, "pseudo": 2, **task}
    train(recipe(tmp_path, {"masked_language_model": fields}), tmp_path / "run", say=lambda _: None)
    run = open_run(tmp_path / "run")
    scores = run.recipe.task.evaluate(run.system, run.recipe.task.load(run.recipe.data, "dev"), Greedy())
    assert scores["loss"] < math.log(run.system.tokenizers.target.vocab_size) - 0.5
    assert ("pair_accuracy" in scores) is ("pair" in task)
    assert ("detection_f1" in scores) is ("replaced_tokens" in str(task))
    [answer] = run.recipe.task.predict(run.system, ["the <mask> sits ."], Greedy())
    assert answer.text.startswith("the ") and len(answer.texts) == 5
    rows = [f"the {w} {'runs' if y == 'yes' else 'sits'}\t{y}" for w in ("cat", "dog") for y in ("yes", "no")]
    (tmp_path / "rows.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    own = {"train": str(tmp_path / "rows.tsv"), "dev": str(tmp_path / "rows.tsv")}
    start = recipes.from_data({**recipe(tmp_path, "classify", 1).plain(), "data": own})
    start = replace(start, training=replace(start.training, learning_rate=1e-9))
    train(start, tmp_path / "tuned", say=lambda _: None, start=run)
    tuned, weights = open_run(tmp_path / "tuned"), run.system.model.state_dict()
    assert tuned.system.tokenizers.target.mask_id is not None
    for name, value in tuned.system.model.state_dict().items():
        if name.startswith("encoder."):
            torch.testing.assert_close(value, weights[name], atol=1e-6, rtol=0)
    assert {x.text for x in tuned.recipe.task.predict(tuned.system, ["the cat runs"], Greedy())} <= {"yes", "no"}


def test_a_tokenizer_has_the_marks_or_is_refused(tmp_path: Path) -> None:
    tokenizers = small().learn(TEXTS, TokenizersConfig(target=Words()))
    own = tokenizers.target
    assert [own.special_ids[name] for name in ("mask", "cls", "sep")] == [4, 5, 6]
    assert tokenizers.framed([9]) == [own.cls_id, 9, own.sep_id]
    learn(Words(), TEXTS).save(tmp_path / "plain.json")
    with pytest.raises(UserError, match="has no <mask>, which this task needs"):
        small().learn(TEXTS, TokenizersConfig(target=File(str(tmp_path / "plain.json"))))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="beside masked tokens only"):
        small(objective=Permuted(), pair=NextSentence())
    with pytest.raises(ValueError, match="length 4"):
        MaskedLanguageModel(length=4)
    with pytest.raises(UserError, match=r"text 3 has no <mask>"):
        small().predict(system(small()), ["the cat"], Greedy(), first=2)
    bare = resolve({"encoder_only": {"stack": STACK}})
    tokenizers = small().learn(TEXTS, TokenizersConfig(target=Words()))
    with pytest.raises(UserError, match=r"set model\.stack\.embedding\.segments to 2"):
        fresh(bare, tokenizers, small(pair=NextSentence()))
    with pytest.raises(UserError, match="does not split into 2 heads"):
        fresh(bare, tokenizers, small(objective=ReplacedTokens(generator=0.3)))
    short = resolve({"encoder_only": {"stack": {**STACK, "position": {"learned": 8}}}})
    with pytest.raises(UserError, match="positions end at 8"):
        fresh(short, tokenizers, small())


def test_rows_that_ask_for_nothing_cost_nothing() -> None:
    task = small()
    made = system(task)
    batch = collate([Row(np.array([5, 8, 6]), np.full(3, IGNORE))])
    total, count, _ = task.loss(True)(made.model, batch)["cross_entropy"]
    assert (float(total.detach()), count) == (0.0, 0)
