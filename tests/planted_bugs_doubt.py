"""Bugs in what a classifier should doubt: wrong labels, texts out of scope, topics beside it (see planted_bugs.py)."""

from __future__ import annotations

from tests.planted_bugs_table import Bug

AUDIT, SCOPE = ("tasks/test_audit.py",), ("tasks/test_scope.py",)
TOPICS, GIBBS = ("tasks/test_topics.py",), ("baselines/test_gibbs.py",)
_A, _J, _S, _F, _M = (f"tasks/{name}.py" for name in ("audit", "judges", "scope", "scope_scores", "scope_metrics"))
_T, _C, _U, _G = "text/topics.py", "tasks/topics.py", "models/fusion.py", "baselines/gibbs.py"

# fmt: off
DOUBT = [
    Bug("audit: one threshold, over all rows", _A, "(p * of).sum(0) / np.maximum(number, 1)", "p.mean(0)", AUDIT),
    Bug("audit: the likeliest label, sure or not", _A, "np.where(sure, p, -1.0).argmax(1)", "p.argmax(1)", AUDIT),
    Bug("audit: meant and given change places", _A, "(given[rows[meant >= 0]], meant[meant >= 0])",
        "(meant[meant >= 0], given[rows[meant >= 0]])", AUDIT),
    Bug("audit: noise is normalised over given labels", _A, "np.maximum(self.calibrated.sum(0), 1e-12)",
        "np.maximum(self.calibrated.sum(1), 1e-12)", AUDIT),
    Bug("audit: the judge has seen what it judges", _A, "if f != i]", "if f >= 0]", AUDIT),
    Bug("audit: equal texts in several folds", _A, "groups[row.text.strip(), row.second]",
        "groups[str(number), row.second]", AUDIT),
    Bug("audit: the judge's columns taken for ours", _A, "[list(names).index(name) for name in known]\n        p[",
        "list(range(len(known)))\n        p[", AUDIT),
    Bug("audit: the given label is its own rival", _A, "_others(p, given).max(1)", "p.max(1)", AUDIT),
    Bug("audit: least suspicious first", _A, "key=lambda finding: -finding.score", "key=lambda finding: finding.score",
        AUDIT),
    Bug("audit: rows are counted from zero", _A, "Finding(row + 1,", "Finding(row,", AUDIT),
    Bug("audit: suggests the likeliest label by rate", _A, 'if method == "by_rate" else', 'if True else', AUDIT),
    Bug("judge: what is fitted chooses, too", _J, "return fitted, choosing", "return list(rows), choosing", AUDIT),
    Bug("judge: nothing is spared where the corpus was cut", _J, "held = folds(rows, PARTS) == 0",
        'splits = __import__("qkv.data.splits", fromlist=["hundredth"])\n    '
        "held = np.array([splits.hundredth(row.text) < 10 for row in rows])", AUDIT),
    Bug("judge: in sample spares a tenth", _J, "if spared else (rows, rows)", "if True else (rows, rows)", AUDIT),
    Bug("judge: a tenth is never fitted", _J, "found = tfidf.learn(*every, *every, *chosen)",
        "found = tfidf.learn(*_columns(_split(rows)[0]), *every, *chosen)", AUDIT),
    Bug("scope: fitted to what chooses the threshold", _S, "score.fit(features(system, task, train), right[0])",
        "score.fit(features(system, task, dev), right[1])", SCOPE),
    Bug("scope: vectors in the order of batches", _S, "vectors[numbers] =", "vectors[: len(numbers)] =", SCOPE),
    Bug("scope: what is refused is ambiguous, too", _S, "inside and gap < self.margin", "gap < self.margin", SCOPE),
    Bug("scope: energy grows with the temperature", _F, "features.logits / self.temperature).logsumexp",
        "features.logits * self.temperature).logsumexp", SCOPE),
    Bug("scope: distance to the farthest mean", _F, "squares(state, features.vectors).amin(-1)",
        "squares(state, features.vectors).amax(-1)", SCOPE),
    Bug("scope: densities without their half", _F, "squares(state, features.vectors) / 2", "squares(state, "
        "features.vectors)", SCOPE),
    Bug("scope: one covariance about one mean", _F, "apart = vectors - means[labels]", "apart = vectors - "
        "vectors.mean(0)", SCOPE),
    Bug("scope: the neighbour before", _F, "min(self.k, len(kept))", "min(self.k - 1 or 1, len(kept))", SCOPE),
    Bug("scope: long texts are unlikely", _F, ".logsumexp(0) / len(known))", ".logsumexp(0))", SCOPE),
    Bug("scope: ties count as right", _M, 'np.searchsorted(outside, inside, "left") +',
        'np.searchsorted(outside, inside, "right") +', SCOPE),
    Bug("scope: the threshold itself lets nothing in", _M, "(outside >= np.sort(inside)[len(inside) - kept])",
        "(outside > np.sort(inside)[len(inside) - kept])", SCOPE),
    Bug("scope: costs change places", _M, "price = (1 - costs.outside) * costs.refused * refused + costs.outside * "
        "costs.answered", "price = (1 - costs.outside) * costs.answered * refused + costs.outside * costs.refused",
        SCOPE),
    Bug("scope: asking is never in vain", _M, "costs.wrong * (missed + wrong)", "costs.wrong * wrong", SCOPE),
    Bug("scope: stays when the run is trained anew", "training/run.py", ', "scope.json", "scope.safetensors")', ")",
        SCOPE),
    Bug("topics: the prior is forgotten", _T, "new = prior + topic", "new = topic", TOPICS),
    Bug("topics: a word counts once", _T, "torch.tensor(list(bag.values()), dtype=likely.dtype)",
        "torch.ones(len(bag), dtype=likely.dtype)", TOPICS),
    Bug("topics: specials are counted", _T, " and i not in without]", "]", TOPICS),
    Bug("topics: rare words by tokens, not by texts", _T, "among = Counter(i for bag in bags for i in bag)",
        "among = sum(bags, Counter())", TOPICS),
    Bug("topics: standardised by the texts that are asked about", _C, "tokenizers.topics.vectors(",
        "tokenizers.topics.standardised(self.whole(rows, tokenizers)).vectors(", TOPICS),
    Bug("topics: of what the encoder reads only", _C, "[list(ids) for ids in",
        "[list(ids)[: self.longest - 2] for ids in", TOPICS),
    Bug("topics: the control is told its own", _C, "told.roll(1, 0) if self.shuffled", "told.roll(0, 0) if "
        "self.shuffled", TOPICS),
    Bug("fusion: the gate turns the wrong way", _U, "gate * read + (1 - gate) * told", "(1 - gate) * read + gate * "
        "told", TOPICS),
    Bug("fusion: topics are added to every token", _U, "(tokens.pos == 0).unsqueeze(-1)",
        "tokens.valid.unsqueeze(-1)", TOPICS),
    Bug("gibbs: a token votes for its own topic", _G, "self._count(own, word, topics[place], -1)",
        "self._count(own, word, topics[place], 0)", GIBBS),
    Bug("gibbs: words smoothed by the number of topics", _G, "total = self.n_words * self.beta",
        "total = self.n_topics * self.beta", GIBBS),
]
# fmt: on
