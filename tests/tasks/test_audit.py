"""Bad labels: the confident joint by hand, by a slow twin and by cleanlab; folds; findings; the command."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from typer.testing import CliRunner

from qkv.cli.app import app
from qkv.data.labelled import Labelled
from qkv.data.splits import hundredth
from qkv.errors import UserError
from qkv.tasks import judges
from qkv.tasks import recipe as recipes
from qkv.tasks.audit import audit, confident_joint, examine, folds, in_sample, margins, out_of_fold, suspects
from qkv.tasks.judges import by_recipe

MODEL = {"encoder_only": {"stack": {"d_model": 16, "n_layers": 1, "position": "rotary"}}}
WORDS = {"x": ("good", "fine", "great"), "y": ("bad", "poor", "awful")}


def corpus(n: int = 60, wrong: tuple[int, ...] = (0, 7, 20)) -> list[Labelled]:
    """Texts that say their label, but for the rows `wrong`."""
    rows = []
    for i in range(n):
        label = "xy"[i % 2]
        text = f"the {WORDS[label][i % 3]} and {WORDS[label][i // 2 % 3]} film number {i}"
        rows.append(Labelled(text, ("yx"[i % 2] if i in wrong else label,)))
    return rows


def drawn_case(seed: int, n: int = 200, n_labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that know something of the labels."""
    rng = np.random.default_rng(seed)
    given = np.concatenate([np.arange(n_labels), rng.integers(n_labels, size=n - n_labels)])
    logits = rng.normal(size=(n, n_labels)) + 2.0 * np.eye(n_labels)[given] * (rng.random((n, 1)) < 0.8)
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), given


def slow_joint(p: np.ndarray, given: np.ndarray) -> tuple[list[float], list[list[int]], list[list[float]]]:
    """Confident learning in loops, as the paper writes it."""
    n_labels = p.shape[1]
    thresholds = []
    for j in range(n_labels):
        own = [p[x][j] for x in range(len(p)) if given[x] == j]
        thresholds.append(sum(own) / len(own))
    counts = [[0] * n_labels for _ in range(n_labels)]
    for x in range(len(p)):
        sure = [j for j in range(n_labels) if p[x][j] >= thresholds[j]]
        if sure:
            counts[given[x]][max(sure, key=lambda j, x=x: p[x][j])] += 1
    calibrated = []
    for i, row in enumerate(counts):
        total = Counter(given.tolist())[i]
        share = [c / sum(row) for c in row] if sum(row) else [float(i == j) for j in range(n_labels)]
        calibrated.append([s * total for s in share])
    return thresholds, counts, calibrated


def test_by_hand() -> None:
    """Thresholds (0.9+0.7+0.2)/3 = 0.6 and 0.7; the third row passes the second label's only: it is one given 0."""
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.3, 0.7]])
    given = np.array([0, 0, 0, 1])
    joint = confident_joint(p, given)
    assert joint.thresholds == pytest.approx([0.6, 0.7])
    assert joint.meant.tolist() == [0, 0, 1, 1]
    assert joint.counts.tolist() == [[2, 1], [0, 1]]
    assert joint.calibrated == pytest.approx(np.array([[2.0, 1.0], [0.0, 1.0]]))
    assert joint.wrong == pytest.approx(1.0)
    assert joint.noise[:, 1] == pytest.approx([0.5, 0.5])
    assert suspects(p, given, joint).tolist() == [False, False, True, False]
    assert margins(p, given) == pytest.approx([-0.8, -0.4, 0.6, -0.4])


def test_calibration_makes_up_for_rows_that_are_not_sure() -> None:
    """Two of four rows given 0 are sure, one of them of label 1: half of the four are estimated to be 1."""
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.45, 0.55], [0.45, 0.55], [0.2, 0.8]])
    joint = confident_joint(p, np.array([0, 0, 0, 0, 1]))
    assert joint.thresholds == pytest.approx([0.475, 0.8])
    assert joint.meant.tolist() == [0, 1, -1, -1, 1]
    assert joint.calibrated == pytest.approx(np.array([[2.0, 2.0], [0.0, 1.0]]))


@drawn(st.integers(0, 10_000), st.integers(2, 5))
def test_the_joint_is_that_of_the_loops(seed: int, n_labels: int) -> None:
    p, given = drawn_case(seed, 60, n_labels)
    joint, (thresholds, counts, calibrated) = confident_joint(p, given), slow_joint(p, given)
    assert joint.thresholds == pytest.approx(thresholds)
    assert joint.counts.tolist() == counts
    assert joint.calibrated == pytest.approx(np.array(calibrated))
    assert joint.calibrated.sum(1) == pytest.approx(np.bincount(given, minlength=n_labels))


def test_cleanlab_counts_the_same() -> None:
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is not installed; pip install cleanlab")
    for seed in range(5):
        p, given = drawn_case(seed)
        joint = confident_joint(p, given)
        sure = p >= joint.thresholds - 1e-6
        # Where the likeliest label is none of the sure ones, cleanlab takes it all the same; the paper does not.
        same = (sure.sum(1) < 2) | sure[np.arange(len(p)), p.argmax(1)]
        theirs = count.compute_confident_joint(given, p, calibrate=False)
        assert np.abs(theirs - joint.counts).sum() <= 2 * (~same).sum()
        if same.all():
            assert (theirs == joint.counts).all()
        assert count.get_confident_thresholds(given, p) == pytest.approx(joint.thresholds)


def test_cleanlab_ranks_the_same() -> None:
    rank = pytest.importorskip("cleanlab.rank", reason="cleanlab is not installed; pip install cleanlab")
    p, given = drawn_case(0)
    theirs = rank.get_normalized_margin_for_each_label(given, p)  # (p_given − max other + 1) / 2
    assert 1 - 2 * theirs == pytest.approx(margins(p, given))


def test_prune_by_rate_takes_so_many_of_the_largest_margin() -> None:
    p, given = drawn_case(3)
    joint = confident_joint(p, given)
    expected = set()
    for i in range(4):
        for j in range(4):
            rows = sorted(np.flatnonzero(given == i), key=lambda x, i=i, j=j: -(p[x, j] - p[x, i]))
            chosen = rows[: round(joint.calibrated[i, j])] if i != j else []
            expected |= {int(x) for x in chosen if p[x, j] > p[x, i]}
    assert set(np.flatnonzero(suspects(p, given, joint, "by_rate")).tolist()) == expected


def test_a_label_that_is_never_recognised_is_never_meant() -> None:
    p = np.array([[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.5, 0.5, 0.0]])
    joint = confident_joint(p, np.array([0, 0, 1, 2]))
    assert math.isinf(joint.thresholds[2])
    assert 2 not in joint.meant
    assert joint.calibrated.sum(1) == pytest.approx([2, 1, 1])


def test_folds_spread_labels_and_keep_equal_texts_together() -> None:
    rows = [Labelled(f"text {i // 2}", ("ab"[i % 3 == 0],)) for i in range(100)]
    fold = folds(rows, 5)
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3, 4]
    assert (fold[0::2] == fold[1::2]).all()
    single = [Labelled(f"text {i}", ("ab"[i % 5 == 0],)) for i in range(100)]
    for label, most in (("a", 16), ("b", 4)):
        counts = Counter(f for f, row in zip(folds(single, 5).tolist(), single, strict=True) if row.labels == (label,))
        assert set(counts.values()) == {most}
    assert folds(single, 5, seed=1).tolist() != folds(single, 5).tolist()


def heart(rows: list[Labelled], held: list[Labelled]) -> tuple[list[str], np.ndarray]:
    """A classifier that knows its rows by heart, and of others the words: each votes for its labels."""
    names = sorted({label for row in rows for label in row.labels})
    own = {row.text: row.labels[0] for row in rows}
    votes: dict[str, Counter] = {}
    for row in rows:
        for word in row.text.split():
            votes.setdefault(word, Counter())[row.labels[0]] += 1
    said = []
    for row in held:
        if row.text in own:
            p = np.array([float(name == own[row.text]) for name in names])
        else:
            table = [[votes.get(w, {}).get(n, 0) + 0.1 for n in names] for w in row.text.split()]
            p = np.array(table).sum(0) ** 3
        said.append(p / p.sum())
    return names, np.array(said)


def test_out_of_fold_finds_what_in_sample_cannot() -> None:
    rows, names = corpus(), ("x", "y")
    given = np.array([names.index(row.labels[0]) for row in rows])
    outside, inside = out_of_fold(rows, heart, names), in_sample(rows, heart, names)
    best = np.argsort(-margins(outside, given))[:3]
    assert sorted(best.tolist()) == [0, 7, 20]
    assert not suspects(inside, given, confident_joint(inside, given)).any()


def test_every_row_is_judged_by_a_classifier_that_was_not_trained_on_it() -> None:
    rows = [*corpus(), *corpus(wrong=(1,))]  # every text twice

    def strict(trained: list[Labelled], held: list[Labelled]) -> tuple[list[str], np.ndarray]:
        assert not {row.text for row in trained} & {row.text for row in held}
        return ["x", "y"], np.full((len(held), 2), 0.5)

    assert (out_of_fold(rows, strict, ("x", "y")) == 0.5).all()


def test_findings_say_why() -> None:
    found = audit(corpus(), heart)
    assert [finding.row for finding in found.findings][:3] and {1, 8, 21} <= {f.row for f in found.findings}
    first = found.findings[0]
    assert (first.label, first.suggested) in {("x", "y"), ("y", "x")}
    assert "trained without this row" in first.reason and first.score > 0
    assert [f.score for f in found.findings] == sorted((f.score for f in found.findings), reverse=True)


def test_the_label_that_is_surely_meant_is_suggested_and_not_the_likeliest() -> None:
    """Thresholds 0.9, 0.3 and 0.45: of the last row x is likelier, but for an x not likely enough; y is, for a y."""
    p = np.array([[0.9, 0.05, 0.05], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.5, 0.4, 0.1]])
    rows = [Labelled(text, (label,)) for text, label in zip("abcd", "xyzz", strict=True)]
    (found,) = examine(rows, ["x", "y", "z"], p).findings
    assert (found.row, found.label, found.suggested) == (4, "z", "y")
    assert found.score == pytest.approx(0.3)


def test_equal_texts_with_unequal_labels_are_told() -> None:
    rows = [Labelled("a", ("x",)), Labelled("a ", ("y",)), Labelled("b", ("y",))]
    p = np.array([[0.8, 0.2], [0.8, 0.2], [0.1, 0.9]])
    [finding] = [f for f in examine(rows, ("x", "y"), p).findings if "same text" in f.reason]
    assert (finding.row, finding.label, finding.suggested) == (2, "y", "x")


def test_a_label_of_one_fold_only_is_no_mistake_in_the_columns() -> None:
    rows = [*corpus(), Labelled("something else altogether", ("w",))]
    p = out_of_fold(rows, heart_of_any, ("w", "x", "y"))
    assert p[-1, 0] == 0.0 and p[-1].sum() == pytest.approx(1.0)
    findings = audit(rows, heart_of_any).findings
    assert not [f for f in findings if f.suggested == "w"]
    assert all("w 0.00 (never recognised)" in f.reason for f in findings if f.label == "w")


def heart_of_any(rows: list[Labelled], held: list[Labelled]) -> tuple[list[str], np.ndarray]:
    """Shares of the labels among the rows trained on, for everybody."""
    counts = Counter(row.labels[0] for row in rows)
    names = sorted(counts)
    return names, np.tile([counts[name] / len(rows) for name in names], (len(held), 1))


def test_what_cannot_be_audited() -> None:
    with pytest.raises(UserError, match="2 or more"):
        folds(corpus(), 1)
    with pytest.raises(UserError, match="3 distinct texts for 5 folds"):
        folds(corpus(3), 5)
    with pytest.raises(UserError, match="all rows have the label 'x'"):
        audit([Labelled(str(i), ("x",)) for i in range(9)], heart)
    with pytest.raises(UserError, match="'y' stands at one text only"):
        audit([*(Labelled(str(i), ("x",)) for i in range(9)), Labelled("a", ("y",)), Labelled("a", ("y",))], heart)
    with pytest.raises(UserError, match="needs one label a row"):
        audit([Labelled(str(i), ("x", "y")) for i in range(9)], heart)


def test_by_rate_the_likeliest_other_label_is_suggested() -> None:
    p, given = drawn_case(3)
    names = ("a", "b", "c", "d")
    rows = [Labelled(f"text {i}", (names[label],)) for i, label in enumerate(given)]
    findings = examine(rows, names, p, "by_rate").findings
    for f in findings:
        assert p[f.row - 1, names.index(f.suggested)] == max(
            x for i, x in enumerate(p[f.row - 1]) if names[i] != f.label
        )
    assert {f.row - 1 for f in findings} == set(
        np.flatnonzero(suspects(p, given, confident_joint(p, given), "by_rate")).tolist()
    )


def test_a_tenth_chooses_and_is_not_fitted() -> None:
    """Also of a corpus that is what another cut by hash has left, which is how datasets are split here."""
    rows = [row for row in corpus(300) if hundredth(row.text) >= 10]
    fitted, choosing = judges._split([*rows, Labelled("alone", ("z",)), rows[0]])
    assert not {row.text for row in fitted} & {row.text for row in choosing}
    assert len(fitted) + len(choosing) == len(rows) + 2
    assert 0.07 < len(choosing) / len(rows) < 0.13
    assert {row.labels for row in choosing} == {("x",), ("y",)}
    assert judges._split(rows[:9]) == (rows[:9], rows[:9])


def test_once_tuned_all_rows_are_fitted() -> None:
    """In sample every label is learned by heart, also those of the tenth that chose."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed; pip install 'qkv[tasks]'")
    rows = corpus(60, tuple(range(0, 60, 5)))
    p = in_sample(rows, judges.by_tfidf(strengths=(1e5, 1e6)), ("x", "y"))
    assert ["xy"[label] for label in p.argmax(1)] == [row.labels[0] for row in rows]


def test_a_recipe_fits_all_rows_where_none_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: dict[str, list[Labelled]] = {}
    write = judges._write
    monkeypatch.setattr(judges, "_write", lambda path, rows: (parts.update({path.stem: rows}), write(path, rows)))
    settings = {"max_steps": 1, "threads": 1, "tensorboard": False}
    recipe = {"task": "classify", "data": {"train": "-", "dev": "-"}, "tokenizers": {"target": "words"}, "model": MODEL}
    chosen, rows = recipes.from_data({**recipe, "training": settings}), corpus()
    by_recipe(chosen, spared=False)(rows, rows[:2])
    assert parts["train"] == parts["dev"] == rows
    by_recipe(chosen)(rows, rows[:2])
    assert len(parts["train"]) == 54 and len(parts["dev"]) == 6


def test_a_transformer_judges() -> None:
    settings = {"max_steps": 60, "learning_rate": 1e-2, "schedule": "constant", "threads": 1, "tensorboard": False}
    parts = {"task": "classify", "data": {"train": "-", "dev": "-"}, "tokenizers": {"target": "words"}, "model": MODEL}
    found = audit(corpus(120, (0, 7, 20)), by_recipe(recipes.from_data({**parts, "training": settings})), 3)
    assert {1, 8, 21} <= {f.row for f in found.findings}
    assert len(found.findings) <= 12


def test_another_task_cannot_judge() -> None:
    parts = {"task": {"classify": {"output": "several"}}, "data": {"train": "-", "dev": "-"}, "model": MODEL}
    several = recipes.from_data({**parts, "tokenizers": {"target": "words"}, "training": {"max_steps": 1}})
    with pytest.raises(UserError, match="one label a text"):
        by_recipe(several)


def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed; pip install 'qkv[tasks]'")
    file, out = tmp_path / "rows.tsv", tmp_path / "review.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{row.text}\t{row.labels[0]}\n" for row in corpus()))
    told = CliRunner().invoke(app, ["data", "audit", str(file), "--json", "--output", str(out)])
    assert told.exit_code == 0, told.output
    summary = json.loads(told.stdout)
    assert summary["rows"] == 60 and summary["with"] == "tfidf"
    assert {1, 8, 21} <= {finding["row"] for finding in summary["findings"]}
    header, *lines = out.read_text().splitlines()
    assert header.split("\t")[:3] == ["row", "label", "suggested"]
    assert len(lines) == len(summary["findings"])
    shown = CliRunner().invoke(app, ["data", "audit", str(file), "--folds", "3", "--method", "by-rate"])
    assert "rows to review" in shown.stdout and "film" in shown.stdout
