"""The bugs that `tests.planted_bugs` plants in tagging, named entities, and intents with slots."""

from __future__ import annotations

from tests.planted_bugs_table import Bug

CRF, LEXICAL, EXCHANGE = ("models/test_crf.py",), ("models/test_lexical.py",), ("tasks/test_exchange.py",)
TAG, JOINT = ("tasks/test_tag.py",), ("tasks/test_intent_slots.py",)

_C, _T, _L, _O = "models/crf.py", "models/tagging.py", "models/lexical.py", "models/outputs.py"
_W, _S, _M, _X = "tasks/words.py", "tasks/schemes.py", "tasks/tag_metrics.py", "tasks/exchange.py"
_I, _D, _G = "tasks/intent_slots.py", "data/tagged_corpora.py", "training/weighting.py"

# fmt: off
TAGGING = [
    Bug("crf: the end has no score", _C, "(self.start[labels[:, 0]] + self.end[last])", "self.start[labels[:, 0]]",
        CRF),
    Bug("crf: transitions from to to from", _C, "self.transition[labels[:, :-1], labels[:, 1:]]",
        "self.transition[labels[:, 1:], labels[:, :-1]]", CRF),
    Bug("crf: the end is scored at the last but one", _C, "labels.gather(1, (valid.sum(1, keepdim=True) - 1)",
        "labels.gather(1, (valid.sum(1, keepdim=True) - 2)", CRF),
    Bug("crf: rows go on past their end", _C, ".where(valid[:, t : t + 1], alphas[-1])", "", CRF),
    Bug("crf: backward along the wrong axis", _C, "_LogProduct(self.transition.T)", "_LogProduct(self.transition)",
        CRF),
    Bug("crf: Viterbi jumps in the padding", _C, "origin.where(alive, stay)", "origin", CRF),
    Bug("crf: Viterbi without the end", _C, "(delta + self.end).max(1)", "delta.max(1)", CRF),
    Bug("crf: the shift of a column is lost", _C, ".log() + top + self.top", ".log() + top", CRF),
    Bug("crf: exponents without a shift", _C, "top = _finite(x.amax(1, keepdim=True))",
        "top = torch.zeros_like(x[:, :1])", CRF),
    Bug("crf: gaps are sorted to the front", _C, "(~units).long().argsort", "units.long().argsort", CRF),
    Bug("crf: an entity goes on as another type", _C, "parts[i][1] == parts[j][1]", "True", CRF),
    Bug("crf: an open entity may end the text", _C, "end = [not inside(i) for i in range(n)]",
        "end = [True for i in range(n)]", CRF),
    Bug("tagging: one stuck row frees all", _T, "path[stuck] = free.best(emissions[stuck], valid[stuck])[0]",
        "path = free.best(emissions, valid)[0]", CRF),
    Bug("tagging: gaps are links of the chain", _T, "join(scores, batch.targets != IGNORE, batch.targets)",
        "join(scores, torch.ones_like(batch.targets, dtype=torch.bool), batch.targets.clamp_min(0))", CRF),
    Bug("tagging: unconstrained though asked for", _T, "legal(names) if self.config.constrained else None", "None",
        CRF),
    Bug("lexical: padding is a letter", _L, '.masked_fill(~seen, float("-inf"))', "", LEXICAL),
    Bug("lexical: the window is shifted", _L, "before = self.config.reach // 2", "before = self.config.reach - 1",
        LEXICAL),
    Bug("lexical: specials are read as unknown", _L, "lost &= ids != kept", "pass", LEXICAL),
    Bug("lexical: words are lost when answering, too", _L, "if self.training and self.config.unknown:",
        "if self.config.unknown:", TAG),
    Bug("lexical: spellings go to other words", _L, "[place].unflatten", "[place.flip(0)].unflatten", LEXICAL),
    Bug("outputs: the mean counts padding", _O, "return (x * valid).sum(1) / valid.sum(1).clamp_min(1)",
        "return x.mean(1)", (*TAG, *JOINT, "tasks/test_classify.py")),
    Bug("outputs: smoothed when measured", _O, 'if not training:\n            return F.cross_entropy(scores, right,',
        'if False:\n            return F.cross_entropy(scores, right,', JOINT),
    Bug("words: the label stands at the last piece", _W, "[*marks, target, *[IGNORE] * rest]",
        "[*marks, *[IGNORE] * rest, target]", TAG),
    Bug("words: digits stay when answering", _W, "target.encode_batch([self._plain(word) for word in words])",
        "target.encode_batch(words)", TAG),
    Bug("words: copies are measured on", _W, "spaced(rows, limit) if seed is None else", "", EXCHANGE),
    Bug("schemes: an entity goes on as another type", _S, 'place in ("I", "E") and of == kind',
        'place in ("I", "E")', TAG),
    Bug("schemes: what no E ends is an entity", _S, 'if scheme == "bio":\n                found',
        "if True:\n                found", TAG),
    Bug("metrics: not strict", _M, '*lists, mode="strict", scheme=reader,', "*lists,", TAG),
    Bug("metrics: given and right swapped", _M, "for rows in (right, given)]", "for rows in (given, right)]", TAG),
    Bug("metrics: a sentence is right by half", _M, "sum(a and b for a, b", "sum(a or b for a, b", JOINT),
    Bug("exchange: broken rows are copied", _X, "if found and written(found, len(row.words), scheme) == list(row.tags)",
        "if True", EXCHANGE),
    Bug("exchange: any type's filling", _X, "fillings[entity.kind].append", 'fillings["x"].append', EXCHANGE),
    Bug("exchange: distinct fillings come alike", _X, "draw.choice(fillings[entity.kind])",
        "draw.choice(sorted(set(fillings[entity.kind])))", EXCHANGE),
    Bug("exchange: the words after the last slot are lost", _X, "        words += row.words[at:]\n", "", EXCHANGE),
    Bug("corpora: test texts are trained on", _D, "_without(train, dev, test)", "train", TAG),
    Bug("corpora: test texts are pooled", _D, "_without([*train, *dev], test)", "[*train, *dev]", TAG),
    Bug("joint: an unseen intent is the first one", _I, ".numbers.get(intent, IGNORE)}", ".numbers.get(intent, 0)}",
        JOINT),
    Bug("joint: no gradient into the giver", "models/joint.py", "told.softmax(-1)", "told.softmax(-1).detach()", JOINT),
    Bug("weighting: variances the wrong way", _G, "(-s.of(name)).exp()", "s.of(name).exp()", JOINT),
    Bug("weighting: log variances counted twice", _G, "s.values.sum() / 2 * rows", "s.values.sum() * rows", JOINT),
    Bug("weighting: agreement is projected", _G, "(along := gradient @ other) < 0", "(along := gradient @ other) > 0",
        JOINT),
    Bug("weighting: divided by its own norm", _G, "along / (other @ other)", "along / (gradient @ gradient)", JOINT),
    Bug("weighting: heads are projected, too", _G, 'shared: str = "encoder."):\n        self.losses',
        'shared: str = ""):\n        self.losses', JOINT),
]
# fmt: on
