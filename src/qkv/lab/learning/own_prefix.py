"""The same model trained on gold prefixes and on its own: what each converges to (A63, A26, A1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Annotated

import torch

from qkv import runtime
from qkv.data.batch import Batch
from qkv.data.chains import MarkovChain
from qkv.decoding import Sample, generate
from qkv.lab import figures, small
from qkv.lab.checks import below
from qkv.lab.evidence import Text
from qkv.lab.kit import Lab, experiment, within
from qkv.models import DecoderOnly
from qkv.nn import Tokens

from .sequences import Joint


@dataclass(frozen=True)
class Prefixes:
    """symbols, length: of the sequences of a source of order 2. rows: sequences a batch. steps: updates."""

    symbols: Annotated[int, within(2, 5)] = 4
    length: Annotated[int, within(4, 6)] = 6
    rows: Annotated[int, within(8, 256)] = 64
    steps: Annotated[int, within(10, 1000)] = 300


class Trial:
    """A source, all its sequences, and models trained on it."""

    def __init__(self, lab: Lab, params: Prefixes):
        self.lab, self.params = lab, params
        self.chain = MarkovChain.random(params.symbols, 2, lab.generator())
        self.truth = Joint.of_chain(self.chain, params.length)
        self.asked = params.length - 1
        self.trained = cache(self._train)

    def _train(self, own: bool, seed: int) -> Joint:
        """own: the inputs after the first symbol are sampled from the model as it is."""
        params = self.params
        runtime.seed_everything(seed)
        model = small.decoder(params.symbols, d_model=32, n_layers=1)

        def make(generator: torch.Generator) -> Batch:
            ids = self.chain.sample(params.rows, params.length, generator)
            return self._own(model, ids, generator) if own else small.following(ids)

        self.lab.train(model, make, params.steps, seed=seed)
        return Joint.of_model(model, params.symbols, params.length)

    def _own(self, model: DecoderOnly, ids: torch.Tensor, generator: torch.Generator) -> Batch:
        start, draw = ids[:, :1], Sample(seed=int(torch.randint(1 << 30, (), generator=generator)))
        found = generate(
            model, start, Tokens.arange(*start.shape), chooser=draw, max_new=self.params.length - 2, eos=-1
        )
        return small.labelled(torch.cat([start, torch.tensor([h[0].ids for h in found])], 1), ids[:, 1:])

    def excess(self, own: bool, seed: int) -> float:
        """KL(source ‖ model) per asked symbol, over all sequences."""
        return self.truth.divergence(self.trained(own, seed)) / self.asked


@experiment(long=True)
def own_prefix(lab: Lab, params: Prefixes) -> None:
    """Gold prefixes bring the model to the source; its own prefixes teach it to ignore them."""
    trial = Trial(lab, params)
    forgetful = trial.truth.forgetful()
    predicted = trial.truth.divergence(forgetful) / trial.asked
    lab.number("entropy", (trial.truth.entropy() - math.log(params.symbols)) / trial.asked, "nat")
    lab.number("predicted", predicted, "nat")
    lab.claim(
        "reaches",
        Text(
            "On gold prefixes the KL to the source falls below 0.05 nat a symbol.",
            "用标准前缀训练，与信源的 KL 降到每符号 0.05 奈特以下。",
        ),
        measure=trial.excess,
        arm=False,
        control=True,
        without=Text("prefixes sampled from the model itself, targets the same", "前缀改由模型自己采样，目标不变"),
        holds=below(0.05),
        unit="nat",
        seeds=3,
    )
    lab.claim(
        "forgets",
        Text(
            "On its own prefixes it converges to the model that knows the first symbol and ignores the rest.",
            "用自己的前缀训练，收敛到只认首符号、不看其余前缀的模型。",
        ),
        measure=lambda own, seed: forgetful.divergence(trial.trained(own, seed)) / trial.asked,
        arm=True,
        control=False,
        without=Text("gold prefixes", "标准前缀"),
        holds=below(0.05),
        unit="nat",
        seeds=3,
    )
    forced = [trial.trained(False, seed) for seed in lab.seeds()]
    n, truth = params.length, trial.truth
    drift = {t: fmean(truth.variation(q, t) for q in forced) for t in range(1, n + 1)}
    bound = {t: fmean(math.sqrt(max(truth.head(q, t), 0.0) / 2) for q in forced) for t in range(1, n + 1)}
    lab.number("drift_early", drift[2])
    lab.number("drift", drift[n])
    lab.number("bound", bound[n])
    lab.figure(
        "drift",
        figures.lines(
            Text("Free running after teacher forcing", "教师强制之后的自由运行"),
            Text("symbols", "符号数"),
            Text("total variation from the source", "与信源的总变差"),
            {"measured": list(drift.items()), "bound": list(bound.items())},
            {"measured": Text("measured", "实测"), "bound": Text("√(KL/2)", "√(KL/2)")},
        ),
    )
