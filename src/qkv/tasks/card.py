"""card.md: what a run's weights are, in words, for whoever finds the folder later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from qkv.config import entry_name, plain
from qkv.tasks.folder import CARD, write_text
from qkv.tasks.model import parameters, shape_of
from qkv.tasks.recipe import Data, Recipe, TaskConfig


def write_card(folder: Path, recipe: Recipe, model: nn.Module, result: Mapping[str, Any], which: str) -> None:
    """Write card.md. result: figures of the finished run. which: where the weights come from (best, average, ...)."""
    figures = "\n".join(f"| {name} | {_shown(value)} |" for name, value in result.items())
    data = yaml.safe_dump({"data": plain(recipe.data, Data)}, sort_keys=False).strip()
    write_text(
        folder / CARD,
        f"""# {folder.name}

- Task: {entry_name(type(recipe.task))}
- Model: {shape_of(recipe.model_config)}, {parameters(model):,} parameters
- Weights in `model.safetensors`: {which}
- Chosen by: {recipe.training.metric} on dev, {"lower" if recipe.training.mode == "min" else "higher"} is better
- Fine-tuned from: {recipe.init or "nothing; trained from fresh weights"}

```yaml
{yaml.safe_dump({"task": plain(recipe.task, TaskConfig)}, sort_keys=False).strip()}
{data}
```

| figure | value |
|---|---|
{figures}

Use it: `qkv evaluate {folder}`, `qkv predict {folder} TEXT`, `qkv explain {folder} TEXT`. All settings: `config.yaml`.
""",
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
