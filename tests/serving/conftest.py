"""A small lab of five questions, a server that shows it, two trained runs, and a real browser."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from qkv.lab.kit import run as run_experiment
from qkv.lab.questions import Question
from qkv.serving.app import create_app
from qkv.serving.content import Library
from qkv.serving.runs import Limits
from tests.cli.conftest import RECIPE, TEXT_RECIPE, reversals
from tests.serving.experiments import squares

EN = (
    """## In two lines

Squares grow with the scale: $s^2$. A number in mathematics, $n = {squares.n}$, is filled in too.

## Derivation

1. Let $x$ have variance 1. Then

$$\\operatorname{Var}(s x) = s^2 \\operatorname{Var}(x) = s^2$$

2. A table:

| a | b |
|---|---|
| $|x|$ | `{squares.n} $y$` |

## What the run shows

The mean square is {squares.growth:.2f}, with the scale at zero {squares.growth.control:.1e}. <b>Not markup.</b>

## Limits

"""
    + "\n\n".join(f"Paragraph {i} of the limits, long enough to make the page scroll." for i in range(30))
    + """

## What would change our mind

A falling square.

## Sources

Euclid, *Elements*, [book II](https://example.org/ii).

## Next questions

See A70 and B9; an A100 GPU is no question.
"""
)
ZH = (
    """## 两句话回答

平方随尺度
增大：$s^2$。

## 推导

设 $x$ 的方差为 1。

## 运行结果

均方为 {squares.growth:.2f}。

## 局限

"""
    + "\n\n".join(f"局限的第 {i} 段，足以让页面滚动。" for i in range(30))
    + """

## 什么会改变我们的看法

平方变小。

## 出处

欧几里得《几何原本》。

## 接着问

见A70。独角兽。
"""
)


@dataclass(frozen=True)
class Placed(Question):
    """A question whose answers lie in a folder of the tests."""

    folder: str = ""

    def path(self, language: str) -> Path | None:
        path = Path(self.folder) / f"{self.stem}.{language}.md"
        return path if path.exists() else None


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """a69 is answered, b9 in English only, a71's answer is faulty, a1 and a70 are open."""
    folder = tmp_path_factory.mktemp("answers")
    for name, text in {
        "a069.en": EN,
        "a069.zh": ZH,
        "b09.en": EN,
        "a071.en": EN.replace("## Limits", "## Bounds"),
    }.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")

    def question(key: str, en: str, zh: str, **changes: Any) -> Placed:
        values: dict[str, Any] = {"category": ("原理",), "depth": "L1", "premise": "sound", "related": ()}
        values |= {"experiments": ("squares",), **changes}
        return Placed(id=key, en=en, zh=zh, folder=str(folder), **values)

    listed = [
        question("a1", "Open, the premise is wrong", "未答，前提不成立", premise="wrong", experiments=()),
        question(
            "a69", "Why do squares grow with √d_k?", "平方为什么随 √d_k 增大？", category=("原理", "数理"), depth="L2"
        ),
        question("a70", "Open, with an experiment", "未答，有实验", premise="partly", related=("a69",)),
        question("a71", "Faulty", "有误"),
        question("b9", "Half answered", "只答了一半", depth="basic", experiments=("squares",)),
    ]
    return Library.of({q.id: q for q in listed}, {"squares": squares}, {"squares": run_experiment(squares)})


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run that has learned to end the strings it reverses, and one of three updates that writes text."""
    from typer.testing import CliRunner

    from qkv.cli import app

    folder = tmp_path_factory.mktemp("trained")
    (folder / "pairs.tsv").write_text("\n".join(reversals(60, 1)) + "\n")
    (folder / "text.txt").write_text("the cat sat on the mat. " * 60 + "\n")
    found = []
    kinds = (("reversal", RECIPE, "pairs.tsv", 120), ("writer", TEXT_RECIPE, "text.txt", 3))
    for name, recipe, data, steps in kinds:
        files = {"train": str(folder / data), "dev": str(folder / data)}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**recipe, "data": files}))
        out = folder / "runs" / name
        result = CliRunner().invoke(
            app, ["train", str(folder / f"{name}.yaml"), f"training.max_steps={steps}", "--out", str(out)]
        )
        assert result.exit_code == 0, result.output
        found.append(out)
    return found


@pytest.fixture(scope="session")
def site(library: Library, trained: list[Path]) -> Iterator[str]:
    """The address of a lab that is being served, with a run's time and memory tightly bounded."""
    application = create_app(library, trained, Limits(seconds=30, memory=2 << 30))
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


CHROMIUM = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--window-size=1200,900",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless Chromium. Skips where there is none, unless QKV_REQUIRE_BROWSER is set: then its absence fails."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((path for name in names if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "no Chromium" if browser is None else "no chromedriver"
        if os.environ.get("QKV_REQUIRE_BROWSER"):
            pytest.fail(f"{missing} here, and QKV_REQUIRE_BROWSER asks for the browser tests")
        pytest.skip(f"{missing} here; on Debian: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in CHROMIUM:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()
