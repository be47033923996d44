"""Bugs in the lab's machinery: what lets claims pass, fills answers and keeps the ledger (see planted_bugs.py)."""

from __future__ import annotations

from tests.planted_bugs_table import Bug

KIT, SHARED, VERIFY = ("lab/test_kit.py",), ("lab/test_measures.py",), ("lab/test_verify.py",)
TYPED = ("lab/test_answers.py::test_labels_mathematics_and_code_are_no_typed_numbers",)
REFUSED = ("lab/test_answers.py::test_what_is_no_answer_is_refused",)
FILLED = ("lab/test_answers.py::test_placeholders_take_formats_and_name_what_is_missing",)
TYPESET = ("lab/test_answers.py::test_numbers_are_typeset",)
LEDGER = ("lab/test_answers.py::test_the_ledger_is_of_this_code",)
_K, _E, _C, _L, _V = (f"lab/{name}.py" for name in ("kit", "evidence", "checks", "ledger", "verify"))
_A, _M, _S, _T = "lab/answers.py", "lab/measures.py", "lab/small.py", "cli/verify.py"

# fmt: off
LAB = [
    Bug("lab: one seed that holds is enough", _K, "held=bool(measured) and all(", "held=bool(measured) and any(", KIT),
    Bug("lab: a control that holds now and then refutes", _K, "refuted=bool(against) and not any(",
        "refuted=bool(against) and not all(", KIT),
    Bug("lab: two seeds will do", _K, "if seeds and seeds < 3:", "if seeds and seeds < 2:", KIT),
    Bug("lab: a control without words", _K, "not (without.en and without.zh)", "not (without.en or without.zh)", KIT),
    Bug("lab: the arm is its own control", _K, "if arm is control or", "if", KIT),
    Bug("lab: the control goes on with the arm's random numbers", _K, "            runtime.seed_everything(seed)\n"
        "            value =", "            value =", KIT),
    Bug("lab: seeds begin at zero", _K, "tuple(self.seed + i for", "tuple(i for", KIT),
    Bug("lab: every update sees one batch", _K, "self.seed * 1_000_003 + indices[0]", "self.seed * 1_000_003", KIT),
    Bug("lab: every seed sees the same batches", _K, "self.seed * 1_000_003 + indices[0]", "indices[0]", KIT),
    Bug("lab: an experiment need claim nothing", _K, "if not lab.claims and only is None:", "if False:", KIT),
    Bug("lab: a broken measure is told to nobody", _K, 'error = f"{type(broken).__name__}: {broken}"', 'error = ""',
        KIT),
    Bug("lab: the margin is in ranges of the calmer arm", _E, "spread = max(max(arm) - min(arm)",
        "spread = min(max(arm) - min(arm)", KIT),
    Bug("lab: no margin is asked", _E, "clear = len(self.seeds) < 2 or", "clear = True or", KIT),
    Bug("lab: placeholders take the control's values", _E, "((claim.name, claim.measured), (f\"{claim.name}.control\", "
        "claim.against))", "((claim.name, claim.against), (f\"{claim.name}.control\", claim.measured))", KIT),
    Bug("lab: least and most change places", _E, 'f"{key}.least": min(arm), f"{key}.most": max(arm)',
        'f"{key}.least": max(arm), f"{key}.most": min(arm)', KIT),
    Bug("lab: better than one seed of the other is better", _C, "all(value > other for", "any(value > other for", KIT),
    Bug("lab: bounds belong to what they exclude", _C, "lambda value, _: value > bound",
        "lambda value, _: value >= bound", KIT),
    Bug("lab: attention's queries stand at the beginning", _M, "tokens[:, length - x.shape[2] :]",
        "tokens[:, : x.shape[2]]", SHARED),
    Bug("lab: attention forgets the bias", _M, "None if bias is None else lambda *_: bias)", "None)", SHARED),
    Bug("lab: attention alone loses the fast path", _M, "tokens if x.shape[2] == length else tokens[:",
        "tokens[:", SHARED),
    Bug("lab: the line of x over y", _M, "((a - a.mean()) ** 2)", "((b - b.mean()) ** 2)", SHARED),
    Bug("lab: exponents on plain axes", _M, "slope([math.log(value) for value in x]", "slope([*x]", SHARED),
    Bug("lab: next tokens are their own targets", _S, "labelled(ids[:, :-1], ids[:, 1:])",
        "labelled(ids[:, :-1], ids[:, :-1])", SHARED),
    Bug("lab: a decoder reads what it has to write", _S, "ids.new_full((len(ids), 1), begin), ids[:, :-1]], dim=1)\n"
        "    return Batch", "ids.new_full((len(ids), 1), begin), ids[:, 1:]], dim=1)\n    return Batch", SHARED),
    Bug("lab: what is not asked counts as wrong", _S, "== batch.targets)[asked]", "== batch.targets)", SHARED),
    Bug("lab: padding is taken for words", _S, "Tokens.from_lengths([1 + len(row) for row in rows])",
        "Tokens.arange(*ids.shape)", SHARED),
    Bug("lab: a loss is divided by one unit", _S, 'return {"objective": self.count}', 'return {"objective": 1}',
        SHARED),
    Bug("lab: a spread tells its ends the wrong way round", _K, 'self.number(f"{name}_least", min(values), unit)',
        'self.number(f"{name}_least", max(values), unit)', SHARED),
    Bug("lab: quick verification runs everything", _V, "(full or not e.long)", "(full or True)", VERIFY),
    Bug("lab: what is long waits to the end", _V, "key=lambda e: not e.long", "key=lambda e: e.long", VERIFY),
    Bug("lab: without its data an experiment breaks", _V, "if missing := experiment.missing:", "if missing := []:",
        VERIFY),
    Bug("lab: failed verification succeeds", _T, "    if failed:\n        raise typer.Exit(1)",
        "    if False:\n        raise typer.Exit(1)", VERIFY),
    Bug("lab: what breaks is forgotten", _T, "            failed.append(outcome.experiment)\n", "", VERIFY),
    Bug("lab: the ledger forgets the others", _L, "kept = read(path) | {", "kept = {} | {", VERIFY),
    Bug("lab: the ledger never grows old by the toolkit", _L,
        'evidence.versions.get("toolkit") != versions()["toolkit"]', "False", VERIFY),
    Bug("lab: the ledger overlooks what an experiment imports", _L, "waiting += _imported(path)", "pass", LEDGER),
    Bug("lab: placeholders count as typed numbers", _A, "for pattern in (CODE, PLACEHOLDER, MATH):",
        "for pattern in (CODE, MATH):", TYPED),
    Bug("lab: any number may be typed", _A, 'found.append(f"numbers typed where', 'found.count(f"numbers typed where',
        REFUSED),
    Bug("lab: an answer need not cite", _A, "if not cited:", "if False:", REFUSED),
    Bug("lab: formats are ignored", _A, "typeset(_spell(values[name], form), latex)",
        "typeset(_spell(values[name], None), latex)", FILLED),
    Bug("lab: powers of ten lose their sign", _A, "superscript(int(exponent))}", "superscript(abs(int(exponent)))}",
        TYPESET),
]
# fmt: on
