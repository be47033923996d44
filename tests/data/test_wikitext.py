"""WikiText-2: cut into articles, signs of tokenisation undone, counted against what was published."""

from __future__ import annotations

import pytest

from qkv.data import sources
from qkv.data.splits import NoSplit
from qkv.data.wikitext import UNKNOWN, Wikitext2, articles, joined

TEXT = " \n = One = \n \n A line . \n = not a title = \n \n = = Part = = \n \n More . \n \n = Two 2 = \n \n End . \n"


def test_articles_begin_with_titles_that_stand_alone() -> None:
    found = articles(TEXT)
    assert [article.split("\n")[0] for article in found] == [" = One = ", " = Two 2 = "]
    assert " \n" + "".join(found) == TEXT
    assert joined(found[0]).split("\n") == ["= One =", "A line .", "= not a title =", "= = Part = =", "More ."]


def test_signs_are_undone() -> None:
    assert joined("a role @-@ play of 5 @,@ 000 at 0 @.@ 7 <unk>") == f"a role-play of 5,000 at 0.7 {UNKNOWN}"


@pytest.mark.skipif(sources.find("wikitext2", "valid.txt") is None, reason="no wikitext2 in $QKV_DATA or the cache")
def test_counts_are_those_published() -> None:
    for split, n_articles, tokens in (("train", 600, 2_088_628), ("dev", 60, 217_646)):
        published = Wikitext2(published=True).load(split)  # type: ignore[arg-type]
        lines = "".join(published).split("\n")
        assert len(published) == n_articles
        # Each line end counts as a token, <eos>; the empty line before the first title is in no article.
        assert sum(len(line.split()) for line in lines) + len(lines) == tokens
        assert not any("<unk>" in text or "@-@" in text for text in Wikitext2().load(split))  # type: ignore[arg-type]
    with pytest.raises(NoSplit, match="no test split"):
        Wikitext2().load("test")
