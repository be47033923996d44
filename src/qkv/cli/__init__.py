"""The command line. Importing it is cheap: a command imports torch when it runs, so `qkv --help` answers at once."""

from __future__ import annotations

from qkv.cli.app import app, main

__all__ = ["app", "main"]
