"""Checkpoints of Hugging Face, in and out."""

from .huggingface import Folder, from_state_dict, load_folder, save_folder, to_state_dict, tokens_from_mask
from .sentence import SentenceEncoder, load_sentence_encoder

__all__ = [
    "Folder",
    "SentenceEncoder",
    "from_state_dict",
    "load_folder",
    "load_sentence_encoder",
    "save_folder",
    "to_state_dict",
    "tokens_from_mask",
]
