from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qkv.data import sources
from qkv.data.sources import SOURCES, Source, find, get, read
from qkv.errors import UserError

TEXT = "ein Hund\nläuft\n"
DIGEST = hashlib.sha256(TEXT.encode()).hexdigest()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A made-up dataset `pets` of one file, an empty cache, no QKV_DATA, and a folder `served`."""
    monkeypatch.delenv("QKV_DATA", raising=False)
    monkeypatch.setenv("QKV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    served = tmp_path / "served"
    (served / "pets").mkdir(parents=True)
    base = f"file://{served}/pets/"
    monkeypatch.setitem(SOURCES, "pets", Source("pets", files={"train.de": DIGEST}, base=base, suffix=".gz"))
    return tmp_path


def serve(place, content: bytes):
    (place / "served" / "pets" / "train.de.gz").write_bytes(content)


def test_get_stores_the_unzipped_text_once(place):
    serve(place, gzip.compress(TEXT.encode()))
    (path,) = get("pets")
    assert path == place / "cache" / "data" / "pets" / "train.de"
    assert path.read_text("utf-8") == TEXT == read("pets", "train.de")
    (place / "served" / "pets" / "train.de.gz").unlink()
    assert get("pets") == [path], "a second get needs no network"


def test_reading_downloads_what_is_nowhere(place):
    serve(place, gzip.compress(TEXT.encode()))
    assert read("pets", "train.de") == TEXT
    assert (place / "cache" / "data" / "pets" / "train.de").read_text("utf-8") == TEXT


def test_a_damaged_cache_is_refused_by_read_and_mended_by_get(place):
    serve(place, gzip.compress(TEXT.encode()))
    (path,) = get("pets")
    path.write_text("another text")
    with pytest.raises(UserError, match=r"train\.de is not the expected text .* run 'qkv data get pets'"):
        read("pets", "train.de")
    get("pets")
    assert read("pets", "train.de") == TEXT


CORRUPT = {"plain": b"not it", "zipped": gzip.compress(b"nor this"), "cut": gzip.compress(TEXT.encode())[:-9]}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
def test_wrong_content_leaves_nothing_behind(place, content):
    serve(place, content)
    with pytest.raises(UserError, match=r"not the expected text|damaged gzip"):
        get("pets")
    assert not [p for p in (place / "cache").rglob("*") if p.is_file()]


def test_a_failed_write_leaves_nothing_behind(place, monkeypatch):
    serve(place, gzip.compress(TEXT.encode()))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sources.os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .* No space left on device; free some room"):
        get("pets")
    assert not [p for p in (place / "cache").rglob("*") if p.is_file()]


def test_get_over_http_and_from_a_mirror(place):
    handler = partial(SimpleHTTPRequestHandler, directory=str(place / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        mirror = f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(UserError, match=r"cannot download http://.*pets/train\.de\.gz: .*404.*set QKV_DATA"):
            get("pets", mirror)
        serve(place, TEXT.encode())  # plain bytes under a .gz name: a server that unzips on the way
        get("pets", mirror)
        server.shutdown()
    assert read("pets", "train.de") == TEXT
    assert get("pets", mirror), "cached: the mirror is gone and not asked"


@pytest.mark.parametrize("mirror", ["http://127.0.0.1:9", "nonsense", "file:///nowhere"])
def test_no_network_is_one_sentence(place, mirror):
    with pytest.raises(UserError, match=r"cannot download .*; without a network, copy the files of pets"):
        get("pets", mirror)


def test_qkv_data_goes_before_the_cache_and_may_be_zipped(place, monkeypatch):
    serve(place, gzip.compress(TEXT.encode()))
    get("pets")
    own = place / "own" / "pets"
    own.mkdir(parents=True)
    (own / "train.de.gz").write_bytes(gzip.compress(TEXT.encode(), mtime=1))
    monkeypatch.setenv("QKV_DATA", str(place / "own"))
    assert find("pets", "train.de") == own / "train.de.gz"
    assert read("pets", "train.de") == TEXT


def test_absent_files_and_names_say_what_to_do(place):
    with pytest.raises(UserError, match=r"train\.de is neither in .*; cannot download .*; without a network, copy"):
        read("pets", "train.de")
    with pytest.raises(UserError, match=r"no dataset is called 'pet'; choose one of .*cmudict, .*pets, "):
        get("pet")


def test_a_package_that_is_not_installed_names_the_extra(place, monkeypatch):
    monkeypatch.setitem(SOURCES, "odd", Source("", files={"x": ""}, package="qkv-no-such-package", extra="demo"))
    with pytest.raises(UserError, match=r"no package qkv-no-such-package is installed; pip install 'qkv\[demo\]'"):
        get("odd")


def test_every_address_is_pinned():
    """By what it holds; and on GitHub an abbreviated commit is not sure to be found."""
    for name, source in SOURCES.items():
        assert not source.base or re.match(r"https://[^/]+/[^/]+/[^/]+/([0-9a-f]{40}|master)/", source.base), name
        assert not (source.base and source.package), name
        assert source.package or all(len(digest) == 64 for digest in source.files.values()), name


def test_what_has_no_address_says_so(place, monkeypatch):
    monkeypatch.setitem(SOURCES, "ours", Source("Rows, split by us", files={"train.de": DIGEST}))
    with pytest.raises(UserError, match=r"neither in .* no address has these files: Rows, split by us; copy them"):
        read("ours", "train.de")
    with pytest.raises(UserError, match="no address"):
        get("ours")
    (place / "served" / "ours").mkdir()
    (place / "served" / "ours" / "train.de").write_bytes(TEXT.encode())
    get("ours", f"file://{place}/served")
    assert read("ours", "train.de") == TEXT


def test_xz_is_read_too(place, monkeypatch):
    own = place / "own" / "pets"
    own.mkdir(parents=True)
    (own / "train.de.xz").write_bytes(lzma.compress(TEXT.encode()))
    monkeypatch.setenv("QKV_DATA", str(place / "own"))
    assert read("pets", "train.de") == TEXT
    (own / "train.de.xz").write_bytes(lzma.compress(TEXT.encode())[:-3])
    with pytest.raises(UserError, match="damaged xz file"):
        read("pets", "train.de")
