"""The web application: pages, runs with streamed progress, and trained runs looked into."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel

from qkv.errors import UserError
from qkv.lab.evidence import Text
from qkv.serving import drawing, forms, render
from qkv.serving.content import LANGUAGES, Library
from qkv.serving.guard import guard
from qkv.serving.inside import Inside
from qkv.serving.runs import Full, Limits, Run, Runs

POLL = 0.1
"""Seconds between two looks at a run whose events are streamed."""


class Wish(BaseModel):
    """What a page asks to run: values as they stand in the form."""

    experiment: str
    params: dict[str, Any] = {}
    seed: Any = 0
    language: str = "en"


def create_app(
    library: Library, folders: Sequence[Path] = (), limits: Limits | None = None, host: str = "127.0.0.1"
) -> FastAPI:
    """The lab on a library. folders: trained runs to look into. host: where it will listen, for the guard."""
    runs, inside = Runs(limits), Inside(folders)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        runs.close()

    app = FastAPI(title="qkv lab", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.runs = runs
    app.middleware("http")(guard(host))
    _pages(app, library, inside)
    _running(app, library, runs)
    _looking(app, inside)
    app.mount("/assets", StaticFiles(directory=render.STATIC))
    return app


def _language(request: Request) -> str:
    return "zh" if request.headers.get("accept-language", "").lower().startswith("zh") else "en"


def _pages(app: FastAPI, library: Library, inside: Inside) -> None:
    @app.get("/")
    def front(request: Request) -> Response:
        return RedirectResponse(f"/{_language(request)}/index.html")

    @app.get("/assets/vega.js")
    def vega() -> Response:
        return Response(drawing.script(), media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

    searched = cache(lambda: render.search_index(library))

    @app.get("/assets/search.js")
    def search() -> Response:
        return Response(searched(), media_type="text/javascript")

    @app.get("/{language}/{name}.html")
    def page(request: Request, language: str, name: str) -> Response:
        if language in LANGUAGES and name == "index":
            return HTMLResponse(render.index(library, language, live=True))
        if language in LANGUAGES and name == "inside":
            return HTMLResponse(render.inside(inside.listed(), language))
        if language in LANGUAGES and name in library.entries:
            return HTMLResponse(render.question(library, name, language, live=True))
        return HTMLResponse(render.missing(language if language in LANGUAGES else _language(request)), 404)


def _running(app: FastAPI, library: Library, runs: Runs) -> None:
    def refused(message: str, status: int, field: str = "") -> Response:
        return JSONResponse({"message": message, "field": field}, status)

    @app.post("/api/runs")
    def submit(wish: Wish) -> Response:
        experiment = library.experiments.get(wish.experiment)
        if experiment is None:
            return refused(f"there is no experiment {wish.experiment!r}", 404)
        try:
            params, seed = forms.parameters(experiment, wish.params), forms.seed(wish.seed)
            run = runs.submit(experiment, asdict(params), seed, forms.is_default(experiment, params))
        except forms.Refused as error:
            return refused(error.text.of(wish.language), 422, error.field)
        except Full:
            n = runs.limits.waiting
            full = Text(f"{n} runs wait already; try again later", f"已有 {n} 个运行在排队，请稍后再试")
            return refused(full.of(wish.language), 429)
        return JSONResponse({"id": run.id}, 202)

    @app.get("/api/runs/{key}/events")
    async def events(key: str, language: str = "en") -> Response:
        run = runs.get(key)
        if run is None:
            return refused("there is no such run", 404)
        stream = _events(runs, run, "zh" if language == "zh" else "en")
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    @app.delete("/api/runs/{key}")
    def cancel(key: str) -> Response:
        run = runs.get(key)
        if run is None:
            return refused("there is no such run", 404)
        runs.cancel(run)
        return JSONResponse({"status": run.status})


async def _events(runs: Runs, run: Run, language: str) -> AsyncIterator[str]:
    """A run's events as they come: queued, started, progress, and one of done, failed and cancelled."""

    def event(name: str, **data: Any) -> str:
        return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"

    told: object = None
    started = False
    while not run.ended:
        now = runs.ahead(run) if run.status == "queued" else (run.share, run.text)
        if run.status == "running" and not started:
            started = True
            yield event("started")
        elif now != told and run.status == "queued":
            yield event("queued", ahead=now)
        elif now != told and run.text:
            seconds = time.monotonic() - run.started
            yield event("progress", share=run.share, text=run.text, seconds=round(seconds, 1))
        told = now
        await asyncio.sleep(POLL)
    if run.evidence is not None and run.status == "done":
        html = await asyncio.to_thread(render.result, run.evidence, run.asserted, language)
        yield event("done", html=html, passed=run.evidence.passed)
    elif run.status == "failed":
        yield event("failed", message=run.message.of(language))
    else:
        yield event("cancelled")


def _looking(app: FastAPI, inside: Inside) -> None:
    def answered(look: Any) -> Response:
        try:
            return JSONResponse(look())
        except UserError as error:
            return JSONResponse({"message": str(error)}, 422)

    @app.get("/api/inside/look")
    def look(run: str, text: str, width: int = 4) -> Response:
        return answered(lambda: inside.look(run, text, width))

    @app.get("/api/inside/without")
    def without(run: str, text: str, width: int, step: int) -> Response:
        return answered(lambda: inside.without(run, text, width, step))
