"""The pages in a real browser: filters, search, languages, keys, runs, looking inside, a site on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qkv.serving.build import build
from qkv.serving.content import Library

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


class Page:
    """A browser on our site, with as many words as the tests need."""

    def __init__(self, driver: Any, root: str):
        self.driver, self.root = driver, root

    def open(self, path: str) -> None:
        """A page; its scripts have run when this returns."""
        self.driver.get("about:blank")  # so that another #fragment is another page
        self.driver.get(f"{self.root}/{path}")
        self.until(lambda: self.js("return document.readyState === 'complete'"))

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def shown(self, selector: str) -> list[Any]:
        return [e for e in self.driver.find_elements("css selector", selector) if e.is_displayed()]

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def click(self, selector: str) -> None:
        element = self.one(selector)
        self.js("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def press(self, keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(keys).perform()

    def choose(self, selector: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(selector)).select_by_value(value)

    def fill(self, selector: str, value: str) -> None:
        field = self.one(selector)
        field.clear()
        field.send_keys(value)

    def until(self, true: Callable[[], Any], seconds: float = 30) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException

        limit = time.monotonic() + seconds
        while True:
            try:
                if found := true():
                    return found
            except StaleElementReferenceException:
                pass
            assert time.monotonic() < limit, f"waited {seconds} s; the page says: {self.text('main')[-600:]}"
            time.sleep(0.05)

    def address(self) -> str:
        return str(self.driver.current_url).removeprefix(self.root)


@pytest.fixture
def page(chromium: Any, site: str) -> Iterator[Page]:
    """A page of the served lab; at the end nothing may stand in the console."""
    chromium.get_log("browser")
    opened = Page(chromium, site)
    yield opened
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    errors = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, errors


def rows(page: Page) -> list[str]:
    return [row.get_attribute("id") for row in page.shown(".list li")]


def test_filters_narrow_the_index_and_stay_in_the_address(page: Page) -> None:
    page.open("en/index.html")
    assert rows(page) == ["a1", "a69", "a70", "a71", "b9"]
    page.choose("[data-filter=status]", "open")
    page.choose("[data-filter=list]", "A")
    page.until(lambda: rows(page) == ["a1", "a70", "a71"])
    page.choose("[data-filter=premise]", "wrong")
    page.until(lambda: rows(page) == ["a1"])
    assert page.text("#count") == "1 of 5 questions" and "premise=wrong" in page.address()
    page.choose("[data-filter=category]", "数理")
    page.until(lambda: rows(page) == [])
    assert page.shown("#nothing")
    page.click("#clear")
    page.until(lambda: len(rows(page)) == 5)
    page.open("en/index.html#depth=L2")
    page.until(lambda: rows(page) == ["a69"])
    page.click(".language")
    page.until(lambda: page.address() == "/zh/index.html#depth=L2")
    page.until(lambda: rows(page) == ["a69"])


def test_the_search_reads_titles_and_prose_of_both_languages(page: Page) -> None:
    page.open("en/index.html")
    page.press("/")
    page.press("独角兽")  # it stands in the Chinese prose only
    page.until(lambda: rows(page) == ["a69"])
    assert page.text(".hit mark") == "独角兽"
    page.fill("#search", "euclid elements")
    page.until(lambda: rows(page) == ["a69", "b9"])
    page.fill("#search", "a70")
    page.until(lambda: rows(page) == ["a70"])
    page.fill("#search", "(no+such*word")
    page.until(lambda: rows(page) == [])
    page.press("\ue00c")  # Escape
    page.until(lambda: len(rows(page)) == 5)


def test_keys_move_between_questions_and_languages(page: Page) -> None:
    page.open("en/index.html")
    page.press("jj")
    assert page.js("return document.activeElement.parentNode.id") == "a69"
    page.press("\ue007")  # Enter
    page.until(lambda: page.address() == "/en/a69.html")
    page.press("j")
    page.until(lambda: page.address() == "/en/a70.html")
    page.press("\ue012")  # left
    page.until(lambda: page.address() == "/en/a69.html")
    page.press("?")
    page.until(lambda: page.shown("#help"))
    page.press("\ue00c")
    page.until(lambda: not page.shown("#help"))
    page.press("l")
    page.until(lambda: page.address() == "/zh/a69.html")
    page.press("/")
    page.until(lambda: page.js("return document.activeElement.id") == "search")
    page.press("j")  # typed, not obeyed
    assert page.one("#search").get_attribute("value") == "j"


def test_the_other_language_opens_at_the_same_place(page: Page) -> None:
    page.open("en/a69.html")
    page.js(
        "const box = document.querySelector('#limits').getBoundingClientRect(); scrollTo(0, box.top + box.height / 2)"
    )
    middle = "const box = document.querySelector('#limits').getBoundingClientRect(); return (80 - box.top) / box.height"
    before = page.js(middle)
    page.js("document.querySelector('.language').click()")
    page.until(lambda: page.address().startswith("/zh/a69.html"))
    page.until(lambda: page.address() == "/zh/a69.html")  # the place is read and put away
    assert 0.3 < before < 0.7 and page.js(middle) == pytest.approx(before, abs=0.05)


def test_light_and_dark_are_remembered(page: Page) -> None:
    page.open("en/index.html")
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    ground = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.js(ground)
    page.click("#theme")
    dark = page.js(ground)
    assert light != dark
    page.open("zh/a69.html")
    assert page.js(ground) == dark
    page.click("#theme")
    assert page.js(ground) == light
    page.js("localStorage.clear()")


def test_a_run_shows_its_progress_and_then_its_result(page: Page) -> None:
    page.open("en/a69.html")
    page.until(lambda: page.shown(".vega-embed svg"), 60)
    page.click(".again summary")
    page.fill("[name=n]", "64")
    page.fill("[name=pause]", "2")
    page.click(".again [type=submit]")
    page.until(lambda: page.shown(".progress"))
    page.until(lambda: "Running · " in page.text(".again .said"))
    assert 0 < page.js("return document.querySelector('progress').value") <= 1
    page.until(lambda: page.text(".again .said") == "Done.")
    assert "OBSERVATION" in page.text(".result").upper() and "n = 64" in page.text(".result")
    page.until(lambda: page.shown(".result .vega-embed svg"))
    page.click(".again [type=reset]")
    page.click(".again [type=submit]")
    page.until(lambda: page.shown(".result .held"))


def test_a_bad_parameter_is_named_and_a_run_can_be_cancelled(page: Page) -> None:
    page.open("zh/a69.html")
    page.click(".again summary")
    page.fill("[name=n]", "1001")
    page.click(".again [type=submit]")
    page.until(lambda: "n 须在 2 到 1,000 之间" in page.text(".again .said"))
    assert page.one("[name=n]").get_attribute("aria-invalid") == "true"
    page.driver.get_log("browser")  # Chromium tells a refusal as an error of the network
    page.fill("[name=n]", "16")
    page.fill("[name=pause]", "300")
    page.click(".again [type=submit]")
    page.until(lambda: page.shown(".again .cancel"))
    page.until(lambda: "运行中" in page.text(".again .said"))
    page.click(".again .cancel")
    page.until(lambda: page.text(".again .said") == "已取消。")
    assert not page.shown(".again .progress") and page.one(".again [type=submit]").is_enabled()


def test_a_trained_run_is_looked_into(page: Page) -> None:
    page.open("en/inside.html")
    page.choose("[name=run]", "reversal")
    page.fill("[name=text]", "abcd")
    page.click("#look [type=submit]")
    page.until(lambda: page.shown("#map rect"))
    assert [button.text for button in page.shown("#sites button")] == ["Encoder", "Cross", "Decoder"]
    page.click("#sites button:first-child")
    page.until(lambda: len(page.shown("#map rect")) == 25)
    page.click("#all button:nth-of-type(2)")
    page.until(lambda: page.js("return document.querySelector('#head').value") == "1")
    assert "abcd writes" in page.text("#answer") and page.shown("#tree .best")
    page.click("#tree .column:nth-of-type(1)")
    page.until(lambda: page.shown("#candidates table"))
    page.until(lambda: page.shown("#parts button"))
    page.click("#parts button")
    page.until(lambda: "without Encoder layer 0" in page.text("#change"))
    page.fill("[name=text]", "a" * 80)
    page.click("#look [type=submit]")
    page.until(lambda: "64 can be looked into at once" in page.text("#said"))
    page.driver.get_log("browser")
    page.choose("[name=run]", "writer")
    page.fill("[name=text]", "the cat")
    page.click("#look [type=submit]")
    page.until(lambda: [button.text for button in page.shown("#sites button")] == ["Decoder"])


def test_a_site_on_disk_opens_without_a_server(chromium: Any, library: Library, tmp_path: Path) -> None:
    assert build(library, tmp_path / "site") == 13
    chromium.get_log("browser")
    page = Page(chromium, (tmp_path / "site").as_uri())
    page.open("index.html")
    page.until(lambda: page.address().endswith("n/index.html") or page.address().endswith("h/index.html"))
    page.open("en/index.html")
    page.fill("#search", "独角兽")
    page.until(lambda: rows(page) == ["a69"])
    page.click("#a69 a")
    page.until(lambda: page.shown(".vega-embed svg"))
    assert not page.shown(".again form") and "qkv lab" in page.text("p.again")
    page.press("l")
    page.until(lambda: "zh/a69.html" in page.address() and "平方" in page.text("h1"))
    page.press("i")
    page.until(lambda: len(rows(page)) == 5)
    assert not [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]


PAGES = ["en/index.html", "zh/index.html", "en/a69.html", "zh/a69.html", "zh/a70.html", "en/a1.html", "en/inside.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_nothing_serious_stands_in_the_way_of_anybody(page: Page, path: str, scheme: str) -> None:
    from axe_core_python.selenium import Axe

    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.open(path)
    page.js("document.querySelectorAll('details').forEach(box => { box.open = true; })")
    if "inside" in path:
        page.fill("[name=text]", "abc")
        page.click("#look [type=submit]")
        page.until(lambda: page.shown("#parts button"))
        page.click("#parts button")
    found = [v for v in Axe().run(page.driver)["violations"] if v["impact"] in ("serious", "critical")]
    assert not found, [(v["id"], [node["html"][:160] for node in v["nodes"]][:4]) for v in found]


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_scrolls_down_only(page: Page, path: str) -> None:
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    )
    page.open(path)
    page.js("document.querySelectorAll('details').forEach(box => { box.open = true; })")
    wide = page.js("return document.documentElement.scrollWidth") - 360  # innerWidth grows with what sticks out
    assert wide <= 0, f"{wide} pixels beyond a phone's edge"


def test_paper_carries_the_answer_alone(page: Page) -> None:
    page.open("en/a69.html")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.shown("#short") and page.shown(".claims") and page.shown(".drawing svg")
    assert not page.shown(".top") and not page.shown(".again") and not page.shown(".turn")
