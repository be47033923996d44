"""`qkv chat`: talk to a run that tracks dialogue state, in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from qkv.tasks.dialogue.session import Scope, Session
    from qkv.tasks.dialogue.state import State

COMMANDS = {
    "/state": "what is known: slots, values, the turns that they come from",
    "/set SLOT VALUE": "set a slot by hand; without VALUE, clear it",
    "/undo": "take back the last turn",
    "/reset": "begin anew",
    "/history": "the conversation as JSON",
    "/help": "these commands",
    "/quit": "end; the same --session goes on here",
}


def chat(
    run: Path = typer.Argument(help="A run folder of the task dialogue_state."),
    session: str = typer.Option("main", "--session", help="Its name in the store; an old one goes on."),
    store: Path | None = typer.Option(None, "--store", help="SQLite file.", show_default="chat.db in the run folder"),
    domain: Path | None = typer.Option(None, "--domain", help="YAML: questions, answers and what can be found."),
    scope: Path | None = typer.Option(
        None, "--scope", help="A run of classify, with a fitted scope or with the label --oos for what is not meant."
    ),
    oos: str = typer.Option("oos", "--oos", help="The label of --scope for what is out of scope."),
    threshold: float = typer.Option(0.5, "--threshold", min=0, max=1, help="Score above which a turn is out of scope."),
    device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or mps."),
) -> None:
    """Talk. The system asks for what is missing, takes corrections, and goes back to what was interrupted.

    Every turn is on the disk before its reply is shown, so a conversation survives whatever happens to the process.
    Without [bold]--scope[/bold] a turn is out of scope if too many of its words were never seen in training.
    """
    from qkv.cli.console import note
    from qkv.cli.opening import opened
    from qkv.errors import UserError
    from qkv.runtime import choose_device, keep_memory
    from qkv.tasks.dialogue.domain import Domain
    from qkv.tasks.dialogue.session import Session
    from qkv.tasks.dialogue.store import Store
    from qkv.tasks.dialogue_state import DialogueState

    keep_memory()
    found = opened(run, choose_device(device))
    task = found.recipe.task
    if not isinstance(task, DialogueState):
        raise UserError(f"{run} tracks no dialogue; train a run of the task dialogue_state: qkv train woz")
    slots = tuple(task.ontology(found.system.tokenizers.labels).values)
    known = Domain.read(domain, slots) if domain else Domain.of_slots(slots)
    scorer = _classified(scope, oos, device) if scope else task.strangeness(found.system)
    path = store or run / "chat.db"
    talk = Session(
        lambda turns: task.track(found.system, [turns])[0], known, Store(path), session, None, scorer, threshold
    )
    if talk.records:
        note(f"{path}: going on with {session}, {len(talk.records)} turns; /help lists commands")
    elif sys.stdin.isatty():
        note(f"{path}: keeps what is said; /help lists commands")
    typer.echo(talk.opening.text)
    for line in lines():
        if line.startswith("/"):
            if line in ("/quit", "/q"):
                return
            command(talk, line)
        elif line:
            typer.echo(talk.say(line).text)


def lines() -> Iterator[str]:
    """What is typed, in a terminal with editing and earlier lines, or comes through a pipe; the end of input ends it.
    Bytes that are no UTF-8 come as replacement characters."""
    reconfigure = getattr(sys.stdin, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):
        import readline  # noqa: F401 (importing it is what changes input)
    while True:
        try:
            yield input("> ").strip()
        except EOFError:
            typer.echo()
            return


def command(talk: Session, line: str) -> None:
    """Obey a command. A mistake in it is told, and the conversation goes on."""
    from qkv.cli.console import complain
    from qkv.errors import UserError

    name, _, rest = line.partition(" ")
    try:
        if name == "/state":
            typer.echo(told(talk.state))
        elif name == "/set":
            typer.echo(talk.edit(*_slot_and_value(talk, rest)).text)
        elif name == "/undo":
            undone = talk.undo()
            typer.echo(
                f"Taken back: {undone.user or undone.kind}\n{talk.opening.text}" if undone else "Nothing was said."
            )
        elif name == "/reset":
            typer.echo(talk.reset().text)
        elif name == "/history":
            typer.echo(json.dumps(talk.store.history(talk.name), ensure_ascii=False, indent=1))
        elif name == "/help":
            typer.echo("\n".join(f"{each:16} {what}" for each, what in COMMANDS.items()))
        else:
            raise UserError(f"no command {name}; there are {', '.join(c.split()[0] for c in COMMANDS)}")
    except UserError as error:
        complain(str(error))


def _slot_and_value(talk: Session, text: str) -> tuple[str, str]:
    """`price range cheap` -> ("price range", "cheap"): the longest slot that the text begins with."""
    slots = [s for s in talk.domain.slots if (text.strip() + " ").startswith(s + " ")]
    slot = max(slots, key=len, default=text.split()[0] if text.split() else "")
    return slot, text.strip()[len(slot) :].strip()


def told(state: State) -> str:
    """The state in lines, the topic that is talked of first."""
    from qkv.tasks.dialogue.domain import short

    rows = []
    for frame in state.frames:
        if frame.topic:
            rows.append(f"{frame.topic}{' (finished)' if frame in state.finished else ''}:")
        for slot, filled in frame.slots.items():
            before = f", before: {', '.join(filled.before)}" if filled.before else ""
            rows.append(f"  {short(slot)} = {filled.value}  (turn {filled.turn}, {filled.confidence:.2f}{before})")
        if frame.asked and frame.asked not in frame.slots:
            rows.append(f"  {short(frame.asked)} ?")
    return "\n".join(rows) or "Nothing is known."


def _classified(folder: Path, label: str, device: str) -> Scope:
    """Whether a run of classify has the text out of scope: by the scope that was fitted beside its weights (0 or 1), or
    else the probability of the label."""
    from qkv.cli.opening import opened
    from qkv.data.labelled import Labelled
    from qkv.decoding import Greedy
    from qkv.errors import UserError
    from qkv.runtime import choose_device
    from qkv.tasks.classify import LABEL, Classify
    from qkv.tasks.scope import Scope as Fitted

    found = opened(folder, choose_device(device))
    task = found.recipe.task
    if not isinstance(task, Classify):
        raise UserError(f"--scope: {folder} does not classify texts; train a run of the task classify")
    fitted = Fitted.load(folder)
    if not fitted and label not in found.system.tokenizers.labels[LABEL].names:
        raise UserError(
            f"--scope: {folder} has neither a scope nor the label {label!r}; fit one (qkv scope {folder}), "
            "or name its label for what is not meant: --oos NAME"
        )

    def score(text: str) -> float:
        if fitted:
            return float(not fitted.tell(found.system, task, [Labelled(text)])[0].inside)
        [answer] = task.predict(found.system, [text], Greedy())
        return dict(zip(answer.texts, answer.scores, strict=True)).get(label, 0.0)

    return score
