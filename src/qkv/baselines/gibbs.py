"""Latent Dirichlet allocation by collapsed Gibbs sampling (Griffiths & Steyvers 2004): the readable twin of what
scikit-learn does by variational inference. A token's topic is drawn given those of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Sampler:
    """The state of the chain.

    texts: words of each text, numbers below `n_words`. n_topics: K. alpha, beta: of the symmetric Dirichlet priors of a
    text's topics and of a topic's words. topics: the topic of each token, as `texts` is laid out. of_text [N,K],
    of_word [K,V]: how many tokens of a text, and of a word, have a topic."""

    texts: Sequence[Sequence[int]]
    n_topics: int
    n_words: int
    alpha: float = 0.1
    beta: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.topics = [self.random.integers(self.n_topics, size=len(text)) for text in self.texts]
        self.of_text = np.zeros((len(self.texts), self.n_topics))
        self.of_word = np.zeros((self.n_topics, self.n_words))
        for number, (text, topics) in enumerate(zip(self.texts, self.topics, strict=True)):
            np.add.at(self.of_text[number], topics, 1)
            np.add.at(self.of_word, (topics, np.asarray(text, dtype=int)), 1)
        self.of_topic = self.of_word.sum(1)

    def sweep(self, times: int = 1) -> Sampler:
        """Draw every token's topic anew, `times` times: p(z=k | others) ∝ (n_text,k + α)(n_k,word + β)/(n_k + Vβ)."""
        total = self.n_words * self.beta
        for _ in range(times):
            for number, (text, topics) in enumerate(zip(self.texts, self.topics, strict=True)):
                own = self.of_text[number]
                uniform = self.random.random(len(text))
                for place, word in enumerate(text):
                    self._count(own, word, topics[place], -1)
                    odds = (own + self.alpha) * (self.of_word[:, word] + self.beta) / (self.of_topic + total)
                    ends = odds.cumsum()
                    topics[place] = min(int(ends.searchsorted(uniform[place] * ends[-1], "right")), self.n_topics - 1)
                    self._count(own, word, topics[place], 1)
        return self

    def _count(self, own: np.ndarray, word: int, topic: int, by: int) -> None:
        own[topic] += by
        self.of_word[topic, word] += by
        self.of_topic[topic] += by

    @property
    def words(self) -> np.ndarray:
        """p(word | topic) as the counts have it now, [K,V]."""
        return (self.of_word + self.beta) / (self.of_word + self.beta).sum(1, keepdims=True)

    @property
    def proportions(self) -> np.ndarray:
        """θ of each text as the counts have it now, [N,K]."""
        return (self.of_text + self.alpha) / (self.of_text + self.alpha).sum(1, keepdims=True)
