"""One set of weights, several tasks (B28): a token chooses the function, for attention mixes as the input says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import torch
from torch import Tensor, nn

from qkv.data.batch import IGNORE, Batch
from qkv.lab import figures, small
from qkv.lab.checks import above, below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.nn import Attention, AttentionConfig, Full, MultiHead, Tokens, View

TASKS = ("same", "left neighbour", "right neighbour", "mirror")


@dataclass(frozen=True)
class Switching:
    """n_words: of the vocabulary. length: of a text. steps: updates. rows: texts a batch. d_model: width."""

    n_words: Annotated[int, within(4, 50)] = 8
    length: Annotated[int, within(3, 32)] = 4
    steps: Annotated[int, within(20, 1000)] = 160
    rows: Annotated[int, within(8, 256)] = 32
    d_model: Annotated[int, within(8, 128)] = 32


def sources_of(task: Tensor, length: int) -> Tensor:
    """Which position each task [B] reads at each position, [B,T]: itself, the left, the right, the mirrored one."""
    t = torch.arange(length)
    return torch.stack([t, (t - 1) % length, (t + 1) % length, length - 1 - t])[task]


def examples(params: Switching, task: Tensor, told: Tensor, generator: torch.Generator) -> Batch:
    """Texts for tasks [B], with the tokens of tasks `told` [B] in front; targets follow `task`."""
    words = torch.randint(params.n_words, (len(task), params.length), generator=generator)
    ids = torch.cat([params.n_words + told[:, None], words], 1)
    targets = torch.cat([torch.full((len(task), 1), IGNORE), words.gather(1, sources_of(task, params.length))], 1)
    return small.labelled(ids, targets)


@experiment()
def task_tokens(lab: Lab, params: Switching) -> None:
    """One Transformer does four tasks, chosen by a token; with another token the same weights do another task."""

    @cache
    def model(seed: int) -> nn.Module:
        def make(generator: torch.Generator) -> Batch:
            task = torch.randint(len(TASKS), (params.rows,), generator=generator)
            return examples(params, task, task, generator)

        fresh = small.encoder(params.n_words + len(TASKS), d_model=params.d_model, n_layers=2, n_heads=4)
        return lab.train(fresh, make, params.steps, seed=seed, learning_rate=1e-2)

    def accuracy(turn: int, seed: int) -> float:
        """turn: by how many tasks the token is off."""
        task = torch.arange(len(TASKS)).repeat(100)
        batch = examples(params, task, (task + turn) % len(TASKS), lab.generator(seed))
        return small.accuracy(model(seed), batch)

    lab.claim(
        "four_tasks",
        Text("One set of weights does four tasks, told by one token.", "同一组权重完成四个任务，由一个词元指定。"),
        measure=accuracy,
        arm=0,
        control=1,
        without=Text("the same weights and texts, the token of another task", "权重和文本不变，换成另一任务的词元"),
        holds=above(0.9),
        unit="share",
        seeds=3,
    )
    spread = [accuracy(turn, lab.seed) for turn in range(len(TASKS))]
    lab.figure(
        "tokens",
        figures.bars(
            Text("Accuracy on the task that was meant", "按原任务计的准确率"),
            Text("accuracy", "准确率"),
            {"right": spread[0], "wrong": sum(spread[1:]) / 3},
            {"right": Text("right token", "词元正确"), "wrong": Text("another task's token", "词元属于别的任务")},
        ),
    )


@dataclass(frozen=True)
class Routing:
    """d_model, n_heads: of the layer. length: tokens."""

    d_model: Annotated[int, within(4, 128)] = 16
    n_heads: Annotated[int, within(1, 4)] = 4
    length: Annotated[int, within(2, 64)] = 8


@experiment()
def input_dependent_mixing(lab: Lab, params: Routing) -> None:
    """Attention mixes by weights that the input sets; with weights that ignore it, the layer is an affine map."""
    free = Attention(AttentionConfig(MultiHead(params.n_heads)), params.d_model).double()
    fixed = Attention(AttentionConfig(MultiHead(params.n_heads), scale=0.0), params.d_model).double()
    fixed.load_state_dict(free.state_dict())
    tokens = Tokens.arange(1, params.length)
    view = View(Full(), tokens, tokens)
    x, y = torch.randn(2, 1, params.length, params.d_model, generator=lab.generator(), dtype=torch.float64)

    @torch.no_grad()
    def defect(layer: Attention) -> Tensor:
        """|f(x+y) - f(x) - f(y) + f(0)| relative to |f(x+y)|: zero for an affine map."""
        out = [layer(z, view) for z in (x + y, x, y, 0 * x)]
        return (out[0] - out[1] - out[2] + out[3]).norm() / out[0].norm()

    lab.claim(
        "affine",
        Text(
            "With attention weights that ignore the input, the layer is an affine map: one mixing for all inputs.",
            "注意力权重与输入无关时，这一层是仿射映射：对所有输入用同一种混合。",
        ),
        measure=defect,
        arm=fixed,
        control=free,
        without=Text("weights from queries and keys, that is attention as it is", "权重由查询和键算出，即通常的注意力"),
        holds=below(1e-12),
    )
