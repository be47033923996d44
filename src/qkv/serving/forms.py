"""Parameters of an experiment as controls of a form, and what comes back from the form as parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml

from qkv import config
from qkv.errors import UserError
from qkv.lab.evidence import Text
from qkv.lab.kit import Experiment

MOST_SEED = 999_999


class Refused(UserError):
    """A value that an experiment does not take. field: its name. text: the sentence in both languages."""

    def __init__(self, field: str, text: Text):
        super().__init__(text.en)
        self.field, self.text = field, text


@dataclass(frozen=True)
class Control:
    """One parameter: its bounds (None: free), its choices, and what its dataclass says about it."""

    name: str
    kind: Literal["int", "float", "bool", "choice", "text", "yaml"]
    default: Any
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""


def controls(experiment: Experiment) -> list[Control]:
    """A control for each field of the experiment's parameters, in their order."""
    hints = get_type_hints(experiment.params, include_extras=True)
    helps = _helps(experiment.params.__doc__ or "", [f.name for f in fields(experiment.params)])
    found = []
    for field in fields(experiment.params):
        hint, least, most = hints[field.name], None, None
        if get_origin(hint) is Annotated:
            hint, *extra = get_args(hint)
            for bound in (b for e in extra for b in getattr(e, "metadata", [e])):
                least, most = getattr(bound, "ge", least), getattr(bound, "le", most)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        choices = tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()
        kinds: dict[Any, Any] = {int: "int", float: "float", bool: "bool"}
        kind: Any = "choice" if choices else kinds.get(hint, "text" if hint is str else "yaml")
        if kind == "yaml":
            default = yaml.safe_dump(config.plain(default), default_flow_style=True).removesuffix("...\n").strip()
        found.append(Control(field.name, kind, default, least, most, choices, helps.get(field.name, "")))
    return found


def parameters(experiment: Experiment, given: Mapping[str, Any]) -> Any:
    """The experiment's parameters from a form's values (numbers may be text). Raises Refused where one is missing, of
    the wrong kind, out of bounds or unknown, and for what the dataclass itself refuses."""
    known = {control.name: control for control in controls(experiment)}
    values = {name: _read(known[name], value) if name in known else value for name, value in given.items()}
    try:
        return config.parse(experiment.params, values)
    except UserError as error:
        field = str(error).split(":")[0]
        raise Refused(field if field in known else "", Text(str(error), str(error))) from error


def seed(given: Any) -> int:
    """A seed from a form's value. Raises Refused for what is no integer from 0 to MOST_SEED."""
    return int(_read(Control("seed", "int", 0, 0, MOST_SEED), given))


def is_default(experiment: Experiment, params: Any) -> bool:
    """Whether these are the parameters at which the experiment's claims are asserted."""
    return asdict(params) == asdict(experiment.params())


def _read(control: Control, value: Any) -> Any:
    """The value as its control has it: numbers from their text, lists from YAML."""
    if control.kind in ("int", "float"):
        return _number(control, value)
    if control.kind == "yaml" and isinstance(value, str):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:
            pass  # then it is text, and config.parse says what was expected
    return value


def _number(control: Control, value: Any) -> int | float:
    """A number within its bounds, which are checked here for the sake of the sentence."""
    name, whole = control.name, control.kind == "int"
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not math.isfinite(number) or (whole and not number.is_integer()):
        kind = Text("a whole number", "整数") if whole else Text("a number", "数")
        raise Refused(name, Text(f"{name} must be {kind.en}, not {value!r}", f"{name} 须是{kind.zh}，而不是 {value!r}"))
    least = -math.inf if control.least is None else control.least
    most = math.inf if control.most is None else control.most
    if not least <= number <= most:
        en = f"{name} must lie from {least:,g} to {most:,g}, and {number:,g} does not"
        raise Refused(name, Text(en, f"{name} 须在 {least:,g} 到 {most:,g} 之间，{number:,g} 不在其中"))
    return int(number) if whole else number


def _helps(docstring: str, names: list[str]) -> dict[str, str]:
    """What a docstring of the form "a: this. b, c: that." says about each name."""
    if not names:
        return {}
    name = "|".join(map(re.escape, names))
    pattern = re.compile(rf"(?<![\w.])((?:{name})(?:, (?:{name}))*): ")
    marks = list(pattern.finditer(re.sub(r"\s+", " ", docstring)))
    found: dict[str, str] = {}
    text = re.sub(r"\s+", " ", docstring)
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        said = text[mark.end() : following.start() if following else len(text)].strip().rstrip(".")
        found |= dict.fromkeys(mark[1].split(", "), said)
    return found
