"""Word analogies by offsets: a is to b as c is to which d? The nearest vector to b − a + c.

The usual scoring leaves the three words of the question out of the answers (Mikolov et al. 2013). Often the nearest
vector *is* b or c, so that says how often d is the nearest of the others; `exclude=False` asks the plain question
(Linzen 2016; Rogers et al. 2017; Nissim et al. 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Method = Literal["add", "mul"]
EPSILON = 1e-3  # Levy & Goldberg's, so that no quotient is infinite


def answers(vectors: Tensor, questions: Tensor, method: Method = "add", exclude: bool = True) -> Tensor:
    """The answer to each question (a, b, c) of questions [Q,3], as numbers of rows of vectors [V,E]: [Q].

    add: argmax_d cos(d, b̂ − â + ĉ) of unit vectors, which is argmax cos(d,b) − cos(d,a) + cos(d,c) (3CosAdd).
    mul: argmax_d s(d,b)·s(d,c) / (s(d,a) + ε) with s = (cos + 1)/2 (3CosMul; Levy & Goldberg 2014, §6).
    exclude: whether a, b and c themselves are no answers.

    >>> royal = torch.tensor([[1.0, 0, 0.1], [0, 1.0, 0.1], [1.0, 0, 1.0], [0, 1.0, 1.0]])  # man woman king queen
    >>> answers(royal, torch.tensor([[0, 1, 2]])).tolist()
    [3]
    """
    unit = F.normalize(vectors, dim=-1)
    a, b, c = (unit[questions[:, i]] @ unit.T for i in range(3))
    scores = b - a + c if method == "add" else (b + 1) * (c + 1) / 2 / (a + 1 + 2 * EPSILON)
    if exclude:
        scores = scores.scatter(1, questions[:, :3], float("-inf"))
    return scores.argmax(-1)


def accuracy(vectors: Tensor, questions: Tensor, method: Method = "add", exclude: bool = True) -> float:
    """The share of questions [Q,4] whose fourth word is the answer to the first three."""
    return float((answers(vectors, questions[:, :3], method, exclude) == questions[:, 3]).double().mean())


def returned(vectors: Tensor, questions: Tensor, method: Method = "add") -> float:
    """The share of questions to which the plain answer is a word of the question itself."""
    found = answers(vectors, questions[:, :3], method, exclude=False)
    return float((found[:, None] == questions[:, :3]).any(1).double().mean())


def parallelism(vectors: Tensor, questions: Tensor) -> float:
    """The mean cosine of the offsets b − a and d − c of questions [Q,4]: 1 where the words form parallelograms."""
    a, b, c, d = (vectors[questions[:, i]] for i in range(4))
    return float(F.cosine_similarity(b - a, d - c, dim=-1).mean())


def read(text: str, known: Sequence[str], lowercase: bool = True) -> dict[str, Tensor]:
    """Questions in the format of Google's list by section, [Q,4]: `: section`, then four words a line; of those whose
    words are all among `known`, the numbers there.

    >>> read(": capitals\\nParis France Rome Italy\\nBonn Germany Rome Italy", ["paris", "france", "rome", "italy"])
    {'capitals': tensor([[0, 1, 2, 3]])}
    """
    numbers = {word: i for i, word in enumerate(known)}
    sections: dict[str, list[list[int]]] = {}
    name = ""
    for line in (text.lower() if lowercase else text).splitlines():
        if line.startswith(":"):
            name = line[1:].strip()
        elif len(words := line.split()) == 4 and all(word in numbers for word in words):
            sections.setdefault(name, []).append([numbers[word] for word in words])
    return {name: torch.tensor(rows) for name, rows in sections.items()}
