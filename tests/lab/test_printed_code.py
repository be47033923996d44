"""The code that answers print is the code that experiments measure, character by character."""

from __future__ import annotations

import inspect
import re

import pytest

from qkv.lab.attention import by_hand, implementations
from qkv.lab.questions import ROOT

PRINTED = {
    "a101": [by_hand.attend, by_hand.multi_head],
    "b04": [by_hand.attend],
    "a071": [*implementations.PRINTED],
}


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("stem", PRINTED)
def test_printed_code_is_measured_code(stem, language):
    text = (ROOT / "attention" / f"{stem}.{language}.md").read_text(encoding="utf-8")
    printed = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert printed == "\n\n".join(inspect.getsource(function) for function in PRINTED[stem])
