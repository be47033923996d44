"""Topics: inference against scikit-learn, recovery of known ones; the three fusions by hand; a run from end to end."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import torch

from qkv.data.labelled import Labelled
from qkv.data.readings import Reading, Readings
from qkv.decoding import Greedy
from qkv.errors import UserError
from qkv.models import Choice, Several
from qkv.models.fusion import TOPICS, Concatenation, Fusion, Gate, TopicToken, known
from qkv.nn import Tokens
from qkv.tasks import recipe as recipes
from qkv.tasks.classify import LABEL
from qkv.tasks.folder import open_run
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.tasks.topics import ClassifyTopics
from qkv.tasks.train import train
from qkv.text import Words
from qkv.text.topics import Topics, TopicsConfig, counts, learn

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}
FUSIONS = (Concatenation(), Gate(), TopicToken())
SMALL = TopicsConfig(n=3, rarest=1, commonest=1.0, passes=20)
SUBJECTS = ("ball goal team match player", "court judge law trial jury", "star moon orbit planet sun")


def topic_texts(n: int = 120, length: int = 30, seed: int = 0) -> tuple[list[list[int]], torch.Tensor]:
    """Texts over 30 words in three topics of ten words each (ids 10 to 39), with known proportions."""
    generator = torch.Generator().manual_seed(seed)
    theta = torch.distributions.Dirichlet(torch.full((3,), 0.3)).sample((n,))
    theta = theta / theta.sum(1, keepdim=True)
    topic = torch.multinomial(theta, length, replacement=True, generator=generator)
    words = 10 + 10 * topic + torch.randint(0, 10, topic.shape, generator=generator)
    return words.tolist(), theta


def rows(n: int = 60) -> list[Labelled]:
    found = []
    for i in range(n):
        words = SUBJECTS[i % 3].split()
        found.append(Labelled(" ".join(words[(i // 3 + j * j) % 5] for j in range(8)), ("abc"[i % 3],)))
    return found


def task_with(fusion: Fusion) -> ClassifyTopics:
    return ClassifyTopics(topics=SMALL, fusion=fusion, output=Choice(dropout=0.0))


def system(task: ClassifyTopics) -> System:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed; pip install 'qkv[tasks]'")
    torch.manual_seed(0)
    tokenizers = task.learn(rows(), TokenizersConfig(target=Words()))
    return System(fresh(resolve(MODEL), tokenizers, task).eval(), tokenizers)


def test_proportions_are_scikit_learns() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition", reason="scikit-learn is not installed")
    texts, _ = topic_texts()
    config = TopicsConfig(n=4, rarest=2, commonest=1.0, passes=3)
    learned = learn(texts, config)
    _, table = counts(texts, config)
    model = decomposition.LatentDirichletAllocation(4, max_iter=3, learning_method="online", random_state=0).fit(table)
    assert torch.equal(learned.weights, torch.from_numpy(model.components_))
    assert torch.allclose(learned.infer(texts), torch.from_numpy(model.transform(table)), atol=1e-8)


def test_inference_is_that_of_the_loop() -> None:
    """γ = α + Σ_w n_w · share, one text and one word at a time, until it settles."""
    texts, _ = topic_texts(6, 8)
    learned = Topics(torch.arange(10, 40), torch.rand(3, 30, dtype=torch.float64) + 0.1, 0.5)
    for ids, theta in zip(texts, learned.infer(texts), strict=True):
        gamma = [1.0] * 3

        def psi(values: list[float]) -> list[float]:
            exact = torch.tensor([*values, sum(values)], dtype=torch.float64).digamma().tolist()
            return [math.exp(v - exact[-1]) for v in exact[:-1]]

        likely = [psi(row) for row in learned.weights.tolist()]
        for _ in range(100):
            topic, new = psi(gamma), [0.5] * 3
            for i in ids:
                share = [topic[k] * likely[k][i - 10] for k in range(3)]
                new = [new[k] + share[k] / sum(share) for k in range(3)]
            moved = sum(abs(a - b) for a, b in zip(gamma, new, strict=True)) / 3
            gamma = new
            if moved < 1e-3:
                break
        assert theta.tolist() == pytest.approx([g / sum(gamma) for g in gamma], abs=1e-9)


def test_known_topics_are_recovered() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed; pip install 'qkv[tasks]'")
    texts, theta = topic_texts(300)
    learned = learn(texts, replace(SMALL, passes=20))
    true = torch.zeros(3, 30, dtype=torch.float64)
    for k in range(3):
        true[k, 10 * k : 10 * k + 10] = 0.1
    found = learned.words
    assert learned.counted.tolist() == list(range(10, 40))
    cosine = torch.nn.functional.normalize(true, dim=1) @ torch.nn.functional.normalize(found, dim=1).T
    best = max(permutations(range(3)), key=lambda p: sum(float(cosine[k, p[k]]) for k in range(3)))
    assert min(float(cosine[k, best[k]]) for k in range(3)) > 0.95
    inferred = learned.infer(texts)[:, list(best)]
    assert float((inferred - theta).abs().mean()) < 0.1


def test_vectors_are_standardised_roots() -> None:
    texts, _ = topic_texts(20)
    learned = Topics(torch.arange(10, 40), torch.rand(3, 30, dtype=torch.float64) + 0.1, 1 / 3)
    told = learned.standardised(texts).vectors(texts)
    assert torch.allclose(told.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(told.square().mean(0), torch.ones(3, dtype=torch.float64))
    roots = learned.vectors(texts)
    assert torch.allclose(roots.square().sum(1), torch.ones(20, dtype=torch.float64))
    assert torch.allclose((roots - roots.mean(0)) / roots.std(0, correction=0), told)


def test_a_text_stands_alone() -> None:
    texts, _ = topic_texts(20)
    learned = Topics(torch.arange(10, 40), torch.rand(3, 30, dtype=torch.float64) + 0.1, 1 / 3)
    together = learned.infer([*texts, [10] * 200])
    assert torch.allclose(together[3], learned.infer([texts[3]])[0], atol=1e-12)
    assert torch.allclose(learned.infer([[], [99]]), torch.full((2, 3), 1 / 3, dtype=torch.float64))
    assert torch.allclose(learned.infer([texts[0]]), learned.infer([texts[0][::-1]]), atol=1e-12)


def test_what_is_counted() -> None:
    pytest.importorskip("scipy", reason="scipy is not installed; pip install 'qkv[tasks]'")
    texts = [[4, 5, 5], [4, 5], [4, 6], [4, 7, 7, 7]]
    config = TopicsConfig(n=2, rarest=1, commonest=0.5, words=2)
    counted, table = counts(texts, config)
    assert counted.tolist() == [5, 6]  # 4 is in all, 7 as often as 6 and later
    assert table.toarray().tolist() == [[2, 0], [1, 0], [0, 1], [0, 0]]
    assert 5 not in counts(texts, config, without=(5,))[0].tolist()
    assert counts(texts, replace(config, rarest=2))[0].tolist() == [5]  # 7 is there thrice, in one text
    with pytest.raises(UserError, match="no token is in 9 texts"):
        counts(texts, replace(config, rarest=9))


def test_what_is_given_reaches_every_token() -> None:
    readings = [Reading([5, 6, 7], given={TOPICS: [0.2, 0.8]}), Reading([5], given={TOPICS: [1.0, 0.0]})]
    from qkv.data.buckets import BucketConfig

    source = Readings(readings, BucketConfig(), None)
    batch = source.load([0, 1])
    assert batch.tokens.fields[TOPICS].shape == (2, 3, 2)
    assert known(batch.tokens).tolist() == [pytest.approx([0.2, 0.8]), pytest.approx([1.0, 0.0])]
    with pytest.raises(ValueError, match="needs the topics"):
        known(Tokens.arange(1, 3))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_fusion_is_its_formula(fusion: Fusion) -> None:
    task = task_with(fusion)
    made = system(task)
    batch = task.batches(rows(4), made.tokenizers).load([0, 1, 2, 3])
    model, output = made.model, made.model.outputs[LABEL]
    told, valid = known(batch.tokens), batch.tokens.valid.unsqueeze(-1)

    def mean(x: torch.Tensor) -> torch.Tensor:
        return (x * valid).sum(1) / valid.sum(1)

    if isinstance(fusion, TopicToken):
        stack = model.encoder
        embedding = stack.embedding
        plain = embedding.token(batch.ids)
        x = stack.position.embed(plain, batch.tokens) * valid
        x[:, 0] += told @ embedding.topics.weight.T + embedding.topics.bias
        assert torch.allclose(embedding(batch.ids, batch.tokens), x, atol=1e-6)
        expected = output.linear(mean(model.encode(batch.ids, batch.tokens).x))
    else:
        read = mean(model.encoder(batch.ids, batch.tokens))
        if isinstance(fusion, Gate):
            m = told @ output.widen.weight.T + output.widen.bias
            g = 1 / (1 + (-(torch.cat([read, m], 1) @ output.gate.weight.T + output.gate.bias)).exp())
            expected = output.linear(g * read + (1 - g) * m)
        else:
            w = output.linear.weight
            expected = read @ w[:, :16].T + told @ w[:, 16:].T + output.linear.bias
    assert torch.allclose(model(batch.ids, batch.tokens)[LABEL], expected, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_topics_count_and_learn(fusion: Fusion) -> None:
    """Other proportions give other scores, and every weight of the fusion gets a gradient."""
    task = task_with(fusion)
    made = system(task)
    batch = task.batches(rows(6), made.tokenizers).load(list(range(6)))
    other = batch.tokens.with_fields(**{TOPICS: batch.tokens.fields[TOPICS].flip(-1)})
    scores = made.model(batch.ids, batch.tokens)[LABEL]
    assert float((scores - made.model(batch.ids, other)[LABEL]).detach().abs().max()) > 1e-5
    total, count, _ = task.loss(True)(made.model, batch)[LABEL]
    total.backward()
    assert count == 6
    lacking = [n for n, p in made.model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not [name for name in lacking if not name.endswith("key.bias")]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_run_learns_and_answers(fusion: Fusion, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed; pip install 'qkv[tasks]'")
    file = tmp_path / "rows.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{row.text}\t{row.labels[0]}\n" for row in rows()))
    settings = {"max_steps": 40, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    name = {Concatenation: "concatenation", Gate: "gate", TopicToken: "topic_token"}[type(fusion)]
    topics = {"n": 3, "rarest": 1, "commonest": 1.0}
    parts = {
        "task": {"classify_topics": {"topics": topics, "fusion": name}},
        "data": {"train": str(file), "dev": str(file)},
        "tokenizers": {"target": "words"},
        "model": MODEL,
        "training": settings,
    }
    train(recipes.from_data(parts), tmp_path / "run", say=lambda _: None)
    assert (tmp_path / "run" / "tokenizers" / "topics.safetensors").is_file()
    run = open_run(tmp_path / "run")
    scores = run.recipe.task.evaluate(run.system, rows(), Greedy())
    assert scores["accuracy"] > 0.95
    first, _, again = run.recipe.task.predict(run.system, ["ball goal team", "moon", "ball goal team"], Greedy())
    assert first.text == "a" and first.scores == pytest.approx(again.scores, abs=1e-6)


def test_what_a_text_is_told_does_not_depend_on_those_beside_it() -> None:
    task = task_with(Concatenation())
    made = system(task)
    told = task.vectors(rows(6), made.tokenizers)
    assert torch.allclose(told[2:3], task.vectors(rows(6)[2:3], made.tokenizers))
    shuffled = replace(task, shuffled=True).vectors(rows(6), made.tokenizers)
    assert torch.allclose(shuffled[1:], told[:-1]) and torch.allclose(shuffled[0], told[-1])


def test_topics_see_what_the_encoder_does_not() -> None:
    """The text is cut at four tokens, its topics are not."""
    task = replace(task_with(Concatenation()), longest=4)
    made = system(task)
    short, long = task.readings(
        [Labelled("ball goal"), Labelled("ball goal " + "star moon orbit " * 5)], made.tokenizers
    )
    assert short.ids == long.ids and len(long.ids) == 4
    assert max(abs(a - b) for a, b in zip(short.given[TOPICS], long.given[TOPICS], strict=True)) > 0.2


def test_topics_survive_the_disk(tmp_path: Path) -> None:
    learned = Topics(torch.tensor([5, 9]), torch.rand(2, 2, dtype=torch.float64), 0.5).standardised([[5], [9, 9]])
    learned.save(tmp_path / "t.safetensors")
    again = Topics.load(tmp_path / "t.safetensors")
    assert torch.equal(again.weights, learned.weights) and torch.equal(again.counted, learned.counted)
    assert again.prior == 0.5 and torch.equal(again.vectors([[5, 5]]), learned.vectors([[5, 5]]))
    (tmp_path / "t.safetensors").write_bytes(b"{}")
    with pytest.raises(UserError, match="damaged"):
        Topics.load(tmp_path / "t.safetensors")


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="one label a text"):
        ClassifyTopics(output=Several())
    with pytest.raises(ValueError, match="commonest"):
        TopicsConfig(commonest=0.0)
    task = task_with(Gate())
    made = system(task)
    with pytest.raises(UserError, match="no 3 topics"):
        task.vectors(rows(2), replace(made.tokenizers, topics=None))


def test_the_control_tells_the_topics_of_another_text() -> None:
    task = task_with(Concatenation())
    made = system(task)
    own, other = task.vectors(rows(6), made.tokenizers), replace(task, shuffled=True)
    assert torch.equal(other.vectors(rows(6), made.tokenizers), own[[5, 0, 1, 2, 3, 4]])
