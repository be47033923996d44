"""Every page over HTTP: what is answered, what is not, and who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from qkv.serving import drawing, render
from qkv.serving.app import create_app
from qkv.serving.content import LANGUAGES, Library

HOST = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(library: Library) -> Iterator[TestClient]:
    with TestClient(create_app(library), base_url=HOST) as opened:
        yield opened


def test_the_index_lists_every_question_with_its_status(client: TestClient) -> None:
    page = client.get("/en/index.html").text
    assert (
        'id="a69" data-list="A" data-category="原理|数理" data-depth="L2" data-premise="sound" data-status="answered"'
        in page
    )
    assert page.count('data-status="open"') == 4 and "5 questions" in page and "1 are answered" in page
    assert "√d<sub>k</sub>" in page and "Mathematics" in page
    chinese = client.get("/zh/index.html").text
    assert "平方为什么随" in chinese and "尚未回答" in chinese and '<html lang="zh-CN">' in chinese


def test_an_answered_question_has_all_its_parts_in_order(client: TestClient) -> None:
    page = client.get("/en/a69.html").text
    ids = ["short", "derivation", "run", "squares", "limits", "doubt", "sources", "next", "related"]
    places = [page.index(f'id="{part}"') for part in ids]
    assert places == sorted(places)
    for part in ("<math", "held", "scaled by zero", "&gt; 0.5", "<svg ", 'class="spec"'):
        assert part in page
    assert "&lt;b&gt;Not markup" in page and 'href="a70.html" title="Open, with an experiment">A70</a>' in page
    assert (
        'href="../zh/a69.html"' in page and 'rel="prev" href="a1.html"' in page and 'rel="next" href="a70.html"' in page
    )
    assert 'name="n" type="text" inputmode="numeric" value="16"' in page and "2 to 1,000" in page
    assert "成立" in client.get("/zh/a69.html").text


def test_open_faulty_and_half_answered_questions_say_so(client: TestClient) -> None:
    assert "has not been answered yet" in client.get("/en/a1.html").text
    opened = client.get("/zh/a70.html").text
    assert "尚未回答" in opened and "重新运行" in opened
    assert (
        "cannot be shown" in client.get("/en/a71.html").text
        and "it has no section limits" in client.get("/en/a71.html").text
    )
    assert "In two lines" in client.get("/en/b9.html").text
    assert "目前只有英文回答" in client.get("/zh/b9.html").text


def test_an_experiment_without_evidence_shows_dashes(library: Library) -> None:
    bare = Library(library.entries, library.experiments, {})
    page = render.question(bare, "a69", "en")
    assert "The mean square is –" in page and "no run of this experiment is on record" in page.lower()


def test_evidence_older_than_the_code_says_so(library: Library) -> None:
    from dataclasses import replace

    old = replace(library.evidence["squares"], digest="0")
    page = render.question(Library(library.entries, library.experiments, {"squares": old}), "a69", "en")
    assert "the experiment has changed since" in page


def test_claims_away_from_the_defaults_are_observations(library: Library) -> None:
    evidence = library.evidence["squares"]
    asserted, observed = render.result(evidence, True, "en"), render.result(evidence, False, "en")
    assert "held" in asserted and "observation" not in asserted
    assert "observation" in observed and 'class="held"' not in observed
    assert "仅为观察" in render.result(evidence, False, "zh")


def test_the_front_goes_to_the_reader_s_language(client: TestClient) -> None:
    for accepted, language in (("zh-CN,en;q=0.5", "zh"), ("de", "en")):
        reply = client.get("/", headers={"accept-language": accepted}, follow_redirects=False)
        assert reply.headers["location"] == f"/{language}/index.html"


@pytest.mark.parametrize("path", ["/en/a999.html", "/fr/a69.html", "/zh/x.html"])
def test_there_are_no_other_pages(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 404 and "qkv" in reply.text


def test_assets_are_ours_and_small(client: TestClient) -> None:
    assert "vegaEmbed" in client.get("/assets/vega.js").text
    assert '"A69"' in client.get("/assets/search.js").text and "独角兽" in client.get("/assets/search.js").text
    page = client.get("/en/a69.html").text
    assert "http://" not in page.replace("http://www.w3.org", "") and "cdn" not in page
    size = sum(path.stat().st_size for path in render.STATIC.iterdir())
    question = sum((render.STATIC / name).stat().st_size for name in ("lab.css", "lab.js", "run.js"))
    assert question < 30_000, f"a question's page loads {question:,} bytes of our own"
    assert size < 40_000, f"{size:,} bytes in all"


def test_only_pages_of_the_lab_may_talk_to_it(client: TestClient) -> None:
    assert client.get("/en/index.html", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/en/index.html", headers={"host": "localhost:8133"}).status_code == 200
    wish = {"experiment": "squares"}
    assert client.post("/api/runs", json=wish, headers={"origin": "http://evil.example"}).status_code == 403
    assert client.post("/api/runs", data=wish).status_code == 422  # a form of another page cannot send JSON
    policy = client.get("/en/index.html").headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy


def test_every_question_of_the_lab_renders_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real lists with whatever answers and evidence there are; figures are left out, they take long."""
    monkeypatch.setattr(drawing, "svg", lambda figure, language: "<svg></svg>")
    library = Library.load()
    assert len(library.entries) == 133
    for key, entry in library.entries.items():
        for language in LANGUAGES:
            page = render.question(library, key, language, live=True)
            assert entry.question.label in page and page.count("<h1>") == 1
            assert "\ue000" not in page


def test_the_lab_s_files_are_in_the_package() -> None:
    folder = Path(render.__file__).parent
    assert {p.name for p in (folder / "templates").iterdir()} >= {"base.html", "index.html", "question.html"}
