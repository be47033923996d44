"""The rules of the house, as functions from a source file to the sentences that say where it breaks them."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_LINES = 399
MOST_FUNCTION_LINES = 60

# A part of qkv may import the parts in its line, and itself; the root modules serve all but nn.
BASE = ("nn", "text", "models", "data")
METHODS = ("baselines", "training", "decoding", "compress")
USES = ("probe", "interop")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "nn": (),
    "text": (),
    "models": ("nn",),
    "data": ("nn", "text"),
    **dict.fromkeys(METHODS, BASE),
    "tasks": (*BASE, *METHODS),
    **dict.fromkeys(USES, (*BASE, *METHODS, "tasks")),
    "lab": (*BASE, *METHODS, "tasks", *USES),
    "serving": (*BASE, *METHODS, "tasks", *USES, "lab"),
    "cli": (*BASE, *METHODS, "tasks", *USES, "lab", "serving"),
    "__main__": ("cli",),
}
ROOTS: dict[str, tuple[str, ...]] = {"errors": (), "config": ("errors",), "runtime": ("errors",), "": ()}

FAMILIES = """
    albert bart bert bloom camembert deberta distilbert electra ernie falcon gemma gpt informer llama longformer marian
    mbart mistral mixtral mt5 palm pegasus qwen reformer roberta t5 vaswani vicuna xlm xlnet
"""


@dataclass(frozen=True)
class Source:
    """One Python file: where it is, the dotted module it is, its text and its syntax tree."""

    path: Path
    module: str
    text: str
    tree: ast.Module

    @classmethod
    def read(cls, path: Path, root: Path) -> Source:
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[1:] if parts[0] == "src" else parts
        text = path.read_text(encoding="utf-8")
        return cls(path, ".".join(p for p in parts if p != "__init__"), text, ast.parse(text))

    @property
    def part(self) -> str:
        """The part of qkv that the file belongs to: `nn`, `config`, ..., and "" for the package itself."""
        return [*self.module.split("."), ""][1]

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def read_all(root: Path, *folders: str) -> list[Source]:
    """Every Python file in these folders of `root`."""
    return [Source.read(path, root) for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module that is imported, relative ones resolved, wherever in the file the statement stands."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                is_package = source.path.name == "__init__.py"
                package = source.module.split(".")[: None if is_package else -1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, base] if base else package)
            # `from qkv import nn` imports the part, `from qkv import __version__` only the package.
            names = [f"qkv.{a.name}" if f"{a.name}" in MAY_IMPORT | ROOTS else "qkv" for a in node.names]
            yield from ((node, name) for name in (names if base == "qkv" else [base]))


def import_direction(source: Source) -> Iterator[str]:
    """Imports inside qkv follow the arrows, and nn needs torch and the standard library only."""
    known = MAY_IMPORT | ROOTS
    if source.part not in known:
        yield f"{source.path}: qkv.{source.part} has no place in the import order; give it one in tests/architecture"
        return
    everywhere = () if source.part == "nn" or source.part in ROOTS else ROOTS
    allowed = {source.part, *known[source.part], *everywhere}
    for node, name in imports(source):
        top, _, rest = name.partition(".")
        if top == "qkv" and rest.split(".")[0] not in allowed:
            yield f"{source.at(node)}: qkv.{source.part} may not import {name}"
        if source.part == "nn" and top not in {"qkv", "torch", *sys.stdlib_module_names}:
            yield f"{source.at(node)}: nn imports torch and the standard library only, not {name}"


def file_size(source: Source) -> Iterator[str]:
    """A file is a room."""
    lines = len(source.text.splitlines())
    if lines > MOST_LINES:
        yield f"{source.path}: {lines} lines, at most {MOST_LINES}"


def function_size(source: Source) -> Iterator[str]:
    """A function fits a screen; its docstring is not counted."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = _lines(node) - (_lines(node.body[0]) if ast.get_docstring(node) else 0)
            if lines > MOST_FUNCTION_LINES:
                yield f"{source.at(node)}: {node.name} has {lines} lines, at most {MOST_FUNCTION_LINES}"


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def family_names(source: Source) -> Iterator[str]:
    """No identifier or string of nn names a model family; docstrings and comments may cite one."""
    families = set(FAMILIES.split())
    docstrings = {id(text) for _, text in _documented(source.tree) if text is not None}
    for node in ast.walk(source.tree):
        texts = [getattr(node, field, None) for field in ("name", "id", "attr", "arg", "asname", "module")]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            texts.append(node.value)
        for text in (t for t in texts if isinstance(t, str)):
            for word in _subwords(text):
                if word in families or word.rstrip("0123456789") in families:
                    yield f"{source.at(node)}: {text!r} names the model family {word!r}"


def _subwords(text: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return re.findall(r"[a-z]+[0-9]*", spaced.lower())


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(tree: ast.Module) -> Iterator[tuple[Documented, ast.expr | None]]:
    """Everything that can have a docstring, with the node of the docstring that it has."""
    for node in ast.walk(tree):
        if isinstance(node, Documented):
            first = node.body[0] if node.body else None
            yield node, first.value if isinstance(first, ast.Expr) and ast.get_docstring(node) else None


def docstrings(source: Source) -> Iterator[str]:
    """Every public module, and every public class and function in it, says what it is."""
    if ast.get_docstring(source.tree) is None:
        yield f"{source.path}: the module has no docstring"
    for node in source.tree.body:
        if not isinstance(node, Documented) or node.name.startswith("_") or ast.get_docstring(node):
            continue
        if not any("overload" in ast.unparse(decorator) for decorator in node.decorator_list):
            yield f"{source.at(node)}: {node.name} has no docstring"


def contents(source: Source) -> Iterator[str]:
    """A package whose docstring names files names each of its own, and none that is gone."""
    named = set(re.findall(r"\b(\w+\.py)\b", ast.get_docstring(source.tree) or ""))
    if source.path.name == "__init__.py" and named:
        there = {path.name for path in source.path.parent.glob("*.py")} - {"__init__.py"}
        yield from (f"{source.path}: its contents leave out {name}" for name in sorted(there - named))
        yield from (f"{source.path}: its contents name {name}, which is gone" for name in sorted(named - there))


def no_pickle(source: Source) -> Iterator[str]:
    """Nothing that can run code on loading is read or written: safetensors and JSON only."""
    picklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node, name in imports(source):
        if name.split(".")[0] in picklers:
            yield f"{source.at(node)}: imports {name}"
        if name == "torch" and isinstance(node, ast.ImportFrom):
            yield from (f"{source.at(node)}: torch.{a.name}" for a in node.names if a.name in ("load", "save"))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.save"):
            yield f"{source.at(node)}: {ast.unparse(node)}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            yield f"{source.at(node)}: allow_pickle"


def machine_paths(path: Path, root: Path) -> Iterator[str]:
    """No folder of somebody's machine is written down: not this checkout's, not anybody's home."""
    homes = r"(?:home|Users|root|work|workspace|mnt|tmp)/[A-Za-z0-9_.]"
    here = "|".join(re.escape(str(place)) for place in {root, Path.home()} if len(place.parts) > 2)
    pattern = re.compile(rf"(?<![\w.)}}~*-])(?:/{homes}{'|' + here if here else ''})")
    for number, line in enumerate(path.read_bytes().decode("utf-8", "ignore").splitlines(), 1):
        if found := pattern.search(line):
            yield f"{path}:{number}: {line[found.start() : found.start() + 40]!r} is a path of one machine"


def code_blocks(markdown: str, language: str = "python") -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```\s*$", markdown, flags=re.M | re.S)
