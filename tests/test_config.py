"""`qkv.config`: what is accepted, what is refused and in which words, and that parse and plain are inverses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from qkv.config import differing, entry_name, override, parse, plain
from qkv.errors import UserError


@dataclass(frozen=True)
class NoPosition:
    pass


@dataclass(frozen=True)
class Rotary:
    theta: float = 10000.0
    layout: Literal["interleaved", "halves"] = "halves"


@dataclass(frozen=True)
class Learned:
    length: int


PositionConfig = NoPosition | Rotary | Learned


@dataclass(frozen=True)
class Causal:
    pass


@dataclass(frozen=True)
class All:
    parts: tuple[Mask, ...] = ()


@dataclass(frozen=True)
class Invert:
    part: Mask = Causal()


Mask = Causal | All | Invert


class Shape:
    """A base class: as an annotation it is the table of its subclasses."""


@dataclass(frozen=True)
class Point(Shape):
    pass


@dataclass(frozen=True)
class Group(Shape):
    parts: tuple[Shape, ...]


@dataclass(frozen=True)
class Model:
    heads: int = 2
    position: PositionConfig = Rotary()
    mask: Mask | None = None

    def __post_init__(self) -> None:
        if self.heads < 1:
            raise ValueError(f"heads must be positive, got {self.heads}")


@dataclass(frozen=True)
class Recipe:
    name: str
    model: Model = Model()
    draft: Model | None = None
    rate: float = 1e-3
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    bf16: bool = False
    betas: tuple[float, float] = (0.9, 0.98)
    patience: int | None = None
    limit: int | Literal["all"] = "all"
    data: Path = Path("corpus.tsv")
    columns: tuple[int | str, ...] = ()
    fields: dict[str, PositionConfig] = field(default_factory=dict)


def recipe(**data: Any) -> Recipe:
    return parse(Recipe, {"name": "demo"} | data)


def test_entries_by_name_by_mapping_and_by_default() -> None:
    assert recipe().model.position == Rotary()
    assert recipe(model={"position": "no_position"}).model.position == NoPosition()
    assert recipe(model={"position": {"rotary": {"theta": 5}}}).model.position == Rotary(theta=5.0)
    assert recipe(model={"position": {"rotary": None}}).model.position == Rotary()
    assert recipe(model=None).model == Model()


def test_tables_may_be_recursive() -> None:
    mask = yaml.safe_load("all: {parts: [causal, {invert: {part: {all: {parts: [causal]}}}}]}")
    assert parse(Mask, mask) == All((Causal(), Invert(All((Causal(),)))))


def test_a_single_field_needs_no_name() -> None:
    assert parse(PositionConfig, {"learned": 7}) == Learned(7)
    assert parse(Mask, yaml.safe_load("all: [causal, {invert: causal}, {invert: {all: []}}]")) == All(
        (Causal(), Invert(Causal()), Invert(All()))
    )
    with pytest.raises(UserError, match=r"^learned\.length: expected an integer, got 'x'"):
        parse(PositionConfig, {"learned": "x"})
    with pytest.raises(UserError, match=r"^rotary: expected a mapping with keys theta, layout, got 5"):
        parse(PositionConfig, {"rotary": 5})


def test_a_base_class_is_the_table_of_its_subclasses() -> None:
    group = Group((Point(), Group((Point(),))))
    assert parse(Shape, {"group": ["point", {"group": ["point"]}]}) == group
    assert parse(Shape, plain(group, Shape)) == group
    with pytest.raises(UserError, match=r"^group\.parts\.0: unknown entry 'pint' \(did you mean point\?\)"):
        parse(Shape, {"group": ["pint"]})


def test_leaves_take_what_yaml_makes_of_numbers() -> None:
    read = parse(
        Recipe, yaml.safe_load("{name: x, rate: 1e-3, patience: 1e1, betas: [0, 1], data: a/b, columns: [1, b]}")
    )
    assert (read.rate, read.patience, read.betas, read.data) == (1e-3, 10, (0.0, 1.0), Path("a/b"))
    assert isinstance(read.betas[0], float) and isinstance(read.patience, int)
    assert read.columns == (1, "b")
    assert recipe(limit=3).limit == 3
    assert recipe(patience=None).patience is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model": {"heads": "abc"}}, "model.heads: expected an integer, got 'abc'"),
        ({"model": {"heads": 2.5}}, "model.heads: expected an integer, got 2.5"),
        ({"model": {"heads": True}}, "model.heads: expected an integer, got true"),
        ({"model": {"heads": "inf"}}, "model.heads: expected an integer, got 'inf'"),
        ({"model": {"heads": 0}}, "model: heads must be positive, got 0"),
        ({"model": {"haeds": 2}}, "model.haeds: unknown key (did you mean heads?); valid keys: heads, position, mask"),
        ({"model": 3}, "model: expected a mapping with keys heads, position, mask, got 3"),
        (
            {"model": {"position": "rotory"}},
            "model.position: unknown entry 'rotory' (did you mean rotary?); valid: no_position, rotary, learned",
        ),
        ({"model": {"position": 7}}, "model.position: expected one of no_position, rotary, learned, got 7"),
        (
            {"model": {"position": {"rotary": {}, "learned": {}}}},
            "model.position: expected exactly one of no_position, rotary, learned, got rotary and learned; "
            "name the one you mean first",
        ),
        ({"model": {"position": "learned"}}, "model.position.learned.length: required but missing"),
        (
            {"model": {"position": {"rotary": {"layout": "halfs"}}}},
            "model.position.rotary.layout: expected one of interleaved, halves, got 'halfs' (did you mean halves?)",
        ),
        ({"model": {"mask": {"all": {"parts": ["x"]}}}}, "model.mask.all.parts.0: unknown entry 'x'; valid: causal,"),
        ({"model": {"mask": {"all": {"parts": "causal"}}}}, "model.mask.all.parts: expected a list of"),
        ({"rate": None}, "rate: expected a number, got null"),
        ({"rate": [1]}, "rate: expected a number, got [1]"),
        ({"dropout": 1}, "dropout: input should be less than 1, got 1"),
        ({"bf16": "yes please"}, "bf16: expected true or false, got 'yes please'"),
        ({"bf16": 1}, "bf16: expected true or false, got 1"),
        ({"betas": [0.9]}, "betas: expected 2 elements, got 1"),
        ({"betas": [0.9, "x"]}, "betas.1: expected a number, got 'x'"),
        ({"patience": "x"}, "patience: expected an integer, got 'x'"),
        ({"limit": "al"}, "limit: expected an integer or one of all, got 'al'"),
        ({"data": 5}, "data: expected a path, got 5"),
        ({"name": 5}, "name: expected text, got 5"),
        ({"fields": {"a": "rotar"}}, "fields.a: unknown entry 'rotar' (did you mean rotary?)"),
        ({"fields": []}, "fields: expected a mapping, got []"),
        ({"name": "x" * 200, "rate": "x" * 200}, "rate: expected a number, got 'xxxx"),
    ],
)
def test_refusals_say_where_and_what(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe(**data)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 200
    with pytest.raises(UserError, match=r"^run\.") as nested:
        parse(Recipe, {"name": "demo"} | data, where="run")
    assert str(nested.value) == f"run.{caught.value}"


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match=r"^name: required but missing$"):
        parse(Recipe, {})


def test_entry_names() -> None:
    names = {entry_name(type(name, (), {})) for name in ("RelativeBuckets", "BPE", "ByteBPE", "RMSNorm", "Top2")}
    assert names == {"relative_buckets", "bpe", "byte_bpe", "rms_norm", "top2"}


def test_plain_writes_bare_names_and_full_fields() -> None:
    data = plain(Model(position=Rotary(), mask=Invert(All((Causal(),)))))
    assert data == {"heads": 2, "position": "rotary", "mask": {"invert": {"part": {"all": {"parts": ["causal"]}}}}}
    assert plain(Rotary(theta=5.0), PositionConfig) == {"rotary": {"theta": 5.0, "layout": "halves"}}


POSITIONS = st.one_of(
    st.just(NoPosition()),
    st.builds(Rotary, st.floats(1, 1e6), st.sampled_from(["interleaved", "halves"])),
    st.builds(Learned, st.integers(1)),
)
MASKS = st.recursive(
    st.just(Causal()), lambda m: st.builds(All, st.lists(m, max_size=3).map(tuple)) | st.builds(Invert, m), max_leaves=5
)
MODELS = st.builds(Model, st.integers(1), POSITIONS, st.none() | MASKS)
RECIPES = st.builds(
    Recipe,
    name=st.text(),
    model=MODELS,
    draft=st.none() | MODELS,
    rate=st.floats(allow_nan=False, allow_infinity=False),
    dropout=st.floats(0, 0.99),
    bf16=st.booleans(),
    betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    patience=st.none() | st.integers(),
    limit=st.integers() | st.just("all"),
    data=st.text("ab/.", min_size=1).map(Path),
    columns=st.lists(st.integers() | st.text()).map(tuple),
    fields=st.dictionaries(st.text(), POSITIONS, max_size=3),
)


@given(RECIPES)
def test_parse_inverts_plain_through_yaml(config: Recipe) -> None:
    written = yaml.safe_dump(plain(config))
    assert parse(Recipe, yaml.safe_load(written)) == config


@given(MASKS, POSITIONS)
def test_a_table_at_the_top_round_trips(mask: Any, position: Any) -> None:
    assert parse(Mask, plain(mask, Mask)) == mask
    assert parse(PositionConfig, plain(position, PositionConfig)) == position


def test_override_reads_yaml_and_leaves_its_argument_alone() -> None:
    data = {"a": {"b": 1}, "list": [{"c": 1}, 2]}
    assert override(data, "a.b=2")["a"]["b"] == 2
    assert override(data, "a.d.e=[1, x]")["a"] == {"b": 1, "d": {"e": [1, "x"]}}
    assert override(data, "list.0.c=null")["list"] == [{"c": None}, 2]
    assert override(data, "text=a=b")["text"] == "a=b"
    assert data == {"a": {"b": 1}, "list": [{"c": 1}, 2]}


def test_override_opens_a_bare_entry() -> None:
    chosen = override({"position": "learned"}, "position=rotary")
    assert override(chosen, "position.rotary.theta=5") == {"position": {"rotary": {"theta": 5}}}
    assert override(chosen, "position.learned.length=5") == {"position": {"learned": {"length": 5}}}
    masks = override({"masks": ["causal", "all"]}, "masks.1.all.parts=[causal]")
    assert masks == {"masks": ["causal", {"all": {"parts": ["causal"]}}]}


@pytest.mark.parametrize("assignment", ["a", "=1", "a..b=1", ".a=1", "a=[1", "list.x=1", "list.7=1", "list.x.y=1"])
def test_malformed_overrides_are_refused(assignment: str) -> None:
    with pytest.raises(UserError, match=r"^override "):
        override({"list": [1]}, assignment)


def test_differing_names_the_keys() -> None:
    a = {"same": 1, "model": {"heads": 2, "position": "rotary"}, "gone": None}
    b = {"same": 1, "model": {"heads": 4, "position": {"rotary": {}}}, "new": [1]}
    assert differing(a, b) == ["model.heads", "model.position", "gone", "new"]
    assert differing(a, a) == []
