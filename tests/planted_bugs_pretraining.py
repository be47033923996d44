"""The bugs that `tests.planted_bugs` plants in what encoders and decoders are pretrained on."""

from __future__ import annotations

from tests.planted_bugs_table import Bug

CORRUPTION, ROWS = ("data/test_corruption.py",), ("data/test_pretraining.py",)
MASKED, GAPS = ("tasks/test_masked_language_model.py",), ("tasks/test_infilling.py",)

_S, _C, _D, _G = "data/spans.py", "data/corruption.py", "data/pretraining.py", "tasks/gaps.py"
_M, _L, _I, _P = (
    "models/pretraining.py",
    "training/pretraining.py",
    "tasks/infilling.py",
    "tasks/pretraining_metrics.py",
)

# fmt: off
PRETRAINING = [
    Bug("spans: a text begins with a whole span", _S, "at = lengths.rest(random)", "at = lengths.draw(random)",
        CORRUPTION),
    Bug("spans: gaps as if spans took no room", _S, "rate / (lengths.mean * (1 - rate))", "rate / lengths.mean",
        CORRUPTION),
    Bug("spans: a text never begins inside a word", _S, "- int(begins[ids[0]])", "- 1", CORRUPTION),
    Bug("masking: the tokens of a span fare each by itself", _C, "random.random(len(ids))[group]",
        "random.random(len(ids))", CORRUPTION),
    Bug("masking: only masks are asked for", _C, "np.where(asked, ids, IGNORE)",
        "np.where(read == vocabulary.mask, ids, IGNORE)", CORRUPTION),
    Bug("masking: special tokens stand in for words", _C, "if i not in special]", "]", CORRUPTION),
    Bug("sentinels: the last mark has no end", _C, "marks[:-1], strict", "marks, strict", CORRUPTION),
    Bug("middle: prefix behind the middle", _C, "mid, *prefix, *middle]", "mid, *middle, *prefix]", CORRUPTION),
    Bug("rows: the last window is lost", _D, "-(-len(self.stream) // self.room)", "len(self.stream) // self.room",
        ROWS),
    Bug("rows: static masks change with the epoch", _D, "epoch if self.dynamic else 0", "epoch", ROWS),
    Bug("rows: a stranger may be of the same document", _D,
        "(document + 1 + int(random.integers(len(pairs.documents) - 1)))",
        "(document + int(random.integers(len(pairs.documents))))", ROWS),
    Bug("rows: the second segment begins one later", _D, "(pos >= example.second)", "(pos > example.second)", ROWS),
    Bug("permuted: a query sees its own content", _M, 'q.get("order") - q.get("query")', 'q.get("order")', MASKED),
    Bug("permuted: a query is seen", _M, '& (k.get("query") == 0)[:, None, None, :]', "", MASKED),
    Bug("replaced: a draw that hits counts as replaced", _L, "asked & (shown != batch.targets)", "asked", MASKED),
    Bug("replaced: only masked tokens are judged", _L, "scores[valid], replaced[valid]",
        "scores[asked], replaced[asked]", MASKED),
    Bug("replaced: the generator's words are its own", _M,
        "self.generator.head.weight = self.encoder.embedding.token.weight", "pass", MASKED),
    Bug("replaced: precision passes for F1", _P, '2 * totals["both"] / max(1.0, totals["said"] + totals["true"])',
        'totals["both"] / max(1.0, totals["said"])', MASKED),
    Bug("gaps: the first token told is not asked for", _G, "targets[: max(0, source - 1)]", "targets[:source]", GAPS),
    Bug("gaps: the first token told is given", _G, "(np.arange(len(line) - 1) < source)",
        "(np.arange(len(line) - 1) <= source)", GAPS),
    Bug("gaps: marks are filled in the wrong order", _G, "used = gaps.marks[: len(parts) - 1]",
        "used = gaps.marks[: len(parts) - 1][::-1]", GAPS),
    Bug("gaps: a mark may follow a mark", _G, "torch.where(said[:, :, -1:], told, turn)", "(turn)", GAPS),
    Bug("infill: a prompt is read from left to right", _I, "if self.objective.open_prefix:\n                tokens",
        "if False:\n                tokens", GAPS),
    Bug("infill: with and without what follows are one", _I, "random, ahead)", "random, True)", GAPS),
]
