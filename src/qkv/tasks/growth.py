"""A trained model for a vocabulary or for labels that have grown: every row goes where its token or label now stands.

`take_over` in `model.py` copies weights of equal name and shape, and would put the weights of one label under another
where two runs have as many labels by chance. Here a dimension that counts tokens or labels is found out (a model with
one more of them is longer there), and its rows are copied by name. A new token begins as the mean of the pieces that
the old tokenizer spells it with, or of all tokens where it cannot (Hewitt 2021); a new label keeps its fresh weights.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qkv.data.labelled import Labelled
from qkv.errors import UserError
from qkv.models import EncoderDecoderConfig, ModelConfig
from qkv.tasks.labels import Labels, LabelSet
from qkv.tasks.model import check_fresh, sized
from qkv.tasks.task import System, Task
from qkv.tasks.tokenizers import Tokenizers
from qkv.text import Tokenizer

Row = TypeVar("Row")
Kinds = tuple[
    str | None, ...
]  # of each dimension: "source" or "target" tokens, "label:OUTPUT", or nothing that is counted


@dataclass(frozen=True)
class Move:
    """How the rows of one dimension come about. new, old [K]: rows that bear the same name in both. spelled: of each
    other new row the old ones whose mean it begins as (none named: all of them)."""

    new: Tensor
    old: Tensor
    spelled: Mapping[int, Sequence[int]]


def union(old: Labels, new: Labels) -> Labels:
    """The labels of both: the old ones in their order, then those that are new; counts are added.

    >>> union(Labels({"x": LabelSet(("b", "a"), (1, 2))}), Labels({"x": LabelSet(("a", "c"), (5, 6))}))["x"].names
    ('b', 'a', 'c')
    """
    found = dict(old.sets)
    for output, fresh_set in new.sets.items():
        before = old.sets.get(output, LabelSet((), ()))
        counts = dict(zip(before.names, before.counts, strict=True))
        for name, count in zip(fresh_set.names, fresh_set.counts, strict=True):
            counts[name] = counts.get(name, 0) + count
        found[output] = LabelSet(tuple(counts), tuple(counts.values()))
    return Labels(found)


def dimensions(task: Task, config: ModelConfig, tokenizers: Tokenizers) -> dict[str, Kinds]:
    """Of every weight of the task's model, what each dimension counts."""
    with torch.device("meta"):
        plain = _shapes(task.build(sized(config, tokenizers), tokenizers))
        kinds: dict[str, list[str | None]] = {name: [None] * len(shape) for name, shape in plain.items()}
        for kind, one_more, with_labels in _one_more(config, tokenizers):
            for name, shape in _shapes(task.build(one_more, with_labels)).items():
                for d, (before, after) in enumerate(zip(plain[name], shape, strict=True)):
                    if after != before:
                        kinds[name][d] = kind
    return {name: tuple(found) for name, found in kinds.items()}


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _one_more(config: ModelConfig, tokenizers: Tokenizers) -> list[tuple[str, ModelConfig, Tokenizers]]:
    """The config with one more token, and the labels of each output with one more label."""
    full = sized(config, tokenizers)
    if isinstance(full, EncoderDecoderConfig):
        source, target = replace(full, encoder=_longer(full.encoder)), replace(full, decoder=_longer(full.decoder))
        both = replace(full, encoder=_longer(full.encoder), decoder=_longer(full.decoder))
        more: list[tuple[str, ModelConfig]] = (
            [("target", both)] if tokenizers.shared else [("source", source), ("target", target)]
        )
    else:
        more = [("target", replace(full, stack=_longer(full.stack)))]
    found: list[tuple[str, ModelConfig, Tokenizers]] = [(kind, grown, tokenizers) for kind, grown in more]
    for output, labels in tokenizers.labels.sets.items():
        longer = LabelSet((*labels.names, f"{labels.names[-1]}~"), (*labels.counts, 1))
        sets = Labels({**tokenizers.labels.sets, output: longer})
        found.append((f"label:{output}", full, replace(tokenizers, labels=sets)))
    return found


def _longer(stack: Any) -> Any:
    return replace(stack, embedding=replace(stack.embedding, vocab_size=stack.embedding.vocab_size + 1))


def moves(old: Tokenizers, new: Tokenizers) -> dict[str, Move]:
    """Where the rows of every kind of dimension come from."""
    found = {"target": _tokens(old.target, new.target)}
    if old.source is not None and new.source is not None:
        found["source"] = _tokens(old.source, new.source)
    for output, labels in new.labels.sets.items():
        before = old.labels.sets.get(output, LabelSet((), ()))
        common = [name for name in labels.names if name in before.numbers]
        found[f"label:{output}"] = _same_names(common, before.numbers, labels.numbers, {})
    return found


def _tokens(old: Tokenizer, new: Tokenizer) -> Move:
    before, after = old.backend.get_vocab(), new.backend.get_vocab()
    common = [token for token in after if token in before]
    others = [number for token, number in after.items() if token not in before]
    spelled = {i: [piece for piece in old.encode(new.decode([i])) if piece != old.unk_id] for i in others}
    return _same_names(common, before, after, spelled)


def _same_names(
    common: Sequence[str], old: Mapping[str, int], new: Mapping[str, int], spelled: Mapping[int, Sequence[int]]
) -> Move:
    return Move(
        torch.tensor([new[name] for name in common], dtype=torch.long),
        torch.tensor([old[name] for name in common], dtype=torch.long),
        spelled,
    )


def carried(
    given: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    kinds: Mapping[str, Kinds],
    how: Mapping[str, Move],
    exact: bool = False,
) -> dict[str, Tensor]:
    """Of the tensors in `own` those that `given`, the old model's, says something about, with that put in. exact: only
    rows of the same name, and no means: for what is known of weights rather than for the weights."""
    found = {}
    for name, tensor in own.items():
        if name not in given or given[name].dim() != tensor.dim():
            continue
        value, places = given[name].to(tensor), []
        for d, kind in enumerate(kinds[name]):
            rows = torch.arange(tensor.shape[d])
            if kind is not None:
                rows, value = _moved(value, d, how[kind], exact)
            places.append(rows.view([-1 if i == d else 1 for i in range(tensor.dim())]))
        if value.shape == torch.broadcast_shapes(*(p.shape for p in places), ()):
            found[name] = tensor.clone()
            found[name][tuple(places)] = value
    return found


def _moved(value: Tensor, d: int, move: Move, exact: bool) -> tuple[Tensor, Tensor]:
    """The new rows along dimension d that are known, and their values."""
    value = value.movedim(d, 0)
    spelled = {} if exact else move.spelled
    means = [(value[list(pieces)] if pieces else value).mean(0, keepdim=True) for pieces in spelled.values()]
    rows = torch.cat([move.new, torch.tensor(list(spelled), dtype=torch.long)])
    return rows, torch.cat([value[move.old], *means]).movedim(0, d)


def extend(model: nn.Module, task: Task, config: ModelConfig, tokenizers: Tokenizers, start: System) -> list[str]:
    """Fill `model`, which is the task's for `tokenizers`, from the model of `start`, row by row.

    Returns the names of the weights that stay wholly fresh. Raises UserError where one of a stack is among these."""
    kinds, how = dimensions(task, config, tokenizers), moves(start.tokenizers, tokenizers)
    own = model.state_dict()
    given = {n: t for n, t in start.model.state_dict().items() if not n.endswith(".temperature")}  # of its old answers
    filled = carried(given, own, kinds, how)
    left = [name for name in own if name not in filled]
    check_fresh(left)
    model.load_state_dict(own | filled)
    return left


def replayed(rows: Sequence[Row], old: Sequence[Row], share: float, seed: int = 0) -> list[Row]:
    """The new rows and so many old ones, drawn without replacement, that these make `share` of all.

    >>> len(replayed(range(95), range(1000), 0.05))
    100
    """
    if not 0 <= share < 1:
        raise UserError(f"replay is {share}; give the share of old rows, 0 or more and below 1")
    wanted = round(len(rows) * share / (1 - share))
    return [*rows, *random.Random(seed).sample(list(old), min(wanted, len(old)))]


def answered(task: Any, system: System, rows: Sequence[Labelled], seed: int = 0) -> list[Labelled]:
    """The rows, each with a label drawn from what the model believes: what the Fisher information is a mean over."""
    names, draw = system.tokenizers.labels["label"].names, random.Random(seed)
    drawn = [draw.choices(d.labels, d.probabilities)[0] for d in task.decide(system, rows)]
    return [Labelled(row.text, (names[label],), row.second) for row, label in zip(rows, drawn, strict=True)]
