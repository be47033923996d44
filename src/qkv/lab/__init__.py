"""The lab: questions about the Transformer, answered by runs that could have come out the other way.

kit.py        what an experiment is given: claims with controls, numbers, figures, training
checks.py     what a measured value must satisfy
evidence.py   what a run leaves behind
registry.py   every experiment by name
figures.py    drawings as data (Vega-Lite)
small.py      the small models and generated batches that experiments share
measures.py   what many experiments measure: a kernel by itself, operations, a power's exponent
questions.py  the questions of both lists, and the search over them
answers.py    the prose beside the experiments: parsed, checked, its placeholders filled
ledger.py     the evidence of the last full run, as JSON lines
verify.py     every claim, in parallel
terminal.py   an answer in the terminal

One folder a topic holds experiments and, beside them, the answers a001.en.md, a001.zh.md (list A)
and b01.*.md (list B).
"""
