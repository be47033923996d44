"""`qkv explain`: what a model attends to, drawn in the terminal or as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from qkv.data.batch import Batch
    from qkv.probe.attention import Picture
    from qkv.tasks.task import System

SITES = ("encoder", "cross", "decoder")


def explain(
    run: Path = typer.Argument(help="A run folder or a Hugging Face folder."),
    text: str = typer.Argument(help="The text to read."),
    html: Path | None = typer.Option(None, "--html", help="Write one self-contained page with every layer and head."),
    layer: int | None = typer.Option(None, "--layer", help="Layer to draw, from 0.", show_default="the last"),
    head: int | None = typer.Option(None, "--head", help="Head to draw, from 0.", show_default="the mean of all"),
    site: str | None = typer.Option(None, "--site", help="encoder, cross or decoder.", show_default="all there are"),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or mps."),
) -> None:
    """Draw attention: encoder, decoder and cross, per layer and head. Rows look, columns are looked at."""
    from qkv.cli.console import note, writing
    from qkv.cli.opening import opened
    from qkv.errors import UserError
    from qkv.runtime import choose_device

    if not text.strip():
        raise UserError("the text is empty; give at least one character that is no space")
    if site is not None and site not in SITES:
        raise UserError(f"--site: no site is called {site!r}; choose one of {', '.join(SITES)}")
    found = opened(run, choose_device(device))
    pictures, answer = _look(found, text)
    chosen = [p for p in pictures if site in (None, p.where)]
    if not chosen:
        raise UserError(f"--site {site}: this model has none; it has {', '.join(p.where for p in pictures)}")
    for picture in chosen:
        _check(picture, layer, head)
    if html is None:
        for picture in chosen:
            _draw(picture, layer, head)
        return
    from qkv.cli.page import page

    with writing(html, typer.get_text_stream("stdout")) as file:
        file.write(page(str(run), text, answer, chosen, layer, head))
    note(f"wrote {html}")


def _look(found: Any, text: str) -> tuple[list[Picture], str]:
    """The pictures of a text, and the model's answer to it where it gives one."""
    from qkv.errors import UserError
    from qkv.models import DecoderOnly, EncoderDecoder
    from qkv.probe.attention import pictures

    system, recipe = found.system, found.recipe
    source, target = system.tokenizers.source, system.tokenizers.target
    if isinstance(system.model, DecoderOnly):
        ids, bound = target.encode(text), system.model.max_length
        if bound is not None and len(ids) > bound:
            raise UserError(f"the text has {len(ids)} tokens, and the model reads {bound}; shorten it")
        return pictures(system.model, ids, target.tokens(ids)), ""
    if not isinstance(system.model, EncoderDecoder):
        batch, answer = _read(found, text)
        ids = batch.ids[0].tolist()
        return pictures(system.model, ids, target.tokens(ids), tokens=batch.tokens), answer
    assert source is not None
    [prediction] = recipe.task.predict(system, [text], recipe.decoding)
    special = system.tokenizers
    # The ids that were written, not those of the answer's letters: a tokenizer may cut the same letters otherwise.
    end = [special.eos] if prediction.finished[0] else []
    read, written = [*source.encode(text), special.source_eos], [special.bos, *prediction.ids[0], *end]
    return pictures(system.model, written, target.tokens(written), read, source.tokens(read)), prediction.text


def _read(found: Any, text: str) -> tuple[Batch, str]:
    """A text as an encoder reads it, a batch of one, and the answer, of a model that gives one. Raises UserError for an
    encoder that has no attention."""
    from qkv.errors import UserError
    from qkv.models import Reader
    from qkv.nn import Attention

    system, task = found.system, found.recipe.task
    if not any(isinstance(module, Attention) for module in system.model.modules()):
        raise UserError(f"{found.folder} has no attention to draw; explain a run of a Transformer")
    batch = _batch(task, system, text)
    if not isinstance(system.model, Reader):
        return batch, ""
    [prediction] = task.predict(system, [text], found.recipe.decoding)
    return batch, prediction.text


def _batch(task: Any, system: System, text: str) -> Batch:
    """What a task has its encoder read of a text: the words of a tagger with their spelling, a dialogue with markers, a
    text with its topics; else the text, or a pair with a tab between."""
    from qkv.data.labelled import Labelled, Tagged
    from qkv.data.readings import Reading
    from qkv.tasks.classify import Classify
    from qkv.tasks.dialogue_state import DialogueState, spoken
    from qkv.tasks.reading import framed, side_by_side
    from qkv.tasks.words import WordTask

    tokenizers, bound = system.tokenizers, system.model.max_length
    first, tab, second = text.partition("\t")
    if isinstance(task, WordTask):
        return task.source([Tagged(task.split(text))], tokenizers, bound=bound).load([0])
    if isinstance(task, DialogueState):
        readings = task.readings([spoken(text)], tokenizers, bound)
    elif isinstance(task, Classify):
        readings = task.readings([Labelled(first, (), second if tab else None)], tokenizers, bound)
    else:
        longest = min(getattr(task, "longest", bound) or 1 << 30, bound or 1 << 30)
        readings = [Reading(*framed(tokenizers, [first], [second if tab else None], longest)[0])]
    return side_by_side(system, readings).load([0])


def _check(picture: Picture, layer: int | None, head: int | None) -> None:
    from qkv.errors import UserError

    layers, heads = picture.weights.shape[:2]
    if layer is not None and not 0 <= layer < layers:
        raise UserError(f"--layer is {layer}, and the {picture.where} has layers 0 to {layers - 1}")
    if head is not None and not 0 <= head < heads:
        raise UserError(f"--head is {head}, and the {picture.where} has heads 0 to {heads - 1}")


def _draw(picture: Picture, layer: int | None, head: int | None) -> None:
    """A heat map of numbers in hundredths; columns that are too wide for the terminal are numbered, with a legend."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    number = picture.weights.shape[0] - 1 if layer is None else layer
    table = picture.weights[number]
    weights = (table.mean(0) if head is None else table[head]).tolist()
    which = "mean of all heads" if head is None else f"head {head}"
    console.print(Text(f"{picture.title} · layer {number}, {which}", style="bold"), soft_wrap=True)
    margin, cell = max(map(len, picture.rows)) + 1, max(3, *map(len, picture.columns)) + 1
    fits = margin + cell * len(picture.columns) <= console.width
    cell = cell if fits else 4
    names = picture.columns if fits else [str(i) for i in range(len(picture.columns))]
    console.print(Text(" " * margin + "".join(f"{name:>{cell}}" for name in names)), soft_wrap=True)
    for label, row in zip(picture.rows, weights, strict=True):
        line = Text(f"{label:>{margin - 1}} ")
        for weight in row:
            line.append(f"{_hundredths(weight):>{cell}}", _ground(weight))
        console.print(line, soft_wrap=True)
    if not fits:
        console.print(Text("  ".join(f"{i} {c}" for i, c in enumerate(picture.columns)), style="dim"))
    console.print()


def _hundredths(weight: float) -> str:
    return str(round(100 * weight)) if weight >= 0.005 else "·"


def _ground(weight: float) -> str:
    """Dark ink on a ground that darkens from white to blue with the weight; light ink on the darker half."""
    red, green, blue = (round(255 - weight * (255 - end)) for end in (8, 69, 148))
    return f"{'#ffffff' if weight > 0.5 else '#202020'} on rgb({red},{green},{blue})"
