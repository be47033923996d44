"""Word vectors: Google's analogies with and without the words of the question, and how alike three spaces are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench.understanding.records import Cell, Results, table
from qkv.baselines.cooccurrence import cooccurrences, pmi
from qkv.data import sources
from qkv.data.wikitext import UNKNOWN, Wikitext2
from qkv.interop import load_sentence_encoder
from qkv.interop.sentence import packaged
from qkv.probe import analogy, similarity
from qkv.probe.alignment import distance
from qkv.tasks.mentions import words

TYPES, WIDTH, WINDOW, COMPARED = 5000, 200, 5, 1500
GROUPS = {"grammar": ("gram",), "meaning": ("capital", "currency", "city", "family")}
SPACES = {
    "counts": "co-occurrence in WikiText-2",
    "table": "MiniLM, input table",
    "output": "MiniLM, the word as a sentence",
}
MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "CKA": similarity.linear_cka,
    "debiased CKA": similarity.debiased_cka,
    "SVCCA": lambda x, y: similarity.cca(x, y, variance=0.9),
    "common neighbours": similarity.neighbours,
    "RSA": similarity.rsa,
    "Procrustes distance": distance,
}
NOTE = f"""## Words

Three spaces of the same words: those of the {TYPES:,} most frequent of WikiText-2 (2 million tokens) that are one piece
of MiniLM's vocabulary. Counts: positive PMI within {WINDOW} words, the {WIDTH} largest directions by singular values.
Nothing is trained or chosen here. Google's analogies whose four words are all among them, %: the answer by 3CosAdd with
the three given words excluded, with none excluded, and how often a given word is then the nearest.

{{analogies}}

{{verdict}}

Likeness of the spaces on the {COMPARED:,} most frequent of these words; *other words*: the same with the rows of one
space shuffled, which is what each measure says of nothing.

{{likeness}}

{{machine}}"""


@cache
def spaces() -> tuple[list[str], dict[str, Tensor]]:
    """The words that all have, most frequent first, and the vectors [V,E] of each space."""
    from scipy.sparse.linalg import svds  # type: ignore[import-untyped]

    encoder = load_sentence_encoder(packaged())
    pieces = encoder.tokenizer.backend.get_vocab()
    texts = [[w for w in words(text.replace(UNKNOWN, " ")) if w.isalpha()] for text in Wikitext2().load("train")]
    frequent = [word for word, _ in Counter(w for text in texts for w in text).most_common(TYPES)]
    numbers = {word: i for i, word in enumerate(frequent)}
    counts = cooccurrences([[numbers[w] for w in text if w in numbers] for text in texts], TYPES, WINDOW)
    u, s, _ = svds(pmi(counts, positive=True).float().numpy(), WIDTH, random_state=0)
    kept = [i for i, word in enumerate(frequent) if word in pieces]
    known = [frequent[i] for i in kept]
    own = encoder.model.encoder.embedding.token.weight.detach()
    found = {
        "counts": torch.tensor(u * s**0.5)[kept],
        "table": own[[pieces[word] for word in known]],
        "output": encoder.embed(known),
    }
    return known, {name: (x - x.mean(0)).double() for name, x in found.items()}


def answered(space: str, group: str) -> Cell:
    """Analogies of a group of sections."""
    known, found = spaces()
    read = analogy.read(sources.read("analogy", "questions-words.txt"), known)
    questions = torch.cat([rows for name, rows in read.items() if name.startswith(GROUPS[group])])
    vectors = found[space]
    return {
        "questions": len(questions),
        "excluded": analogy.accuracy(vectors, questions),
        "plain": analogy.accuracy(vectors, questions, exclude=False),
        "returned": analogy.returned(vectors, questions),
        "parallel": analogy.parallelism(vectors, questions),
    }


def compared(first: str, second: str) -> Cell:
    """Every measure, on the same words and on other ones."""
    x, y = (spaces()[1][name][:COMPARED] for name in (first, second))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    cell: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        cell |= {name: measure(x, y), f"{name}, other words": measure(x, y[order])}
    return {**cell, "words": len(x)}


def main(results: Results) -> str:
    """Both tables."""
    cells = {
        (space, group): results.cell(f"{space}, {group}", lambda s=space, g=group: answered(s, g))  # type: ignore[misc]
        for space in SPACES
        for group in GROUPS
    }
    figures = ("excluded", "plain", "returned")
    lines = []
    for (space, group), cell in cells.items():
        if cell:
            shares = [f"{100 * cell[figure]:.1f}" for figure in figures]
            lines.append([SPACES[space], group, f"{cell['questions']:,}", *shares, f"{cell['parallel']:.2f}"])
    head = ["space", "questions of", "number", "inputs excluded", "none excluded", "an input is nearest", "parallel"]
    gains = [100 * (cell["excluded"] - cell["plain"]) for cell in cells.values() if cell]
    verdict = f"Leaving the inputs out is worth {min(gains):.0f} to {max(gains):.0f} points." if gains else ""
    rows = []
    names = list(SPACES)
    for a, b in ((names[i], names[j]) for i in range(3) for j in range(i + 1, 3)):
        if cell := results.cell(f"{a} and {b}", lambda a=a, b=b: compared(a, b)):  # type: ignore[misc]
            rows.append([f"{SPACES[a]} and {SPACES[b]}", *(f"{cell[name]:.2f}" for name in MEASURES)])
            rows.append(["*other words*", *(f"{cell[f'{name}, other words']:.2f}" for name in MEASURES)])
    return NOTE.format(
        analogies=table(head, lines), verdict=verdict, likeness=table(["", *MEASURES], rows), machine=results.machine()
    )
