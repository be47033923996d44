"""Texts as mixtures of topics: latent Dirichlet allocation (Blei, Ng & Jordan 2003) over token ids.

scikit-learn learns the topics. What a text's proportions are is inferred here, so that a trained run needs no
scikit-learn to answer, and a text's proportions do not depend on the texts beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from qkv.errors import UserError

Ids = Sequence[Sequence[int]]
UPDATES, CHANGE = 100, 1e-3  # at most so many updates of a text, until the mean change of its pseudo-counts is less


@dataclass(frozen=True)
class TopicsConfig:
    """Which topics are learned, and from what."""

    n: int = 20
    """Topics: K."""
    words: int = 5000
    """Most tokens that are counted: the most frequent of those that the next two settings leave."""
    rarest: int = 5
    """Texts in which a counted token occurs at least."""
    commonest: float = 0.3
    """Share of the texts in which it occurs at most: what is in most texts tells none apart."""
    passes: int = 10
    """Passes over the texts."""
    seed: int = 0
    """Of the first guess."""

    def __post_init__(self) -> None:
        for name in ("n", "words", "rarest", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"topics.{name} is {getattr(self, name)}; give 1 or more")
        if not 0 < self.commonest <= 1:
            raise ValueError(f"topics.commonest is {self.commonest}; give a share up to 1")


@dataclass(frozen=True, eq=False)
class Topics:
    """Learned topics. counted [V]: the ids that are counted. weights [K,V]: λ of the variational Dirichlet of each
    topic's words. prior: α of the symmetric Dirichlet of a text's proportions. centre, scale [K]: mean and deviation of
    √θ over the texts that they were learned from."""

    counted: Tensor
    weights: Tensor
    prior: float
    centre: Tensor | None = None
    scale: Tensor | None = None

    @property
    def n(self) -> int:
        """How many topics."""
        return len(self.weights)

    @property
    def words(self) -> Tensor:
        """p(word | topic), [K,V]: the mean of each topic's Dirichlet."""
        return self.weights / self.weights.sum(1, keepdim=True)

    def infer(self, texts: Ids) -> Tensor:
        """The proportions θ of each text, [N,K] float64; 1/K each of a text without a counted token.

        Variational inference (§5.2 there): with γ the pseudo-counts of a text's topics and E log φ those of the words,
        γ_k = α + Σ_w n_w exp(E log θ_k + E log φ_kw) / Σ_j exp(E log θ_j + E log φ_jw), from γ = 1 on; θ = γ / Σ γ.
        """
        place = {int(i): number for number, i in enumerate(self.counted)}
        likely = _expected_log(self.weights).exp().T.contiguous()
        found = torch.zeros(len(texts), self.n, dtype=torch.float64)
        for row, ids in enumerate(texts):
            found[row] = _proportions(Counter(place[i] for i in ids if i in place), likely, self.prior)
        return found

    def vectors(self, texts: Ids) -> Tensor:
        """What a classifier is told of each text, [N,K]: √θ, of mean 0 and deviation 1 over the learned texts.

        Roots tame the few large proportions; without the rest, a topic that varies little would hardly be heard."""
        roots = self.infer(texts).sqrt()
        return roots if self.centre is None or self.scale is None else (roots - self.centre) / self.scale

    def standardised(self, texts: Ids) -> Topics:
        """The same topics, with centre and scale of these texts."""
        roots = self.infer(texts).sqrt()
        return replace(self, centre=roots.mean(0), scale=roots.std(0, correction=0).clamp_min(1e-3))

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        tensors = {name: getattr(self, name) for name in ("counted", "weights", "centre", "scale")}
        found = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        path.write_bytes(save(found | {"prior": torch.tensor([self.prior], dtype=torch.float64)}))

    @classmethod
    def load(cls, path: Path) -> Topics:
        """Read what `save` wrote. Raises UserError for a damaged file."""
        try:
            found = load_file(path)
            return cls(
                found["counted"], found["weights"], float(found["prior"]), found.get("centre"), found.get("scale")
            )
        except (SafetensorError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); train again with --fresh") from error


def learn(texts: Ids, config: TopicsConfig, without: Sequence[int] = ()) -> Topics:
    """Topics of texts as ids; `without`: ids that are never counted, such as specials.

    Raises UserError when scikit-learn is not installed or no token is left to count."""
    counted, table = counts(texts, config, without)
    try:
        from sklearn.decomposition import LatentDirichletAllocation
    except ImportError as error:
        raise UserError("topics need scikit-learn, which is not installed; pip install 'qkv[tasks]'") from error
    model = LatentDirichletAllocation(
        config.n, max_iter=config.passes, learning_method="online", random_state=config.seed
    ).fit(table)
    return Topics(counted, torch.from_numpy(model.components_.copy()), 1 / config.n).standardised(texts)


def counts(texts: Ids, config: TopicsConfig, without: Sequence[int] = ()) -> tuple[Tensor, Any]:
    """The ids that are counted, [V], and how often each is in each text, a sparse [N,V]."""
    try:
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError("topics need scikit-learn, which is not installed; pip install 'qkv[tasks]'") from error
    bags = [Counter(ids) for ids in texts]
    among = Counter(i for bag in bags for i in bag)
    most = config.commonest * len(bags)
    left = [(i, n) for i, n in among.items() if config.rarest <= n <= most and i not in without]
    if not left:
        raise UserError(
            f"topics: no token is in {config.rarest} texts or more and in {config.commonest:.0%} of them or less; "
            "set topics.rarest and topics.commonest to count some"
        )
    counted = sorted(i for i, _ in sorted(left, key=lambda pair: (-pair[1], pair[0]))[: config.words])
    place = {i: number for number, i in enumerate(counted)}
    cells = [(row, place[i], n) for row, bag in enumerate(bags) for i, n in bag.items() if i in place]
    rows, columns, values = zip(*cells, strict=True)
    return torch.tensor(counted), csr_matrix((values, (rows, columns)), shape=(len(bags), len(counted)), dtype=float)


def _proportions(bag: Counter, likely: Tensor, prior: float) -> Tensor:
    """θ [K] of a text, a bag of places in likely [V,K]. One text at a time: side by side, texts would be padded to the
    longest, and what is then multiplied no longer fits the processor's cache."""
    words = likely[list(bag)]
    number = torch.tensor(list(bag.values()), dtype=likely.dtype)
    pseudo = torch.ones(likely.shape[1], dtype=likely.dtype)
    for _ in range(UPDATES):
        topic = _expected_log(pseudo).exp()
        norm = words @ topic + torch.finfo(likely.dtype).eps
        new = prior + topic * ((number / norm) @ words)
        moved = float((new - pseudo).abs().mean())
        pseudo = new
        if moved < CHANGE:
            break
    return pseudo / pseudo.sum()


def _expected_log(pseudo: Tensor) -> Tensor:
    """E log θ under Dirichlet(pseudo) of each row: ψ(γ_k) − ψ(Σ γ)."""
    return pseudo.digamma() - pseudo.sum(-1, keepdim=True).digamma()
