"""Positions against closed forms and the published rules."""

from __future__ import annotations

import math

import pytest
import torch

from qkv.nn import Learned, LinearBias, NoPosition, RelativeBuckets, Rotary, Sinusoidal, Tokens
from qkv.nn.positions import PositionShape
from tests.nn.grid import close

E, H, D = 12, 4, 8
SHAPE = PositionShape(width=E, n_heads=H, d_head=D)
ALL = [NoPosition(), Sinusoidal(), Learned(64), Rotary(), Rotary(layout="interleaved"), LinearBias(), RelativeBuckets()]


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_sinusoids_are_the_equation(layout):
    position = Sinusoidal(theta=100.0, layout=layout).build(SHAPE)
    tokens = Tokens(torch.tensor([[0, 3, 700]]))
    got = position.embed(torch.zeros(1, 3, E, dtype=torch.float64), tokens)
    for column, p in enumerate([0, 3, 700]):
        for i in range(E // 2):
            angle = p / 100.0 ** (2 * i / E)
            sine, cosine = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + E // 2)
            assert got[0, column, sine].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert got[0, column, cosine].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_sinusoids_are_added_in_the_dtype_of_the_embeddings():
    position, tokens = Sinusoidal().build(SHAPE), Tokens.arange(1, 4)
    exact = position.embed(torch.ones(1, 4, E, dtype=torch.float64), tokens)
    for dtype in (torch.float32, torch.bfloat16):
        assert position.embed(torch.ones(1, 4, E, dtype=dtype), tokens).dtype == dtype
    close(position.embed(torch.ones(1, 4, E), tokens).double(), exact, 1e-6)


def test_a_learned_table_refuses_what_is_beyond_it():
    position = Learned(5).build(SHAPE)
    x = torch.zeros(1, 2, E)
    tokens = Tokens(torch.tensor([[4, -1]]))
    close(position.embed(x, tokens)[0, 0], position.table.weight[4])
    with pytest.raises(ValueError, match=r"position 5 is beyond the 5 learned .* raise position.learned.max_length"):
        position.embed(x, Tokens(torch.tensor([[4, 5]])))
    assert position.max_length == 5 and Sinusoidal().build(SHAPE).max_length is None


@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_rotary_is_a_rotation_of_each_pair_by_its_angle(layout):
    position, theta = Rotary(theta=50.0, layout=layout).build(SHAPE), 50.0
    x = torch.randn(1, 2, 3, D, dtype=torch.float64)
    got = position.rotate(x, Tokens(torch.tensor([[0, 2, 900]])))
    for column, p in enumerate([0, 2, 900]):
        for i in range(D // 2):
            a, b = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + D // 2)
            angle = p * theta ** (-2 * i / D)
            expected = torch.complex(x[0, :, column, a], x[0, :, column, b]) * complex(math.cos(angle), math.sin(angle))
            close(torch.complex(got[0, :, column, a], got[0, :, column, b]), expected)


def test_rotary_scores_depend_on_the_offset_only():
    position = Rotary().build(SHAPE)
    q, k = torch.randn(1, 1, 1, D, dtype=torch.float64), torch.randn(1, 1, 1, D, dtype=torch.float64)

    def score(p: int, s: int) -> torch.Tensor:
        at = [position.rotate(x, Tokens(torch.tensor([[i]]))) for x, i in ((q, p), (k, s))]
        return (at[0] * at[1]).sum()

    close(score(7, 3), score(1007, 1003), 1e-9)
    close(score(7, 3), score(4, 0))
    assert (score(7, 3) - score(7, 4)).abs() > 1e-4 and (score(7, 3) - score(3, 7)).abs() > 1e-4


def test_the_two_rotary_layouts_are_one_function_up_to_a_permutation():
    x, tokens = torch.randn(1, 2, 6, D, dtype=torch.float64), Tokens.arange(1, 6)
    order = torch.arange(D).view(2, D // 2).t().flatten()  # component 2i, 2i+1 of one is i, i + D/2 of the other
    halves = Rotary(layout="halves").build(SHAPE).rotate(x, tokens)
    close(Rotary(layout="interleaved").build(SHAPE).rotate(x[..., order], tokens), halves[..., order])


def published_slopes(n: int) -> list[float]:
    """As printed by Press et al. 2021 (appendix and code): 2^(-8/n)... for powers of two, else interpolated."""

    def power_of_two(m: int) -> list[float]:
        start = 2 ** (-(2 ** -(math.log2(m) - 3)))
        return [start * start**i for i in range(m)]

    if math.log2(n).is_integer():
        return power_of_two(n)
    closest = 2 ** math.floor(math.log2(n))
    return power_of_two(closest) + published_slopes(2 * closest)[0::2][: n - closest]


@pytest.mark.parametrize("n_heads", [1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_linear_bias_is_minus_slope_times_distance(n_heads):
    position = LinearBias().build(PositionShape(E, n_heads, D))
    q, k = Tokens(torch.tensor([[5, 2]])), Tokens(torch.tensor([[0, 5, 9]]))
    slopes = torch.tensor(published_slopes(n_heads))
    distance = torch.tensor([[5, 0, 4], [2, 3, 7]])
    close(position.bias(q, k)[0], -slopes[:, None, None] * distance, 1e-6)


def published_bucket(offset: int, bidirectional: bool, n: int, furthest: int) -> int:
    """Raffel et al. 2020, §2.1: half of the buckets for exact offsets, the rest logarithmic up to a maximum."""
    bucket = 0
    if bidirectional:
        n //= 2
        bucket += n if offset > 0 else 0
        distance = abs(offset)
    else:
        distance = max(-offset, 0)
    exact = n // 2
    if distance < exact:
        return bucket + distance
    return bucket + min(exact + int(math.log(distance / exact) / math.log(furthest / exact) * (n - exact)), n - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("n", "furthest"), [(32, 128), (8, 20), (16, 100)])
def test_relative_buckets_are_the_published_rule(bidirectional, n, furthest):
    position = RelativeBuckets(n, furthest, bidirectional).build(SHAPE)
    offsets = [o for o in range(-300, 301) if not _on_a_boundary(o, bidirectional, n, furthest)]
    assert len(offsets) > 580
    expected = [published_bucket(o, bidirectional, n, furthest) for o in offsets]
    assert position.bucket(torch.tensor(offsets)).tolist() == expected
    assert set(expected) == set(range(n)) - ({n // 2} if bidirectional else set()), "every bucket is used"


def _on_a_boundary(offset: int, bidirectional: bool, n: int, furthest: int) -> bool:
    """Where the logarithm is a whole number, rounding decides."""
    n = n // 2 if bidirectional else n
    steps = math.log(max(abs(offset), 1) / (n // 2)) / math.log(furthest / (n // 2)) * (n - n // 2)
    return abs(steps - round(steps)) < 1e-6 and abs(offset) > n // 2


@pytest.mark.parametrize("rows", ["alike", "ragged"])
def test_relative_buckets_look_up_key_minus_query(rows):
    position = RelativeBuckets(8, 20).build(SHAPE)
    q = Tokens(torch.tensor([[5, 2], [5, 2]] if rows == "alike" else [[5, 2], [0, 7]]))
    k = Tokens(torch.tensor([[0, 5, 9], [0, 5, 9]]))
    bias = position.bias(q, k).expand(2, H, 2, 3)
    for b in range(2):
        for t in range(2):
            for s in range(3):
                bucket = published_bucket(int(k.pos[b, s] - q.pos[b, t]), True, 8, 20)
                close(bias[b, :, t, s], position.table.weight[bucket])


@pytest.mark.parametrize("config", ALL, ids=lambda c: type(c).__name__)
def test_padding_is_met_by_every_hook_and_the_rest_depends_on_pos_alone(config):
    """The same positions give the same result wherever they stand in the row."""
    position = config.build(SHAPE)
    left, right = Tokens.from_lengths([3], 5, "left"), Tokens.from_lengths([3], 5)
    x, heads = torch.randn(1, 3, E), torch.randn(1, H, 3, D)
    pad, head_pad = torch.zeros(1, 2, E), torch.zeros(1, H, 2, D)
    a = position.embed(torch.cat((pad, x), 1), left)[:, 2:]
    close(a, position.embed(torch.cat((x, pad), 1), right)[:, :3])
    b = position.rotate(torch.cat((head_pad, heads), 2), left)[:, :, 2:]
    close(b, position.rotate(torch.cat((heads, head_pad), 2), right)[:, :, :3])
    bias = position.bias(left, left)
    assert (bias is not None) == position.biased
    if bias is not None:
        assert bias.isfinite().all() and bias.shape[1:] == (H, 5, 5)
        close(bias[..., 2:, 2:], position.bias(right, right)[..., :3, :3])


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="head width 3 must be even"):
        Rotary().build(PositionShape(12, 4, 3))
    with pytest.raises(ValueError, match="embedding width 5 must be even"):
        Sinusoidal().build(PositionShape(5, 1, 5))
    with pytest.raises(ValueError, match="less than max_distance"):
        RelativeBuckets(8, 2)
