"""Configurations: frozen dataclasses on one side, plain YAML data on the other.

Every part of the library owns a small frozen dataclass that says how it is built. Where there is a choice, the
choice is a *table*: a union of such dataclasses, whose entries are named by the snake_case of their class names.

    PositionConfig = NoPosition | Sinusoidal | Rotary          # a table
    position: rotary                                           # an entry with its defaults
    position: {rotary: {theta: 1e4}}                           # an entry with fields
    position: {learned: 512}                                   # an entry with one field needs not name it

A base class of dataclasses, used as an annotation, is the table of its subclasses. `parse` and `plain` are
inverses of each other; `override` and `differing` work on the plain side.
"""

from __future__ import annotations

import copy
import difflib
import functools
import itertools
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, overload

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from qkv.errors import UserError

Instance = TypeVar("Instance")


@overload
def parse(cls: type[Instance], data: Any, where: str = "") -> Instance: ...
@overload
def parse(cls: Any, data: Any, where: str = "") -> Any: ...
def parse(cls: Any, data: Any, where: str = "") -> Any:
    """Build an instance of `cls` (a dataclass, a table, or any annotation made of them) from plain data.

    `where` is the dotted path that messages start with. Raises `UserError` for an unknown key or entry, a missing
    field, a value of the wrong type, and whatever a dataclass refuses with `ValueError` in its `__post_init__`.
    """
    if cls is Any:
        return data
    if is_dataclass(cls):
        return _parse_fields(cls, data, where)
    origin, arguments = get_origin(cls), get_args(cls)
    if origin in (Union, types.UnionType):
        return _parse_union(cls, data, where)
    if origin in (tuple, list):
        return _parse_sequence(cls, origin, arguments, data, where)
    if origin is dict:
        mapping = _expect_mapping(data, where, "a mapping")
        return {parse(arguments[0], k, where): parse(arguments[1], v, _join(where, k)) for k, v in mapping.items()}
    if table := _table(cls):
        return _parse_entry(table, data, where)
    return _parse_leaf(cls, data, where)


def plain(config: Any, cls: Any = None) -> Any:
    """The inverse of `parse`: mappings, lists, strings, numbers, booleans and None, ready for YAML or JSON.

    A table entry that holds only defaults becomes its bare name. `cls` is the annotation that `config` was parsed
    as; it is needed only when that is a table itself, because an instance does not know the tables it is in.
    """
    cls = type(config) if cls is None else cls
    origin, arguments = get_origin(cls), get_args(cls)
    if is_dataclass(config) and not isinstance(config, type):
        if not _is_table(cls):
            return _plain_fields(config)
        name = entry_name(type(config))
        defaults = all(getattr(config, f.name) == _default(f) for f in fields(config) if f.init)
        return name if defaults else {name: _plain_fields(config)}
    if origin in (Union, types.UnionType) and config is not None:
        # Of several containers the first will do: what matters is what the elements are.
        cls = next((m for m in arguments if get_origin(m) is type(config)), type(config))
        origin, arguments = get_origin(cls), get_args(cls)
    if isinstance(config, tuple | list):
        kinds = _element_types(arguments, len(config)) if origin in (tuple, list) else [None] * len(config)
        return [plain(value, kind) for value, kind in zip(config, kinds, strict=True)]
    if isinstance(config, Mapping):
        kind = arguments[1] if origin is dict else None
        return {key: plain(value, kind) for key, value in config.items()}
    return str(config) if isinstance(config, Path) else config


def override(data: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """A copy of `data` with one `key.sub=value` applied; the value is read as YAML.

    A bare table name on the way becomes a mapping, so both entries of
    `position=rotary position.rotary.theta=500` do what they say, in this order. A number is an index into a list.
    """
    key, equals, text = assignment.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UserError(f"override {assignment!r}: expected key.sub=value, for example training.max_steps=4000")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"override {assignment!r}: {text!r} is not valid YAML; quote it if it is text") from None
    result = copy.deepcopy(dict(data))
    node: Any = result
    for part, following in itertools.pairwise(path):
        index: Any = _index(node, part, assignment)
        child = node[index] if isinstance(node, list) else node.get(index)
        if not isinstance(child, dict | list):
            # A bare name stays when the next part is that name; anything else is replaced.
            child = {following: None} if child == following else {}
        node[index] = child
        node = child
    node[_index(node, path[-1], assignment)] = value
    return result


def differing(a: Mapping[str, Any], b: Mapping[str, Any], where: str = "") -> list[str]:
    """The dotted keys in which two plain mappings differ, a key that only one of them has included."""
    found = []
    for key in dict.fromkeys([*a, *b]):
        path, left, right = _join(where, key), a.get(key, MISSING), b.get(key, MISSING)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differing(left, right, path)
        elif left != right:
            found.append(path)
    return found


def entry_name(cls: type) -> str:
    """The name of a dataclass in its table: `RelativeBuckets` is `relative_buckets`, `ByteBPE` is `byte_bpe`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cls.__name__).lower()


# --- parsing


def _parse_fields(cls: Any, data: Any, where: str) -> Any:
    """A dataclass from a mapping of its fields; nothing at all (YAML's empty value) means all defaults."""
    valid = {f.name: f for f in fields(cls) if f.init}
    mapping = _expect_mapping({} if data is None else data, where, f"a mapping with keys {_names(valid)}")
    for key in mapping:
        if key not in valid:
            raise UserError(f"{_join(where, key)}: unknown key{_suggest(key, valid)}; valid keys: {_names(valid)}")
    for name, field in valid.items():
        if name not in mapping and _default(field) is MISSING:
            raise UserError(f"{_join(where, name)}: required but missing")
    hints = get_type_hints(cls, include_extras=True)
    values = {name: parse(hints[name], value, _join(where, name)) for name, value in mapping.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise UserError(f"{_at(where)}{error}") from error


def _parse_union(cls: Any, data: Any, where: str) -> Any:
    """A table, an optional value, or a choice of leaf types."""
    members = get_args(cls)
    if data is None and types.NoneType in members:
        return None
    rest = [m for m in members if m is not types.NoneType]
    if len(rest) == 1:
        return parse(rest[0], data, where)
    leaves = [m for m in rest if not is_dataclass(m)]
    table = _table(cls)
    if table and (not leaves or isinstance(data, Mapping) or data in table):
        return _parse_entry(table, data, where)
    # The exact type goes first, so that 1.0 stays a float under `int | float`.
    for member in sorted(leaves, key=lambda m: m is not type(data)):
        try:
            return parse(member, data, where)
        except UserError:
            continue
    raise UserError(f"{_at(where)}expected {_describe(cls)}, got {_show(data)}{_suggest(data, table)}")


def _parse_entry(table: Mapping[str, type], data: Any, where: str) -> Any:
    """One entry of a table, from `name` or `{name: {field: value}}`."""
    if isinstance(data, str):
        data = {data: None}
    mapping = _expect_mapping(data, where, f"one of {_names(table)}")
    for name in mapping:
        if name not in table:
            raise UserError(f"{_at(where)}unknown entry {_show(name)}{_suggest(name, table)}; valid: {_names(table)}")
    if len(mapping) != 1:
        got = " and ".join(map(str, mapping)) or "none"
        raise UserError(f"{_at(where)}expected exactly one of {_names(table)}, got {got}; name the one you mean first")
    [(name, body)] = mapping.items()
    return _parse_fields(table[name], _named(table[name], body), _join(where, name))


def _named(cls: Any, body: Any) -> Any:
    """The fields of an entry: a body that is no mapping is its only field, as in `learned: 512` or `not: causal`.

    A mapping is meant so too where that field can itself name an entry, as in `not: {window: {back: 3}}`.
    """
    settable = [f.name for f in fields(cls) if f.init]
    if len(settable) != 1 or body is None:
        return body
    if isinstance(body, Mapping) and (not body or settable[0] in body or not _table(get_type_hints(cls)[settable[0]])):
        return body
    return {settable[0]: body}


def _parse_sequence(cls: Any, origin: type, arguments: tuple[Any, ...], data: Any, where: str) -> Any:
    """A tuple or list; of fixed length when its annotation is, as in `tuple[float, float]`."""
    if not isinstance(data, list | tuple):
        raise UserError(f"{_at(where)}expected {_describe(cls)}, got {_show(data)}")
    kinds = _element_types(arguments, len(data))
    if len(kinds) != len(data):
        raise UserError(f"{_at(where)}expected {len(kinds)} elements, got {len(data)}")
    return origin(parse(kind, value, _join(where, i)) for i, (kind, value) in enumerate(zip(kinds, data, strict=True)))


def _parse_leaf(cls: Any, data: Any, where: str) -> Any:
    """A number, string, boolean, path, literal or constrained type, checked by pydantic without coercion.

    The few readings that YAML itself makes necessary are tried in turn: `1e-3` has no dot and so arrives as text,
    `1e4` may be meant for an integer, and a path is text.
    """
    adapter = _adapter(cls)
    refused: ValidationError | None = None
    for candidate in _readings(data):
        try:
            return adapter.validate_python(candidate)
        except ValidationError as error:
            refused = refused or error
    assert refused is not None
    choices = get_args(cls) if get_origin(cls) is Literal else ()
    if get_origin(cls) is Annotated:
        message = refused.errors()[0]["msg"]
        raise UserError(f"{_at(where)}{message[:1].lower()}{message[1:]}, got {_show(data)}")
    raise UserError(f"{_at(where)}expected {_describe(cls)}, got {_show(data)}{_suggest(data, choices)}")


@functools.lru_cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls, config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _readings(data: Any) -> Iterable[Any]:
    """What a YAML value may have been meant as, the literal reading first."""
    yield data
    number = data
    if isinstance(data, str):
        yield Path(data)
        if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", data):
            return
        number = float(data)
        yield number
    if isinstance(number, float) and number.is_integer():
        yield int(number)


# --- plain side


def _plain_fields(config: Any) -> dict[str, Any]:
    hints = get_type_hints(type(config), include_extras=True)
    return {f.name: plain(getattr(config, f.name), hints[f.name]) for f in fields(config) if f.init}


def _default(field: Field[Any]) -> Any:
    """The default of a field, `MISSING` if it is required."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _index(node: Any, part: str, assignment: str) -> str | int:
    """The key or list index that `part` means in `node`."""
    if not isinstance(node, list):
        return part
    if not part.isdigit() or int(part) >= len(node):
        raise UserError(f"override {assignment!r}: {part!r} is not an index into a list of {len(node)} elements")
    return int(part)


# --- annotations, messages


def _table(cls: Any) -> dict[str, type]:
    """The named entries: the dataclasses of a union, or those that derive from a base class that is none itself."""
    members: Iterable[Any] = get_args(cls) if get_origin(cls) in (Union, types.UnionType) else ()
    if isinstance(cls, type) and not is_dataclass(cls) and cls.__module__ != "builtins":
        members = cls.__subclasses__()
    return {entry_name(m): m for m in members if isinstance(m, type) and is_dataclass(m)}


def _is_table(cls: Any) -> bool:
    """Whether an instance must be named to be recognised: in any table but `Dataclass | None`."""
    return bool(_table(cls)) and len([m for m in get_args(cls) if m is not types.NoneType]) != 1


def _element_types(arguments: tuple[Any, ...], count: int) -> list[Any]:
    variadic = len(arguments) == 1 or (len(arguments) == 2 and arguments[1] is Ellipsis)
    return [arguments[0]] * count if variadic else list(arguments)


def _expect_mapping(data: Any, where: str, expected: str) -> Mapping[Any, Any]:
    if not isinstance(data, Mapping):
        raise UserError(f"{_at(where)}expected {expected}, got {_show(data)}")
    return data


def _describe(cls: Any) -> str:
    """What an annotation accepts, in words."""
    words = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    words |= {types.NoneType: "null"}
    if cls in words:
        return words[cls]
    origin, arguments = get_origin(cls), get_args(cls)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, arguments))
    if origin in (tuple, list):
        kinds = dict.fromkeys(a for a in arguments if a is not Ellipsis)
        return f"a list of {' or '.join(map(_describe, kinds))}"
    return entry_name(cls) if isinstance(cls, type) else str(cls)


def _suggest(given: Any, valid: Iterable[Any]) -> str:
    close = difflib.get_close_matches(str(given), [str(v) for v in valid], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _names(valid: Iterable[str]) -> str:
    return ", ".join(valid) or "(none)"


def _show(data: Any) -> str:
    text = "null" if data is None else str(data).lower() if isinstance(data, bool) else repr(data)
    return text if len(text) <= 80 else text[:77] + "..."


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)
