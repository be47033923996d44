"""Readable twins of the tokenizers: pure Python, slow, and equal to what the library computes (the tests say so).

Read them in this order: `bpe` (merge the most frequent pair), `wordpiece` (same units, another criterion, another way
to encode), `unigram` (a probability for every segmentation), `unigram_training` (where the probabilities come from).
"""
