"""Bugs in labels, their imbalance, few examples, calibration, plain baselines and splits (see planted_bugs.py)."""

from __future__ import annotations

from tests.planted_bugs_table import Bug

CLASSIFY, IMBALANCE, FEW = ("tasks/test_classify.py",), ("tasks/test_imbalance.py",), ("tasks/test_fewshot.py",)
CALIBRATION, READINGS, SPLITS = ("tasks/test_calibration.py",), ("data/test_readings.py",), ("data/test_corpora.py",)
COUNTED, FILTERED = ("baselines/test_tfidf.py",), ("baselines/test_convolution.py",)

_L, _R, _F, _C = "tasks/labels.py", "tasks/reading.py", "tasks/fewshot.py", "tasks/calibration.py"
_O, _D, _S, _K = "models/outputs.py", "data/readings.py", "data/splits.py", "data/corpora.py"
_T, _N = "baselines/tfidf.py", "baselines/convolution.py"

# fmt: off
CLASSIFICATION = [
    Bug("labels: counts in another order than names", _L, "tuple(counts[name] for name in names)",
        "tuple(counts.values())", CLASSIFY),
    Bug("reading: the second text begins a token early", _R, "len(first) + 2", "len(first) + 1", CLASSIFY),
    Bug("reading: the longer text keeps its end", _R, "ids[: most - kept]", "ids[kept - most :]", CLASSIFY),
    Bug("choice: probabilities are multiplied by the temperature", _O, "scores / self.temperature",
        "scores * self.temperature", CALIBRATION),
    Bug("choice: logits are adjusted the wrong way", _O, "scores + self.config.adjustment * self.log_prior",
        "scores - self.config.adjustment * self.log_prior", CLASSIFY),
    Bug("choice: what is measured is weighted too", _O, "        if not training:\n            return F.cross_entropy(",
        "        if False:\n            return F.cross_entropy(", IMBALANCE),
    Bug("choice: weights by the number, not the effective one", _O, "(1 - beta) / (1 - beta ** counts.double())",
        "(1 - beta) / counts.double()", IMBALANCE),
    Bug("readings: rare labels are drawn less", _D, "** (power - 1)", "** (1 - power)", READINGS),
    Bug("readings: marks begin at zero", _D, "np.arange(len(shares)) + random.random()", "np.arange(len(shares))",
        READINGS),
    Bug("calibration: the search goes the wrong way", _C, "if expected < reached", "if expected > reached",
        CALIBRATION),
    Bug("calibration: the temperature is its inverse", _C, "return 1 / math.sqrt(low * high)",
        "return math.sqrt(low * high)", CALIBRATION),
    Bug("calibration: scores in the order of batches", _C, "scores[numbers] = system.model(",
        "scores[: len(numbers)] = system.model(", CALIBRATION),
    Bug("calibration: fitted on what is reported", _C, 'task.load(run.recipe.data, "dev")',
        'task.load(run.recipe.data, "test")', ("cli/test_classify.py",)),
    Bug("calibration: fitted and not kept", _C, "    try:\n        replace_file(", "    return fitted\n    try:\n"
        "        replace_file(", CALIBRATION),
    Bug("few: means are sums", _F, "of @ vectors / of.sum(1, keepdim=True)", "of @ vectors", FEW),
    Bug("few: long means attract", _F, "-self.points.square().sum(1)", "self.points.square().sum(1)", FEW),
    Bug("few: descriptions of any length", _F, "F.normalize(encode(list(texts.values())), dim=-1)",
        "encode(list(texts.values()))", FEW),
    Bug("few: one shot too many", _F, "if left[rows[i].labels] > 0:", "if left[rows[i].labels] >= 0:", FEW),
    Bug("few: an example is its own partner", _F, "[j for j in groups[label] if j != i] or [i]", "groups[label]", FEW),
    Bug("few: other labels count as alike", _F, "rng.choice(groups[other]), 0.0",
        "rng.choice(groups[other]), 1.0", FEW),
    Bug("TF-IDF: features of dev are counted too", _T, "vectorizer.fit_transform(texts), vectorizer",
        "vectorizer.fit([*texts, *dev_texts]).transform(texts), vectorizer", COUNTED),
    Bug("TF-IDF: the worst on dev is taken", _T, "reached > best[0]", "reached < best[0]", COUNTED),
    Bug("TF-IDF: balancing is forgotten", _T, "class_weight=weight", "class_weight=None", COUNTED),
    Bug("TF-IDF: chosen by accuracy whatever is shown", _T, 'if measure == "accuracy" else', "if True else", COUNTED),
    Bug("CNN: windows lean to the left", _N, "((width - 1) // 2, width // 2)", "(width // 2, (width - 1) // 2)",
        FILTERED),
    Bug("CNN: filters read padding", _N, ".masked_fill(~tokens.valid.unsqueeze(-1), 0.0)", "", FILTERED),
    Bug("splits: a text of the test stays in training", _S, "row.text.strip() not in seen", "row.text not in seen",
        SPLITS),
    Bug("splits: dev overlaps the test", _S, "number < test + dev", "number < dev", SPLITS),
    Bug("splits: sides depend on spaces", _S, "text.strip().encode()", "text.encode()", SPLITS),
    Bug("corpora: feelings turned round", _K, '"positive" if label == "1"', '"positive" if label == "0"', SPLITS),
    Bug("corpora: topics shifted by one", _K, "names[int(i) - 1]", "names[int(i) % 4]", SPLITS),
    Bug("corpora: a header is a review", _K, '_lines("chnsenticorp", file)[1:]', '_lines("chnsenticorp", file)',
        SPLITS),
]
# fmt: on
