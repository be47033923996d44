"""Faults in the toolkit, and the claims of the lab that each must turn red. `python -m tests.lab.faults` prints
the table of docs/falsifiability.md.

A fault wraps one function: `plant(original)` is what takes its place while the claims are measured."""

from __future__ import annotations

import functools
import importlib
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from qkv.lab.evidence import Claim
from qkv.lab.kit import run
from qkv.lab.registry import experiments
from qkv.lab.terminal import summary
from qkv.nn import Window

Plant = Callable[[Any], Any]


@dataclass(frozen=True)
class Fault:
    """name: in words. where: module:attribute or module:Class.attribute. claims: experiment.claim, each must fail."""

    name: str
    where: str
    plant: Plant
    claims: tuple[str, ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The toolkit with this fault in it."""
        module, path = self.where.split(":")
        *outer, attribute = path.split(".")
        owner = functools.reduce(getattr, outer, importlib.import_module(module))
        inherited = isinstance(owner, type) and attribute not in owner.__dict__
        original = owner.__dict__[attribute] if isinstance(owner, type) and not inherited else getattr(owner, attribute)
        setattr(owner, attribute, self.plant(original))
        try:
            yield
        finally:
            delattr(owner, attribute) if inherited else setattr(owner, attribute, original)

    def measured(self) -> dict[str, Claim]:
        """Its claims, measured with the fault in place."""
        wanted = defaultdict(set)
        for claim in self.claims:
            experiment, _, name = claim.partition(".")
            wanted[experiment].add(name)
        found = {}
        with self.planted():
            for name, only in wanted.items():
                for claim in run(experiments()[name], only=only).claims:
                    found[f"{name}.{claim.name}"] = claim
        return found


def after(change: Callable[..., Any]) -> Plant:
    """A function whose result is changed: change(result, *its arguments)."""

    def plant(original: Any) -> Any:
        @functools.wraps(original)
        def wrong(*args: Any, **kwargs: Any) -> Any:
            return change(original(*args, **kwargs), *args)

        return wrong

    return plant


def instead(wrong: Callable[..., Any]) -> Plant:
    """Another function in its place."""
    return lambda original: wrong


def mean_of_means(terms: dict[str, Any], *_: Any) -> dict[str, Any]:
    return {name: (total / count, 1.0, weight) for name, (total, count, weight) in terms.items()}


def unscaled(_: None, attention: Any, *__: Any) -> None:
    attention.scale = 1.0


def tied(heads: Any, *_: Any) -> Any:
    q, k, v = heads
    return (q, q, v) if q.shape == k.shape else heads


def half_smoothed(original: Any) -> Any:
    return lambda hidden, weight, bias, targets, smoothing, *rest: original(
        hidden, weight, bias, targets, smoothing / 2, *rest
    )


ATTENTION, LOSSES = "qkv.nn.attention:Attention", "qkv.training.losses:TokenCrossEntropy"
FAULTS = [
    Fault("scores are not scaled", f"{ATTENTION}.__init__", after(unscaled), ("scaling_alternatives.fold",)),
    Fault("keys are the queries", f"{ATTENTION}._within", after(tied), ("directed_cycle.loss", "directed_cycle.right")),
    Fault(
        "no residual path",
        "qkv.nn.block:Residual.forward",
        instead(lambda self, x, f, tokens: f(x if self.inner is None else self.inner(x, tokens))),
        ("residual_stream.sum_of_branches", "rank_collapse.kept_apart"),
    ),
    Fault(
        "the causal mask is off by one",
        "qkv.nn.masks:Causal.simplify",
        instead(lambda self, q, k: Window(ahead=1)),
        ("mask_sites.future", "attention_sites.decoder"),
    ),
    Fault(
        "padding is seen",
        "qkv.nn.tokens:Tokens.padded",
        instead(property(lambda self: False)),
        ("variable_length.padded",),
    ),
    Fault(
        "a row that sees nothing is not handled",
        "qkv.nn.kernels:seen_softmax",
        instead(
            lambda scores, visible: (
                scores.softmax(-1) if visible is None else scores.masked_fill(~visible, -torch.inf).softmax(-1)
            )
        ),
        ("mask_algebra.empty_row",),
    ),
    Fault(
        "key heads are tiled, not interleaved",
        "qkv.nn.kernels:spread",
        instead(lambda x, n: x if x.shape[1] == n else x.repeat(1, n // x.shape[1], 1, 1)),
        ("cheaper_attention.shared_heads",),
    ),
    Fault("a mean of means", f"{LOSSES}.__call__", after(mean_of_means), ("exact_accumulation.normalised",)),
    Fault(
        "a layer norm that does not divide",
        "qkv.nn.norms:LayerNormalization.forward",
        instead(lambda self, x, tokens=None: x - x.mean(-1, keepdim=True)),
        ("layer_norm_geometry.scale",),
    ),
    Fault(
        "half of the smoothing",
        "qkv.training.fused:_sweep",
        half_smoothed,
        ("label_smoothing.mixture", "label_smoothing.finite"),
    ),
    Fault(
        "rotary positions do not turn",
        "qkv.nn.positions:RotaryPosition.rotate",
        instead(lambda self, x, tokens: x),
        ("sinusoid_geometry.rotary_keeps",),
    ),
    Fault(
        "cached values lie one place off",
        "qkv.nn.cache:Cache.append",
        after(lambda pair, *_: (pair[0], pair[1].roll(1, dims=2))),
        ("decoder_steps.cached",),
    ),
    Fault(
        "decay is inside the gradient",
        "qkv.training.optim:AdamW.build",
        instead(
            lambda self, model, rate: torch.optim.Adam(
                model.parameters(), rate, self.betas, self.eps, self.weight_decay
            )
        ),
        ("decay_and_prior.flat_shrinks",),
    ),
    Fault(
        "the encoder gets no gradient",
        "qkv.models.transformer:EncoderDecoder.encode",
        after(lambda memory, *_: replace(memory, x=memory.x.detach())),
        ("cross_link.only_link",),
    ),
]


def main() -> None:
    """Print the table of faults and what each did to its claims, as Markdown; exit 1 if one changed nothing."""
    print("| fault | claim | with the fault | turns red |\n|---|---|---|---|")
    blind = 0
    for fault in FAULTS:
        for name, claim in fault.measured().items():
            blind += claim.passed
            told = claim.error.split("\n")[0] or summary(claim)
            print(f"| {fault.name} | `{name}` | {told.replace('|', '∣')} | {'**no**' if claim.passed else 'yes'} |")
    sys.exit(min(blind, 1))


if __name__ == "__main__":
    main()
