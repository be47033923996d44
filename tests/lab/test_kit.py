"""The kit refuses what proves nothing, and the same seed gives the same numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import torch

from qkv import config
from qkv.errors import UserError
from qkv.lab import small
from qkv.lab.checks import above, below, between, close, exactly, higher, lower
from qkv.lab.evidence import Claim, Evidence, Text
from qkv.lab.kit import Lab, experiment, run, within

SAID = Text("it is", "是")
WITHOUT = Text("without it", "没有它")
HALF = above(0.5)


def claim(lab: Lab, measure=lambda arm: arm, arm=1.0, control=0.0, holds=HALF, **more) -> Claim:
    made = lab.claim("c", SAID, measure=measure, arm=arm, control=control, without=WITHOUT, holds=holds, **more)
    assert made is not None
    return made


def test_a_claim_holds_where_it_should_and_fails_in_its_control():
    assert claim(Lab()).passed


def test_a_claim_that_its_control_also_satisfies_proves_nothing():
    made = claim(Lab(), control=0.9)
    assert made.held and not made.refuted and not made.passed


@pytest.mark.parametrize("without", [Text("", ""), Text("only English", "")])
def test_a_claim_without_a_control_in_words_is_refused(without):
    with pytest.raises(ValueError, match="control"):
        Lab().claim("c", SAID, measure=float, arm=1.0, control=0.0, without=without, holds=above(0))


def test_a_control_that_is_the_arm_itself_is_refused():
    same = [1.0]
    with pytest.raises(ValueError, match="another arm"):
        claim(Lab(), measure=lambda arm: arm[0], arm=same, control=same)


@pytest.mark.parametrize("seeds", [1, 2])
def test_training_claims_take_at_least_three_seeds(seeds):
    with pytest.raises(ValueError, match="at least 3"):
        claim(Lab(), seeds=seeds)


def scattered(arm: tuple[float, ...], seed: int) -> float:
    return arm[seed]


def test_over_seeds_the_gap_must_be_three_times_the_range():
    wide = claim(Lab(), measure=scattered, arm=(2.0, 2.1, 2.2), control=(0.0, 0.1, 0.2), holds=higher(), seeds=3)
    assert wide.passed and wide.margin == pytest.approx(10.0)
    narrow = claim(Lab(), measure=scattered, arm=(1.0, 1.5, 2.0), control=(0.0, 0.1, 0.2), holds=higher(), seeds=3)
    assert narrow.held and narrow.refuted and not narrow.passed


def test_one_seed_of_the_control_that_passes_refutes_nothing():
    made = claim(Lab(), measure=scattered, arm=(9.0, 9.1, 9.2), control=(0.0, 0.6, 0.2), seeds=3)
    assert made.held and made.margin > 3 and not made.refuted and not made.passed


def test_arm_and_control_draw_the_same_random_numbers():
    """The control is measured by the same code from the same state, so that only the mechanism differs."""
    drawn = claim(Lab(seed=2), measure=lambda arm, seed: torch.rand(()), seeds=3)
    assert drawn.measured == drawn.against and len({*drawn.measured}) == 3 and drawn.seeds == (2, 3, 4)
    alone = claim(Lab(), measure=lambda arm: torch.rand(()))
    assert alone.measured == alone.against


def test_one_seed_that_falls_behind_fails_the_claim():
    made = claim(Lab(), measure=scattered, arm=(2.0, 2.0, 0.1), control=(0.0, 0.1, 0.2), holds=higher(), seeds=3)
    assert not made.held and not made.passed


def test_a_measure_that_breaks_fails_the_claim_and_says_why():
    made = claim(Lab(), measure=lambda arm: 1 / 0)
    assert not made.passed and "division" in made.error


def test_a_name_is_measured_once():
    lab = Lab()
    lab.number("c", 1.0)
    with pytest.raises(ValueError, match="twice"):
        claim(lab)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (above(1), 1.1, 1.0),
        (below(1), 0.9, 1.0),
        (between(1, 2), 2.0, 2.1),
        (close(1, 0.1), 1.05, 1.2),
        (exactly(3), 3.0, 3.0001),
    ],
)
def test_checks(check, good, bad):
    assert check(good) and not check(bad) and not check(float("nan"))


def test_comparisons_are_with_every_value_of_the_other_arm():
    assert higher()(2.0, (1.0, 1.9)) and not higher()(2.0, (1.0, 2.0))
    assert lower()(0.5, (1.0, 0.6)) and not lower()(0.6, (1.0, 0.6))


@dataclass(frozen=True)
class Coin:
    """throws: how many."""

    throws: Annotated[int, within(1, 100)] = 10


@experiment()
def coin(lab: Lab, params: Coin) -> None:
    """Heads are counted."""
    heads = torch.rand(params.throws, generator=lab.generator()) < 0.5
    lab.number("share", heads.float().mean(), "share")
    lab.claim("some", SAID, measure=len, arm=[1], control=[], without=WITHOUT, holds=exactly(1))


@experiment()
def silent(lab: Lab, params: Coin) -> None:
    """Nothing is claimed."""


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    first, again, other = (run(coin, seed=seed).plain() for seed in (0, 0, 3))
    for evidence in (first, again, other):
        del evidence["seconds"]
    assert first == again and first["numbers"] != other["numbers"]


def test_evidence_survives_json():
    evidence = run(coin, Coin(7), seed=1)
    assert Evidence.of(evidence.plain()) == evidence
    values = evidence.values()
    assert values["throws"] == 7 and values["some"] == 1.0 and values["some.control"] == 0.0


def test_a_placeholder_may_name_mean_ends_and_margin():
    made = claim(Lab(), measure=scattered, arm=(2.0, 2.1, 2.5), control=(0.0, 0.1, 0.2), holds=higher(), seeds=3)
    values = Evidence("x", {}, 0, claims=(made,)).values()
    found = [values[name] for name in ("c", "c.least", "c.most", "c.seeds", "c.control", "c.control.most")]
    assert found == pytest.approx([2.2, 2.0, 2.5, 3, 0.1, 0.2]) and values["c.margin"] == pytest.approx(2.1 / 0.5)


def test_an_experiment_that_claims_nothing_is_refused():
    with pytest.raises(ValueError, match="claims nothing"):
        run(silent)


def test_only_the_wanted_claims_are_measured():
    assert run(coin, only=()).claims == ()
    assert [c.name for c in run(coin, only={"some"}).claims] == ["some"]


def test_bad_parameters_get_a_sentence():
    with pytest.raises(UserError, match=r"throws: .*100"):
        config.parse(Coin, {"throws": 1000})


def test_each_update_gets_a_batch_of_its_own_and_each_seed_other_ones():
    def seen(seed: int) -> list[int]:
        drawn: list[int] = []

        def make(generator: torch.Generator):
            drawn.append(int(torch.randint(10**6, (), generator=generator)))
            return small.nothing(generator)

        Lab().train(small.decoder(4, d_model=8, n_layers=1), make, 3, seed=seed)
        return drawn

    assert len({*seen(0), *seen(1)}) == 6 and seen(0) == seen(0)


def test_training_in_the_lab_is_fit_and_repeats_itself():
    def counting(generator: torch.Generator):
        start = torch.randint(8, (16, 1), generator=generator)
        return small.following((start + torch.arange(6)) % 8)

    def trained(seed: int) -> float:
        torch.manual_seed(seed)
        model = small.decoder(8, d_model=16, n_layers=1)
        Lab().train(model, counting, 60, seed=seed, learning_rate=1e-2)
        return small.accuracy(model, counting(torch.Generator().manual_seed(99)))

    assert trained(0) == trained(0) > 0.9
