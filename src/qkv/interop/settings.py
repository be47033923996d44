"""Reading a `config.json` that others wrote: every key checked, every option that we lack refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkv.errors import UserError
from qkv.nn.feedforward import Activation

ACTIVATIONS: dict[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""Their names of activations and ours."""

THEIR_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}


class Settings:
    """The entries of a config.json. `where` names the file in messages; every method raises `UserError`."""

    def __init__(self, data: Mapping[str, Any], where: str = "config.json"):
        self.data, self.where = data, where

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it stands; the default where it is missing or null."""
        value = self.data.get(key)
        return default if value is None else value

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer."""
        value = self.get(key, default)
        if type(value) is not int or value < 1:
            found = "is missing" if value is None else f"is {value!r}"
            raise UserError(f"{self.where}: {key} {found}, expected a positive integer; download it again")
        return value

    def number(self, key: str, default: float) -> float:
        """A number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"{self.where}: {key} is {value!r}, expected a number; download it again")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.where}: {key} is {value!r}, expected true or false; download it again")
        return value

    def activation(self, key: str, default: str) -> Activation:
        """One of our activations."""
        name = self.get(key, default)
        self.only(key, *ACTIVATIONS, default=default)
        return ACTIVATIONS[name]

    def only(self, key: str, *allowed: Any, default: Any = None) -> None:
        """Refuse a value that is not among `allowed`, since the model would compute something else."""
        value = self.get(key, allowed[0] if default is None else default)
        if value not in allowed:
            choices = " or ".join(repr(choice) for choice in allowed)
            raise UserError(
                f"{self.where}: {key} is {value!r}, which qkv does not implement (only {choices}); "
                "choose a checkpoint without it"
            )
