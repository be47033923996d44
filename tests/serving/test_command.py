"""`qkv lab` on the command line: what it serves, writes, warns of and refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from qkv.cli import app
from qkv.serving import content
from qkv.serving.content import Library
from qkv.serving.guard import is_loopback


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, library: Library) -> None:
    monkeypatch.setattr(content.Library, "load", classmethod(lambda cls: library))


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["lab", *map(str, arguments)])


def test_build_writes_a_site_again_and_nowhere_else(tmp_path: Path) -> None:
    for _ in range(2):
        result = invoke("build", tmp_path / "site")
        assert result.exit_code == 0 and "wrote 13 pages" in result.output
    written = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.*")}
    assert {"index.html", "en/a69.html", "zh/index.html", "assets/lab.css", "assets/search.js"} <= written
    assert not any("inside" in name for name in written)
    page = (tmp_path / "site" / "en" / "a69.html").read_text(encoding="utf-8")
    assert "<svg" in page and 'type="submit"' not in page and "inside.html" not in page
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    result = invoke("build", tmp_path / "mine")
    assert result.exit_code == 2 and "is not empty" in result.output
    assert "is a file" in invoke("build", tmp_path / "mine" / "thesis.tex").output


def test_what_cannot_be_served_gets_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = invoke("--port", port)
    assert result.exit_code == 2 and f"cannot listen on 127.0.0.1 port {port}" in result.output
    result = invoke("--run", tmp_path / "none")
    assert result.exit_code == 2 and "no run folder" in result.output
    assert "choose another --port or --host" in invoke("--host", "no.such.host.invalid").output


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_only_an_open_host_is_warned_of(host: str, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    served: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: served.extend(sockets))
    result = invoke("--host", host, "--port", 0)
    served[0].close()
    assert result.exit_code == 0 and f"http://{host}:" in result.output and "1 of 5 questions" in result.output
    assert ("is not loopback" in result.output) is warned is not is_loopback(host)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = invoke()
    assert result.exit_code == 2 and "pip install 'qkv[serve]'" in result.output


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_real_thing_listens_answers_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "qkv", "lab", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "open at" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
        with urllib.request.urlopen(f"{address}/zh/index.html") as reply:
            assert "逐问" in reply.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) in (0, 130)
        assert "Traceback" not in process.stderr.read()
