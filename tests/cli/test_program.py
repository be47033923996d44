"""The program itself: quick to start, one sentence for a mistake, a traceback on request."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from rich.text import Text

from qkv.cli import app
from qkv.cli.predict import waiting
from qkv.errors import UserError

from .conftest import Invoke


def test_help_does_not_import_torch() -> None:
    program = "import sys, qkv.cli; sys.argv = ['qkv', '--help']\ntry: qkv.cli.main()\nfinally: "
    code = program + "assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "explain" in done.stdout, done.stderr


def test_no_help_is_eaten_as_markup() -> None:
    """What stands in brackets is a style to rich, which shows nothing of one that it does not know."""
    waiting, seen = [typer.main.get_command(app)], 0
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for help in (getattr(option, "help", None) or "" for option in command.params):
            assert Text.from_markup(help).plain == help
            seen += bool(help)
    assert seen > 50


def test_memory_is_kept_before_the_first_tensor_is_made(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("qkv.runtime.keep_memory", "qkv.cli.opening.opened", "qkv.tasks.train.train"):
        monkeypatch.setattr(name, lambda *_, name=name, **__: calls.append(name.rpartition(".")[2]))
    assert invoke("train", "demo", "--init", "some/run").exit_code == 0
    assert calls == ["keep_memory", "opened", "train"]


def test_version_and_no_command(invoke: Invoke) -> None:
    assert invoke("--version").stdout.startswith("qkv ")
    assert "Commands" in invoke().output


def test_debug_shows_the_traceback_wherever_it_stands(invoke: Invoke) -> None:
    for arguments in (["--debug", "train", "nothing"], ["train", "nothing", "--debug"]):
        result = invoke(*arguments)
        assert isinstance(result.exception, UserError) and "no recipe is called" in str(result.exception)
    assert isinstance(invoke("train", "nothing").exception, SystemExit)


def test_waiting_gives_a_slow_writer_each_item_and_a_fast_one_batches() -> None:
    answered = threading.Event()

    def slow() -> Iterator[int]:
        yield 1
        assert answered.wait(5), "the first item was not handed on before the second was there"
        yield 2

    seen = []
    for batch in waiting(slow(), 10):
        seen.append(batch)
        answered.set()
    assert seen == [[1], [2]]

    batches = []
    for batch in waiting(range(10), 4):
        batches.append(batch)
        time.sleep(0.05)
    assert [x for batch in batches for x in batch] == list(range(10)) and max(map(len, batches)) == 4


def test_waiting_gives_an_error_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise UserError("line 2")

    stream, seen = waiting(broken(), 10), []
    with pytest.raises(UserError, match="line 2"):
        for batch in stream:
            seen += batch
    assert seen == [1]


def test_a_tokenizer_is_trained_from_the_command_line(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("Der Hund läuft durch das grüne Gras.\n狗在草地上跑。\n" * 20)
    for kind in ("characters", "words", "bpe", "byte_bpe", "word_piece", "unigram"):
        out = tmp_path / f"{kind}.json"
        size = [] if kind in ("characters", "words") else ["--vocab-size", 300]
        result = invoke("data", "tokenizer", tmp_path / "t.txt", "--kind", kind, *size, "--out", out)
        assert result.exit_code == 0, result.output
        assert "characters per token" in result.stdout and "unknown              0.00 %" in result.stdout
        assert out.exists()


def test_data_list_and_show(invoke: Invoke, toy: Path) -> None:
    assert "multi30k" in invoke("data", "list").stdout
    shown = invoke("data", "show", toy / "dev.tsv", "--limit", 2)
    assert len(shown.stdout.splitlines()) == 2 and "40 rows" in shown.stderr


@pytest.mark.parametrize(
    ("name", "content"), [("d.jsonl", '{"text": "so it goes"}\n'), ("d.tsv", "text\nso it goes\n")]
)
def test_documents_are_shown_as_they_are(invoke: Invoke, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    shown = invoke("data", "show", tmp_path / name)
    assert shown.stdout == "so it goes\n" and "1 rows" in shown.stderr
