"""`python -m bench.understanding [PART...]`: measures what is missing, into docs/results-understanding.md.

A part is a module of this package with a function `main(results)` that asks `results` for its cells, one after the
other, and returns its Markdown. A cell that was measured is not measured again, so the command may be stopped at any
time and given again; the table is written at the end of each part. Needs $QKV_DATA.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from bench.understanding.records import RUNS, Results, publish

NAMES = ("__main__", "records")


def parts() -> list[str]:
    """The modules of this package that are parts."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if name not in NAMES and hasattr(_module(name), "main"))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"bench.understanding.{name}")


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.understanding", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts())}; all without one")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the run folders are kept")
    parser.add_argument(
        "--table", action="store_true", help="write the tables of what is measured, and measure nothing"
    )
    chosen = parser.parse_args()
    for name in chosen.parts or parts():
        if name not in parts():
            parser.error(f"no part is called {name!r}; choose one of {', '.join(parts())}")
        results = Results(name, chosen.runs.resolve() / name, measure=not chosen.table)
        publish(name, _module(name).main(results))


if __name__ == "__main__":
    main()
