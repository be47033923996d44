"""The families whose checkpoints qkv reads and writes, by the `model_type` of their config.json."""

from ..family import Family
from .albert import ALBERT
from .bert import BERT
from .gpt2 import GPT2
from .llama import LLAMA
from .marian import MARIAN
from .t5 import T5

FAMILIES: dict[str, Family] = {family.model_type: family for family in (BERT, ALBERT, GPT2, T5, MARIAN, LLAMA)}

__all__ = ["FAMILIES"]
