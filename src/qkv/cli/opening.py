"""What a command is given to work on: a run folder or a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from qkv.tasks.folder import Run


def opened(folder: Path, device: torch.device | str = "cpu", answers: bool = True) -> Run:
    """The model in a folder of either kind, ready to answer. answers: whether it has to; an encoder without a head does
    not, and can be trained on. Raises UserError for whatever is wrong with it."""
    from qkv.tasks.folder import CONFIG, open_run

    foreign = (folder / "config.json").is_file() and not (folder / CONFIG).is_file()
    return _from_hugging_face(folder, device, answers) if foreign else open_run(folder, device)


def _from_hugging_face(folder: Path, device: torch.device | str, answers: bool) -> Run:
    """A Hugging Face folder as a run without data of its own: its shape says which task it is for."""
    from qkv.data.datasets import PairFiles, TextFiles
    from qkv.data.windows import WindowConfig
    from qkv.errors import UserError
    from qkv.interop import load_folder
    from qkv.tasks.folder import Run
    from qkv.tasks.language_model import LanguageModel
    from qkv.tasks.masked_language_model import MaskedLanguageModel
    from qkv.tasks.model import shape_of, written
    from qkv.tasks.recipe import Recipe
    from qkv.tasks.task import System
    from qkv.tasks.tokenizers import File, Tokenizers, TokenizersConfig
    from qkv.tasks.translate import Translate
    from qkv.training.config import TrainingConfig

    model, found = load_folder(folder)
    shape = shape_of(model.config)
    if shape == "encoder_only" and answers and model.config.head.transform is None:
        raise UserError(
            f"{folder} holds an encoder ({found.family}) without a head, which answers nothing by itself; "
            f"train one on it: qkv train RECIPE --init {folder}"
        )
    tokenizer = _tokenizer(found)
    both = shape == "encoder_decoder"
    length = min(256, model.max_length or 256)
    task: Any = Translate() if both else LanguageModel(WindowConfig(length))
    if shape == "encoder_only":
        task = MaskedLanguageModel(length=min(128, length))
    recipe = Recipe(
        task=task,
        data=PairFiles("", "") if both else TextFiles("", ""),
        tokenizers=TokenizersConfig(shared=File(str(folder))),
        model=written(model.config),
        training=TrainingConfig(max_steps=1),
    )
    return Run(folder, recipe, System(model.to(device).eval(), Tokenizers(tokenizer, tokenizer if both else None)))


def _tokenizer(found: Any) -> Any:
    """The folder's tokenizer, its begin and end tokens those that its model was trained with."""
    from qkv.errors import UserError
    from qkv.text import Tokenizer, from_tokenizer_json

    if "tokenizer.json" not in found.tokenizer:
        raise UserError(f"{found.path} has no tokenizer.json; save it there with a fast tokenizer of transformers")
    tokenizer = from_tokenizer_json(found.path)
    start = found.settings.get("decoder_start_token_id")
    ids = {"bos": start if start is not None else found.settings.get("bos_token_id")}
    ids["eos"] = found.settings.get("eos_token_id")
    return Tokenizer(tokenizer.backend, tokenizer.special_ids | {k: v for k, v in ids.items() if isinstance(v, int)})
