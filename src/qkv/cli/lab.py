"""`qkv lab`: the questions and their answers as a site, served or written."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qkv.cli import verify

if TYPE_CHECKING:
    from qkv.serving.content import Library

app = typer.Typer(no_args_is_help=False, invoke_without_command=True)
app.command("verify")(verify.verify)


@app.callback()
def lab(
    ctx: typer.Context,
    host: str = typer.Option("127.0.0.1", "--host", help="Where to listen; anything but loopback opens it to others."),
    port: int = typer.Option(8133, "--port", min=0, max=65535, help="0: any that is free."),
    run: list[Path] = typer.Option(
        [], "--run", help="A run folder to look into; repeatable.", show_default="all in ./runs"
    ),
    seconds: float = typer.Option(600.0, "--seconds", min=1, help="The longest that one run from a page may take."),
    memory: float = typer.Option(4.0, "--memory", min=0.1, help="GB that one run from a page may take."),
    browser: bool = typer.Option(False, "--browser", help="Open it in the browser."),
) -> None:
    """Open the lab: all questions, their answers and figures, experiments to run again, trained models to look into."""
    if ctx.invoked_subcommand is not None:
        return
    from qkv.cli.console import note

    library = _library()
    import uvicorn

    from qkv.serving.app import create_app
    from qkv.serving.guard import is_loopback
    from qkv.serving.inside import checked, finished
    from qkv.serving.runs import Limits

    folders = checked(run) if run else finished(Path("runs"))
    limits = Limits(seconds=seconds, memory=int(memory * 2**30))
    listening = _listen(host, port)
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{listening.getsockname()[1]}"
    if not is_loopback(host):
        note(f"warning: {host} is not loopback: whoever reaches this machine can run experiments on it")
    note(f"{sum(e.answered for e in library.entries.values())} of {len(library.entries)} questions are answered")
    note(f"the lab is open at {address} (Ctrl-C closes it)")
    if browser:
        typer.launch(address)
    app = create_app(library, folders, limits, host)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


@app.command()
def build(folder: Path = typer.Argument(help="Where the site is written; made if it is not there.")) -> None:
    """Write the lab as static files that open from a disk or any web server."""
    from qkv.cli.console import note

    library = _library()
    from qkv.serving.build import build as write

    count = write(library, folder)
    note(f"wrote {count} pages: open {folder / 'index.html'}")


def _library() -> Library:
    """The lab as installed. Raises UserError where the extra `serve` is missing."""
    from qkv.errors import UserError

    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401

        from qkv.serving import render  # noqa: F401
        from qkv.serving.content import Library
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("qkv"):
            raise
        raise UserError(f"the lab's pages need {missing.name}; install it with: pip install 'qkv[serve]'") from missing
    return Library.load()


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UserError where it cannot."""
    from qkv.errors import UserError

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot listen on {host} port {port}: {reason}; choose another --port or --host") from error
    return listening
