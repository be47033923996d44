"""Greedy and beam search against searches done the slow way, and each row against itself alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qkv.decoding import Beam, Forbidden, Forced, Greedy, MinimumLength, generate, prepare
from qkv.decoding.state import Hypothesis, State
from qkv.models import build, t5
from qkv.nn import Causal, SameDocument, Tokens

from .helpers import EOS, begin, every_output, log_probability, sources, translator, writer


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_the_space_is_brute_force(penalty: float, seed: int) -> None:
    vocab, longest = 5, 3
    model = translator(vocab, seed)
    source, tokens, _ = sources(1, vocab=vocab, seed=seed)
    memory = model.encode(source, tokens)
    ids, prompt = begin(1)
    chooser = Beam(vocab**longest, length_penalty=penalty, n_best=10, exact=True)
    found = generate(model, ids, prompt, memory=memory, chooser=chooser, max_new=longest)[0]
    expected = every_output(model, memory, vocab, longest, penalty)
    assert [h.ids for h in found] == [ids for _, ids, _ in expected[:10]]
    assert [h.finished for h in found] == [done for _, _, done in expected[:10]]
    assert [h.score for h in found] == pytest.approx([score for score, _, _ in expected[:10]], abs=1e-5)


def test_an_end_counts_among_the_first_w_and_the_pool_keeps_the_best_w() -> None:
    def ended(end: float, pool: list[Hypothesis]) -> list[float]:
        """The pool's log-probabilities after one step of two beams, whose other words have -1 and -2."""
        state = State.start([0], torch.tensor([9]), 2, 1, EOS)
        state.pool[0] += pool
        chooser(torch.tensor([-1.0, -2.0, end, -9.0]).expand(1, 2, 4), state)
        return [h.logp for h in state.pool[0]]

    chooser, old = Beam(2, length_penalty=0.0), [Hypothesis([], logp, logp, True) for logp in (-1.2, -3.0)]
    assert ended(-2.5, []) == [] and ended(-1.5, []) == [-1.5]
    assert ended(-1.5, old) == pytest.approx([-1.2, -1.5])
    state = State.start([0], torch.tensor([9]), 2, 1, EOS)
    state.pool[0] += old[:1]
    assert not chooser.enough(state, 0, -99.0), "one of two has ended"
    state.pool[0] += old[1:]
    assert chooser.enough(state, 0, -3.5) and not chooser.enough(state, 0, -2.5)


def test_greedy_is_the_argmax_of_an_uncached_model() -> None:
    model = translator()
    source, tokens, _ = sources(1)
    memory = model.encode(source, tokens)
    found = generate(model, *begin(1), memory=memory, max_new=12)[0][0]
    ids: list[int] = []
    total = 0.0
    while len(ids) < 12:
        table = log_probability(model, memory, ids)[len(ids)]
        best = int(table.argmax())
        total += float(table[best])
        if best == EOS:
            break
        ids.append(best)
    assert found.ids == ids
    assert found.logp == pytest.approx(total, abs=1e-4)


def slow_beam(model, memory, width: int, longest: int, penalty: float):
    """Beam search over lists, one hypothesis at a time, without a cache."""
    running, pool = [([], 0.0)], []
    for step in range(1, longest + 1):
        grown = []
        for ids, total in running:
            table = log_probability(model, memory, ids)[len(ids)]
            grown += [([*ids, w], total + float(table[w])) for w in range(len(table))]
        grown.sort(key=lambda g: -g[1])
        ended = [(t / step**penalty, ids[:-1]) for ids, t in grown[:width] if ids[-1] == EOS]
        pool = sorted(pool + ended, key=lambda p: -p[0])[:width]
        running = [g for g in grown[: 2 * width] if g[0][-1] != EOS][:width]
        if step == longest:
            pool += [(t / step**penalty, ids) for ids, t in running]
            break
        if len(pool) == width and pool[-1][0] >= running[0][1] / step**penalty:
            break
    return max(pool, key=lambda p: p[0])


@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_beams_equal_the_slow_twin(width: int) -> None:
    model = translator(seed=3)
    source, tokens, lengths = sources(6, seed=4)
    memory = model.encode(source, tokens)
    chooser = Beam(width, length_penalty=0.8)
    found = generate(model, *begin(6), memory=memory, chooser=chooser, max_new=10)
    for row, length in enumerate(lengths):
        alone = model.encode(source[row : row + 1, :length], tokens[row : row + 1, :length])
        score, ids = slow_beam(model, alone, width, 10, 0.8)
        assert found[row][0].ids == ids
        assert found[row][0].score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("chooser", [Greedy(), Beam(3, n_best=3), Beam(4, 0.0)])
def test_a_translation_does_not_depend_on_its_batch(chooser) -> None:
    model = translator(seed=5)
    source, tokens, lengths = sources(8, seed=6)
    limits = torch.tensor([12, 3, 7, 12, 1, 9, 12, 5])  # rows leave the batch at different times
    together = generate(model, *begin(8), memory=model.encode(source, tokens), chooser=chooser, max_new=limits)
    for row, length in enumerate(lengths):
        memory = model.encode(source[row : row + 1, :length], tokens[row : row + 1, :length])
        alone = generate(model, *begin(1), memory=memory, chooser=chooser, max_new=int(limits[row]))[0]
        assert [h.ids for h in together[row]] == [h.ids for h in alone]
        assert [h.score for h in together[row]] == pytest.approx([h.score for h in alone], abs=1e-5)


def test_beams_that_change_places_as_others_leave_go_on_from_their_own_parents() -> None:
    model = writer(vocab=40)
    prompts, limits = torch.arange(4, 36).view(32, 1), torch.arange(32) % 8 + 1
    found = generate(model, prompts, Tokens.arange(32, 1), chooser=Beam(4, length_penalty=0.0), max_new=limits)
    for row, (hypothesis, *_) in enumerate(found):
        ids = torch.tensor([[*prompts[row].tolist(), *hypothesis.ids, *[EOS] * hypothesis.finished]])
        given = Tokens.arange(1, ids.shape[1] - 1)
        table = model.head(model.decoder(ids[:, :-1], given)).log_softmax(-1)[0]
        logp = float(table.gather(1, ids[0, 1:, None]).sum().detach())
        assert hypothesis.logp == pytest.approx(logp, abs=1e-3)


def test_nothing_ends_before_the_shortest_length_that_was_asked_for() -> None:
    model, prompt = translator(), begin(1)
    memory = model.encode(*sources(1)[:2])
    first = generate(model, *prompt, memory=memory, max_new=1)[0][0].ids[0]
    assert generate(model, *prompt, memory=memory, max_new=6, eos=first)[0][0].ids == []
    (longer,) = generate(model, *prompt, memory=memory, max_new=6, min_new=3, eos=first)[0]
    assert len(longer.ids) >= 3 and first not in longer.ids


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("chooser", [Greedy(), Beam(3)])
def test_a_prompt_may_be_padded_on_either_side(side: str, chooser) -> None:
    model = writer()
    prompts = [[4, 5, 6], [7], [8, 9, 10, 4, 5, 6], [5, 5]]
    tokens = Tokens.from_lengths([len(p) for p in prompts], side=side)
    ids = torch.zeros(tokens.shape, dtype=torch.long)
    ids[tokens.valid] = torch.tensor([i for p in prompts for i in p])
    together = generate(model, ids, tokens, chooser=chooser, max_new=9)
    for row, prompt in enumerate(prompts):
        alone = generate(model, torch.tensor([prompt]), Tokens.arange(1, len(prompt)), chooser=chooser, max_new=9)
        assert together[row][0].ids == alone[0][0].ids
    assert len({w for row in together for w in row[0].ids}) > 2


@pytest.mark.parametrize("chooser", [Greedy(), Beam(3)])
def test_new_tokens_belong_to_the_document_of_their_prompt(chooser) -> None:
    model, ids, tokens = writer(), torch.randint(4, 11, (3, 5)), Tokens.arange(3, 5)
    stack = replace(model.config.stack, mask=Causal() & SameDocument())
    apart = build(replace(model.config, stack=stack)).eval()
    apart.load_state_dict(model.state_dict())
    marked = tokens.with_fields(doc=torch.tensor([[3], [5], [7]]).expand(3, 5))
    settings = {"chooser": chooser, "max_new": torch.tensor([2, 9, 9]), "min_new": 9}  # the first row leaves early
    expected = generate(model, ids, tokens, **settings)
    found = generate(apart, ids, marked, **settings)
    assert [row[0].ids for row in found] == [row[0].ids for row in expected]


def test_forbidden_and_forced_tokens_and_the_shortest_output() -> None:
    model = translator(seed=7)
    source, tokens, _ = sources(4, seed=8)
    memory = model.encode(source, tokens)
    free = generate(model, *begin(4), memory=memory, max_new=8)
    favourite = free[0][0].ids[0]
    barred = generate(model, *begin(4), memory=memory, max_new=8, constraints=[Forbidden((favourite,))])
    assert all(favourite not in row[0].ids for row in barred)
    for chooser in (Greedy(), Beam(3)):
        forced = generate(
            model, *begin(4), memory=memory, max_new=8, min_new=6, chooser=chooser, constraints=[Forced((9, 4))]
        )
        assert all(row[0].ids[:2] == [9, 4] and len(row[0].ids) >= 6 for row in forced)


def test_the_end_is_barred_up_to_the_shortest_length_and_no_further() -> None:
    scores = torch.zeros(1, 1, 5)
    barred = []
    for step in range(5):
        state = State.start([0], torch.tensor([9]), 1, 1, EOS)
        state.ids = torch.zeros(1, 1, step, dtype=torch.long)
        found = MinimumLength(3)(scores, state)
        assert found[..., [0, 1, 3, 4]].eq(0).all()
        barred.append(bool(found[0, 0, EOS].isinf()))
    assert barred == [True, True, True, False, False]


def test_scores_are_those_of_the_model() -> None:
    model = translator(seed=9)
    source, tokens, _ = sources(1, seed=2)
    memory = model.encode(source, tokens)
    for best in generate(model, *begin(1), memory=memory, chooser=Beam(4, 1.0, n_best=4), max_new=6)[0]:
        ids = [*best.ids, EOS] if best.finished else best.ids
        table = log_probability(model, memory, ids)
        total = sum(float(table[t, w]) for t, w in enumerate(ids))
        assert best.logp == pytest.approx(total, abs=1e-4)
        assert best.score == pytest.approx(total / len(ids), abs=1e-4)


def test_keys_never_move_and_prompts_are_stored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from qkv.nn import Cache

    lengths, selected = [], []
    extend, select = Cache.extend, Cache.select
    monkeypatch.setattr(Cache, "extend", lambda c, t: (extend(c, t), lengths.append(c.length))[0])
    monkeypatch.setattr(Cache, "select", lambda c, r: (select(c, r), selected.append(len(r)))[0])
    model = translator(seed=5)
    source, tokens, _ = sources(8, seed=6)
    memory = model.encode(source, tokens)
    generate(model, *begin(8), memory=memory, chooser=Beam(4), max_new=5, min_new=9)
    assert lengths == [1, 5, 9, 13, 17] and selected == []
    generate(model, *begin(8), memory=memory, max_new=torch.tensor([1, 2, 3, 4, 5, 6, 7, 8]), min_new=9)
    assert selected == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.parametrize("width", [3, 5])
@pytest.mark.parametrize("side", ["left", "right"])
def test_dead_keys_are_dropped_and_nothing_changes(width: int, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from qkv.nn import Cache

    kept: list[tuple[int, int]] = []
    keep = Cache.keep
    monkeypatch.setattr(Cache, "keep", lambda c, columns: (kept.append((c.length, columns.shape[1])), keep(c, columns)))
    model, tokens = writer(seed=1), Tokens.from_lengths([3, 1, 6, 2], side=side)
    ids = torch.randint(4, 11, tokens.shape)
    limits = torch.tensor([30, 9, 17, 30])
    found = []
    for first in (10**6, 8):
        monkeypatch.setattr("qkv.decoding.session.REVIEW", first)
        found.append(generate(model, ids, tokens, chooser=Beam(width, n_best=2), max_new=limits, min_new=30))
    assert kept and all(after < before for before, after in kept)
    for before, after in zip(*found, strict=True):
        assert [h.ids for h in after] == [h.ids for h in before]
        assert [h.score for h in after] == pytest.approx([h.score for h in before], abs=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 4, 32])
def test_a_prepared_matrix_multiplies_any_number_of_rows(rows: int) -> None:
    from qkv.decoding.layout import Product

    weight, bias, x = torch.randn(70, 24, requires_grad=True), torch.randn(70), torch.randn(rows, 1, 24)
    product, expected = Product(weight, bias), torch.nn.functional.linear(x, weight, bias)
    with torch.inference_mode():
        assert product(x).allclose(expected, atol=1e-5)
    product(x).sum().backward()  # where gradients are recorded it is the plain product
    assert weight.grad is not None


def test_tokens_that_were_decoded_with_can_be_trained_with() -> None:
    """What `Tokens` remember from a pass without gradients does not spoil the next one with them."""
    model, ids, tokens = writer(), torch.randint(4, 11, (2, 5)), Tokens.from_lengths([5, 3])
    generate(model, ids, tokens, max_new=2)
    model(ids, tokens).sum().backward()
    model = build(t5(11, d_model=16, n_layers=1, n_heads=2, d_ff=16))
    with torch.inference_mode():
        model.encode(ids, tokens)
    model.encode(ids, tokens).x.sum().backward()


def test_a_prepared_model_decodes_the_same_and_reads_along_the_longer_side() -> None:
    model = translator(40, seed=5)
    source, tokens, _ = sources(6, seed=6)
    before = generate(model, *begin(6), memory=model.encode(source, tokens), chooser=Beam(3), max_new=9)
    feedforward = model.decoder.blocks[0].feedforward
    prepare(model)
    assert feedforward.up.weight.stride(0) == 1 and feedforward.down.weight.stride(1) == 1
    assert model.decoder.embedding.token.weight.is_contiguous() and model.head.weight.stride(0) == 1
    after = generate(model, *begin(6), memory=model.encode(source, tokens), chooser=Beam(3), max_new=9)
    assert [row[0].ids for row in after] == [row[0].ids for row in before]
    assert after[0][0].score == pytest.approx(before[0][0].score, abs=1e-5)


def test_refusals_say_what_and_how() -> None:
    model = writer()
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        generate(model, torch.ones(2, 2, dtype=torch.long), Tokens.from_lengths([2, 0]))
    with pytest.raises(ValueError, match="at least one token"):
        generate(model, *begin(1), max_new=0)
    for wrong in ({"width": 0}, {"width": 3, "n_best": 4}, {"length_penalty": -1.0}):
        with pytest.raises(ValueError):
            Beam(**wrong)
