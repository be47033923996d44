"""What comes later (A78): new data, what is forgotten, and what holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.compress.lora import LowRank, add_lora, merge_lora
from qkv.data.batch import Batch
from qkv.data.labelled import Labelled
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import EncoderOnly
from qkv.tasks import growth
from qkv.tasks.classify import LABEL, Classify
from qkv.tasks.model import fresh, resolve
from qkv.tasks.task import System
from qkv.tasks.tokenizers import TokenizersConfig
from qkv.text import Words
from qkv.training.anchors import Anchored, fisher_diagonal
from qkv.training.losses import TokenCrossEntropy


@dataclass(frozen=True)
class Later:
    """keys: words that both tasks ask about. labels: answers. steps: updates of each task. share: of replayed texts."""

    keys: Annotated[int, within(4, 200)] = 24
    labels: Annotated[int, within(2, 32)] = 6
    steps: Annotated[int, within(10, 1000)] = 150
    share: Annotated[float, within(0.01, 0.5)] = 0.1


class TwoTasks:
    """Texts of three words and a question. The middle word's label stands in a random table, one for each question: the
    second task asks another question about the same words."""

    def __init__(self, params: Later, seed: int):
        self.params = params
        generator = torch.Generator().manual_seed(seed + 31)
        self.tables = torch.randint(params.labels, (2, params.keys), generator=generator)
        self.n_words = params.keys + 2

    def batch(self, task: int, rows: int, generator: torch.Generator) -> Batch:
        keys = torch.randint(self.params.keys, (rows, 3), generator=generator)
        labels = self.tables[task][keys[:, 1]]
        asks = torch.full((rows, 1), self.params.keys + task)
        return small.at_last(torch.cat([keys, asks], 1), labels)

    def mixed(self, share: float, rows: int, generator: torch.Generator) -> Batch:
        """The second task, and a share of the first."""
        old = round(rows * share)
        new = self.batch(1, rows - old, generator)
        if not old:
            return new
        first = self.batch(0, old, generator)
        return small.labelled(torch.cat([new.ids, first.ids]), torch.cat([new.targets, first.targets]))


def accuracies(model: nn.Module, tasks: TwoTasks) -> tuple[float, float]:
    """Share of right answers on the first and the second task."""
    first, second = (tasks.batch(i, 1000, torch.Generator().manual_seed(7)) for i in (0, 1))
    return small.accuracy(model, first), small.accuracy(model, second)


def trained_on(lab: Lab, params: Later, how: str, seed: int) -> tuple[EncoderOnly, TwoTasks, float]:
    """A model after the first task and then the second, learned in the way `how`; and what the first came to before."""
    tasks = TwoTasks(params, seed)
    torch.manual_seed(seed)
    model = small.encoder(tasks.n_words, d_model=32, n_layers=2)
    lab.train(model, lambda g: tasks.batch(0, 64, g), params.steps, seed=seed)
    before = accuracies(model, tasks)[0]
    loss, share = None, params.share if how == "replay" else 0.0
    anchors = {name: p.detach().clone() for name, p in model.named_parameters()}
    if how == "equal":
        loss = Anchored(TokenCrossEntropy(), anchors, 1.0)
    if how == "fisher":
        generator = torch.Generator().manual_seed(seed)
        ones = [tasks.batch(0, 1, generator) for _ in range(150)]
        loss = Anchored(TokenCrossEntropy(), anchors, 1.0, scaled(fisher_diagonal(model, TokenCrossEntropy(), ones)))
    if how == "low rank":
        add_lora(model, rank=4, names=("query_key_value", "out", "up", "down"), free=())
    lab.train(model, lambda g: tasks.mixed(share, 64, g), params.steps, seed=seed + 1, loss=loss)
    return model, tasks, before


def scaled(importance: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same with mean 1 over all weights, so that one strength means as much as with equal importance."""
    total = sum(float(f.sum()) for f in importance.values())
    mean = total / sum(f.numel() for f in importance.values())
    return {name: f / mean for name, f in importance.items()}


WAYS = {
    "naive": Text("nothing", "不采取措施"),
    "equal": Text("held, all weights alike", "约束，各权重一视同仁"),
    "fisher": Text("held by Fisher information", "按 Fisher 信息约束"),
    "low rank": Text("low rank beside frozen", "冻结并加低秩修正"),
    "replay": Text("replay", "重放"),
}


@experiment(long=True)
def forgetting(lab: Lab, params: Later) -> None:
    """Training on a second task loses the first; a few of its texts among the new ones keep it."""

    def lost(how: str, seed: int) -> float:
        model, tasks, before = trained_on(lab, params, how, seed)
        return before - accuracies(model, tasks)[0]

    claim = lab.claim(
        "replay",
        Text(
            "With some old texts among the new ones less than 0.1 of the old accuracy is lost.",
            "新数据里混入少量旧数据，旧任务的准确率损失不到 0.1。",
        ),
        measure=lost,
        arm="replay",
        control="naive",
        without=Text("new texts only", "只用新数据"),
        holds=below(0.1),
        unit="share",
        seeds=3,
    )
    old, new = {}, {}
    for how in WAYS:
        model, tasks, before = trained_on(lab, params, how, lab.seed)
        old[how], new[how] = accuracies(model, tasks)
        lab.number(f"{how.replace(' ', '_')}_old", old[how], "share")
        lab.number(f"{how.replace(' ', '_')}_new", new[how], "share")
        lab.number(f"{how.replace(' ', '_')}_before", before, "share")
    if claim is not None:
        title = Text("What is left of the first task", "旧任务还剩多少")
        lab.figure("old", figures.bars(title, Text("accuracy", "准确率"), old, WAYS))


@experiment()
def low_rank_undone(lab: Lab, params: Later) -> None:
    """A low-rank correction can be merged exactly and taken out exactly."""
    generator = lab.generator()
    ids = torch.randint(20, (8, 6), generator=generator)
    batch = small.labelled(ids, ids)

    def learned(model: nn.Module) -> nn.Module:
        return lab.train(model, lambda _: batch, 20, learning_rate=1e-2)

    def restored(rank: int) -> Tensor:
        """How far the model is from its old self once the corrections are taken out again; 0: all weights learned."""
        torch.manual_seed(lab.seed)
        model = small.encoder(20, d_model=16, n_layers=1).double().eval()
        before = small.logits(model, batch)
        if rank:
            add_lora(model, rank, free=())
        learned(model)
        for part in model.modules():
            if isinstance(part, LowRank):
                nn.init.zeros_(part.up)
        return (small.logits(model, batch) - before).abs().max()

    lab.claim(
        "undone",
        Text("Without its correction the model is what it was.", "去掉修正项，模型就是原来的模型。"),
        measure=restored,
        arm=4,
        control=0,
        without=Text("all weights trained", "训练全部权重"),
        holds=below(1e-12),
    )
    torch.manual_seed(lab.seed)
    model = small.encoder(20, d_model=16, n_layers=1).double().eval()
    add_lora(model, 4, free=())
    for part in model.modules():
        if isinstance(part, LowRank):
            nn.init.normal_(part.up)
    apart = small.logits(model, batch)
    lab.number("merged", (small.logits(merge_lora(model), batch) - apart).abs().max())


@experiment()
def grown_rows(lab: Lab, params: Later) -> None:
    """New words and labels leave the old answers alone where rows are carried over by name."""
    task, config = Classify(), resolve({"encoder_only": {"stack": {"d_model": 16, "n_layers": 1}}})
    old_rows = [Labelled(f"w{i} w{i + 1}", (f"m{i % 3}",)) for i in range(9)]
    new_rows = [*old_rows, Labelled("a1 a2", ("a0",))]  # first in the alphabet: every number moves

    def made(rows: list[Labelled]) -> System:
        torch.manual_seed(len(rows))
        tokenizers = task.learn(rows, TokenizersConfig(target=Words()))
        return System(fresh(config, tokenizers, task).double().eval(), tokenizers)

    old = made(old_rows)

    def moved(by_name: bool) -> float:
        """The largest change of the log-odds between old labels on old texts."""
        new = made(new_rows)
        if by_name:
            growth.extend(new.model, task, config, new.tokenizers, old)
        else:
            by_number(new.model, old.model)
        before, after = (_odds(task, system, old_rows) for system in (old, new))
        return max(abs(a - b) for a, b in zip(before, after, strict=True))

    lab.claim(
        "by_name",
        Text("Carried over by name, old odds stay as they were.", "按名字搬移各行，旧标签之间的几率不变。"),
        measure=moved,
        arm=True,
        control=False,
        without=Text(
            "by number: rows stay where they are, words and labels move", "按编号：行不动，词和标签却换了位置"
        ),
        holds=below(1e-10),
        unit="nat",
    )


@torch.no_grad()
def by_number(model: nn.Module, old: nn.Module) -> None:
    """Copy every weight to the place with the same numbers, whatever stands there now."""
    own = model.state_dict()
    for name, tensor in old.state_dict().items():
        own[name][tuple(slice(n) for n in tensor.shape)] = tensor


def _odds(task: Classify, system: System, rows: list[Labelled]) -> list[float]:
    labels, found = system.tokenizers.labels[LABEL], []
    for decision in task.decide(system, rows):
        p = dict(zip(decision.labels, decision.probabilities, strict=True))
        log = torch.tensor([p[labels.number(name)] for name in ("m0", "m1", "m2")], dtype=torch.float64).log()
        found += (log - log[0])[1:].tolist()
    return found
