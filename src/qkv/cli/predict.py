"""`qkv predict`: answers to texts, in input order, as soon as they are there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from qkv.tasks.task import Prediction

T = TypeVar("T")
BATCH = 128  # texts that are answered together, if so many are waiting


def predict(
    run: Path = typer.Argument(help="A run folder or a Hugging Face folder."),
    texts: list[str] | None = typer.Argument(
        None, metavar="[TEXT|KEY=VALUE]...", help="Texts; decoding settings such as beam.width=8."
    ),
    file: Path | None = typer.Option(
        None, "--file", help="Lines of .txt, or the task's column (source, text, words) of .tsv or .jsonl."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a text."),
    nbest: int = typer.Option(1, "--nbest", help="So many answers a text; what is written needs a beam as wide."),
    output: Path | None = typer.Option(None, "--output", help="Write to a file instead of standard output."),
    max_new: int | None = typer.Option(
        None, "--max-new", min=1, help="Most new tokens.", show_default="the task's rule"
    ),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or mps."),
) -> None:
    """Answer texts given as arguments, in a file, or line by line on standard input."""
    from qkv.cli.console import writing
    from qkv.cli.opening import opened
    from qkv.decoding import prepare
    from qkv.runtime import choose_device, keep_memory
    from qkv.tasks.recipe import with_decoding
    from qkv.tasks.scope import with_scope

    settings = [text for text in texts or () if _is_setting(text)]
    given = [text for text in texts or () if not _is_setting(text)]
    keep_memory()
    found = opened(run, choose_device(device))
    prepare(found.system.model)
    recipe = with_decoding(found.recipe, settings)
    task = with_scope(run, recipe.task)
    chooser, done = _with_nbest(recipe.decoding, nbest, task.ranks), 0
    with writing(output, sys.stdout) as sink:
        for batch in waiting(_inputs(given, file, task.column), BATCH):
            for prediction in task.predict(found.system, batch, chooser, max_new, first=done):
                print(_line(prediction, as_json, nbest, done), file=sink)
                done += 1
            sink.flush()


def _is_setting(text: str) -> bool:
    """Whether an argument is a decoding setting (`beam.width=8`) and not a text."""
    key, equals, _ = text.partition("=")
    return bool(equals) and key.removeprefix("decoding.").split(".")[0] in ("decoding", "greedy", "sample", "beam")


def _with_nbest(chooser: Any, nbest: int, ranked: bool) -> Any:
    """The chooser, told to return so many answers, unless they come `ranked` without it. Raises UserError where it
    cannot have as many."""
    from dataclasses import replace

    from qkv.decoding import Beam, Sample
    from qkv.errors import UserError

    if nbest < 1:
        raise UserError(f"--nbest is {nbest}; give 1 or more")
    if ranked:
        return chooser
    if isinstance(chooser, Beam):
        if nbest > chooser.width:
            raise UserError(f"--nbest {nbest} is more than the beam holds; add beam.width={nbest} or more")
        return replace(chooser, n_best=nbest)
    if isinstance(chooser, Sample):
        return replace(chooser, n=nbest)
    if nbest > 1:
        raise UserError(f"--nbest {nbest} needs a beam; add beam.width={nbest} or more")
    return chooser


def _inputs(texts: list[str], file: Path | None, column: str) -> Iterator[str]:
    from qkv.data import files
    from qkv.errors import UserError

    if texts and file:
        raise UserError("texts are given both as arguments and with --file; choose one")
    if texts:
        for number, text in enumerate(texts, 1):
            if not text.strip():
                raise UserError(f"text {number} is empty; give at least one character that is no space")
        yield from texts
        return
    if file:
        yield from files.inputs(file, column)
        return
    try:
        yield from files.inputs("stdin.txt", column, sys.stdin.buffer)
    except UserError as error:
        raise UserError(str(error).replace("stdin.txt", "standard input")) from error


def waiting(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Lists of whatever items are there by now, at least one and at most `most`: a slow writer is answered line by
    line, a fast one in full batches. An exception of `items` comes after the items before it.
    """
    queue: Queue[tuple[list[T], BaseException | None, bool]] = Queue(4 * most)

    def read() -> None:
        try:
            for item in items:
                queue.put(([item], None, False))
            queue.put(([], None, True))
        except BaseException as error:
            queue.put(([], error, True))

    Thread(target=read, daemon=True).start()
    done = False
    while not done:
        batch: list[T] = []
        failed: BaseException | None = None
        while not done and len(batch) < most and (not batch or not queue.empty()):
            part, failed, done = queue.get()
            batch += part
        if batch:
            yield batch
        if failed is not None:
            raise failed


def _line(prediction: Prediction, as_json: bool, nbest: int, number: int) -> str:
    """One answer as a line, or n as n lines: number of the text, score, answer."""
    if as_json:
        record: dict[str, Any] = {
            "source": prediction.source,
            "prediction": prediction.text,
            "score": prediction.scores[0],
            "finished": prediction.finished[0],
            **prediction.details,
        }
        if nbest > 1:
            rows = list(zip(prediction.texts, prediction.scores, prediction.finished, strict=True))[:nbest]
            record["nbest"] = [{"text": text, "score": score, "finished": end} for text, score, end in rows]
        return json.dumps(record, ensure_ascii=False)
    if nbest == 1:
        return prediction.text
    ranked = list(zip(prediction.texts, prediction.scores, strict=True))[:nbest]
    return "\n".join(f"{number}\t{score:.4f}\t{text}" for text, score in ranked)
