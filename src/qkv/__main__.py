"""`python -m qkv` and `torchrun -m qkv`: the same program as the `qkv` script."""

from __future__ import annotations

from qkv.cli import main

if __name__ == "__main__":
    main()
