"""Masks against a twin that looks at one pair of tokens at a time, over random expressions and random tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qkv.nn import (
    All,
    Any,
    Causal,
    Explicit,
    Full,
    GlobalTokens,
    Not,
    Prefix,
    SameDocument,
    Tokens,
    View,
    Window,
)
from tests.nn.grid import masks

T, S, B = 4, 5, 2


def sees(mask, q: dict, k: dict, where: tuple[int, int, int, int]) -> bool:
    """Whether one query may see one key, in plain Python; `where` = (row, head, query index, key index)."""
    match mask:
        case Full():
            return True
        case Causal():
            return k["pos"] <= q["pos"]
        case Window(back, ahead):
            distance = q["pos"] - k["pos"]
            return (back is None or distance <= back) and (ahead is None or -distance <= ahead)
        case Prefix():
            return k.get("prefix", 0) > 0
        case SameDocument():
            return q.get("doc", 0) == k.get("doc", 0)
        case GlobalTokens():
            return q.get("global", 0) > 0 or k.get("global", 0) > 0
        case Explicit():
            return bool(mask.visible[where])
        case All(parts):
            return all(sees(part, q, k, where) for part in parts)
        case Any(parts):
            return any(sees(part, q, k, where) for part in parts)
        case Not(part):
            return not sees(part, q, k, where)
    raise AssertionError(mask)


def one(tokens: Tokens, row: int, column: int) -> dict:
    """A single token as a dictionary."""
    return {"pos": int(tokens.pos[row, column])} | {n: int(f[row, column]) for n, f in tokens.fields.items()}


def twin(mask, q: Tokens, k: Tokens, heads: int = 1) -> torch.Tensor:
    """bool [B,H,T,S]: the expression, and that the key is no padding."""
    out = torch.zeros(B, heads, q.shape[1], k.shape[1], dtype=torch.bool)
    for b, h, t, s in out.clone().fill_(True).nonzero().tolist():
        key = one(k, b, s)
        out[b, h, t, s] = key["pos"] >= 0 and sees(mask, one(q, b, t), key, (b, h, t, s))
    return out


def tokens_of(length: int, names: tuple[str, ...]) -> st.SearchStrategy[Tokens]:
    """Any positions, padding anywhere, and the given fields."""
    cell = st.lists(st.lists(st.integers(-1, 5), min_size=length, max_size=length), min_size=B, max_size=B)
    bits = st.lists(st.lists(st.integers(0, 1), min_size=length, max_size=length), min_size=B, max_size=B)
    return st.builds(
        lambda pos, fields: Tokens(torch.tensor(pos), {n: torch.tensor(f) for n, f in fields.items()}),
        cell,
        st.fixed_dictionaries({name: bits for name in names}),
    )


FIELDS = st.lists(st.sampled_from(["doc", "prefix", "global"]), unique=True).map(tuple)
PAIRS = st.tuples(FIELDS, FIELDS).flatmap(lambda names: st.tuples(tokens_of(T, names[0]), tokens_of(S, names[1])))
TABLES = st.integers(0, 99).map(
    lambda seed: torch.rand(B, 1, T, S, generator=torch.Generator().manual_seed(seed)) < 0.5
)
BOUNDS = st.none() | st.integers(0, 3)
LEAVES = (
    st.sampled_from([Full(), Causal(), Prefix(), SameDocument(), GlobalTokens()])
    | st.builds(Window, BOUNDS, BOUNDS)
    | TABLES.map(Explicit)
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(inner, inner).map(lambda ab: ab[0] & ab[1])
        | st.tuples(inner, inner).map(lambda ab: ab[0] | ab[1])
        | inner.map(lambda a: ~a)
    ),
    max_leaves=6,
)


def shown(view: View) -> torch.Tensor:
    """The view's table in full, bool [B,1,T,S]."""
    visible, _ = view.dense()
    shape = (B, 1, view.q.shape[1], view.k.shape[1])
    return torch.ones(shape, dtype=torch.bool) if visible is None else visible.expand(shape)


@settings(max_examples=80)
@given(EXPRESSIONS, PAIRS)
def test_any_expression_equals_the_twin_and_never_reveals_padding(mask, pair):
    q, k = pair
    for expression in (mask, ~mask):
        table = shown(View(expression, q, k))
        assert table.equal(twin(expression, q, k))
        assert not table[(~k.valid)[:, None, None, :].expand_as(table)].any()


@settings(max_examples=60)
@given(EXPRESSIONS, PAIRS)
def test_simplified_is_equivalent(mask, pair):
    q, k = pair
    full, simple = mask(q, k), mask.simplify(q, k)(q, k)
    assert full.broadcast_to(B, 1, T, S).equal(simple.broadcast_to(B, 1, T, S))


@settings(max_examples=60)
@given(EXPRESSIONS, PAIRS, st.integers(0, T - 1), st.integers(0, S - 1))
def test_a_tile_is_a_slice_of_the_table(mask, pair, t, s):
    view = View(mask, *pair)
    qs, ks = slice(t, t + 2), slice(s, s + 3)
    visible, _ = view.tile(qs, ks)
    expected = shown(view)[:, :, qs, ks]
    assert expected.equal(torch.ones_like(expected) if visible is None else visible.expand_as(expected))


POSITIONS = st.sampled_from(
    [
        Tokens.arange(B, T),
        Tokens.arange(B, T, start=2),
        Tokens.from_lengths([4, 2], T),
        Tokens.from_lengths([4, 2], T, "left"),
        Tokens(torch.tensor([[0, 1, 0, 1], [0, 1, 2, 0]]), {"doc": torch.tensor([[0, 0, 1, 1], [0, 0, 0, 1]])}),
        Tokens(torch.tensor([[3, 3, 3, 3], [1, 1, 1, 1]])),
        Tokens(torch.tensor([[3, 2, 1, 0], [0, 1, 2, 3]])),
        Tokens.arange(B, 1, start=3),
        Tokens.arange(B, 1, start=1),
        Tokens(torch.tensor([[-1], [2]])),
    ]
)
USUAL = st.sampled_from(
    [*masks(B, T, 1).values(), ~~Causal(), Causal() & Full(), Causal() & SameDocument() & ~Prefix()]
)


@settings(max_examples=150)
@given(USUAL | EXPRESSIONS, POSITIONS, POSITIONS, st.booleans())
def test_facts_are_claimed_only_when_the_table_says_so(mask, q, k, same):
    k = q if same else k
    if any(isinstance(leaf, Explicit) for leaf in _leaves(mask)) and (q.shape[1], k.shape[1]) != (T, S):
        return
    view, table = View(mask, q, k), twin(mask, q, k)
    rows = q.valid[:, None, :, None].expand_as(table)  # rows of padding queries are unspecified
    if view.all_visible:
        assert table[rows].all()
    if view.causal_only:
        triangle = torch.ones(table.shape[2:], dtype=torch.bool).tril().expand_as(table)
        assert table[rows].equal(triangle[rows])


def _leaves(mask):
    if isinstance(mask, All | Any):
        return [leaf for part in mask.parts for leaf in _leaves(part)]
    return _leaves(mask.part) if isinstance(mask, Not) else [mask]


def test_facts_are_claimed_where_the_fast_paths_need_them():
    plain, padded = Tokens.arange(2, 5), Tokens.from_lengths([5, 3])
    assert View(Full(), plain, plain).all_visible
    assert View(Causal(), plain, plain).causal_only and View(Causal(), padded, padded).causal_only
    assert View(Causal() & SameDocument() & ~Prefix(), plain, plain).causal_only, "no documents: one document"
    step = Tokens.arange(2, 1, start=5)
    assert View(Causal(), step, plain.cat(step)).all_visible, "one new token sees all of its past"
    assert not View(Full(), plain, padded).all_visible
    assert not View(Causal(), Tokens.arange(2, 1, start=3), plain).all_visible, "a key lies ahead of it"
    bias = lambda q, k: torch.zeros(1, 1, q.shape[1], k.shape[1])  # noqa: E731
    assert not View(Full(), plain, plain, bias).all_visible and not View(Causal(), plain, plain, bias).causal_only


def test_a_field_that_new_tokens_lack_is_zero():
    prompt = Tokens.arange(1, 3).with_fields(**{"global": torch.tensor([[1, 0, 0]]), "doc": torch.tensor([[0, 0, 7]])})
    new = Tokens.arange(1, 1, start=3)
    keys = prompt.cat(new)
    local = Window(0, 0)
    assert View(local | GlobalTokens(), new, keys).dense()[0].tolist() == [[[[True, False, False, True]]]]
    assert View(SameDocument(), new, keys).dense()[0].tolist() == [[[[True, True, False, True]]]]


def test_messages():
    with pytest.raises(ValueError, match="not negative"):
        Window(-1)
    with pytest.raises(ValueError, match="2 queries and 3 keys"):
        Explicit(torch.ones(1, 1, 4, 4, dtype=torch.bool))(Tokens.arange(1, 2), Tokens.arange(1, 3))


def test_additive_is_minus_infinity_where_hidden_and_the_bias_elsewhere():
    q = Tokens.from_lengths([3, 2])
    bias = torch.randn(1, 4, 3, 3)
    view = View(Causal(), q, q, lambda a, b: bias)
    added = view.additive(torch.float64)
    visible = twin(Causal(), q, q).expand(2, 4, 3, 3)
    assert added.dtype == torch.float64
    assert added[~visible].eq(float("-inf")).all() and added[visible].equal(bias.expand(2, 4, 3, 3)[visible].double())
