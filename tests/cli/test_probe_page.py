"""``coldpress probe --report``: the page in a real browser, the picture of it, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

Cli = Callable[..., Any]


@pytest.fixture
def opened(browser: Browser) -> Callable[..., Page]:
    """Opens a file; it may load nothing from elsewhere and must not complain."""

    def open_page(path: Path, **options: Any) -> Page:
        page, complaints = browser.new_page(**options), []
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function("document.querySelectorAll('.plotly-graph-div:not(.js-plotly-plot)').length === 0")
        assert not complaints
        return page

    return open_page


@pytest.fixture(scope="session")
def news(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The texts, and some of them again with other white space."""
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    copies = [{**row, "key": f"copy of {row['key']}", "text": row["text"].replace(" ", "  ")} for row in rows[::5]]
    path = tmp_path_factory.mktemp("news") / "news.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows + copies))
    return path


def test_everything_is_on_the_page_and_nothing_comes_from_elsewhere(
    cli: Cli, news: Path, tmp_path: Path, opened: Callable[..., Page]
) -> None:
    columns = ("--key-column", "key", "--label-column", "label", "--output", "pooled,layer:3")
    cli("embed", news, "--model", "all-MiniLM-L6-v2", "--out", tmp_path / "store", *columns)
    report = tmp_path / "page.html"
    options = ("--output", "all", "--head", "logistic", "--head", "lda", "--curve", "--group", "label")
    done = cli("probe", tmp_path / "store", "--labels", "label", "--out", tmp_path / "head", *options,
               "--test-size", 0.5, "--report", report, "--json")  # fmt: skip
    assert done.code == 0, done.err
    page = opened(report)
    titles = page.locator("h2").all_inner_texts()
    assert titles == [
        "Before you trust it",
        "Learning curve",
        "Features and heads compared",
        "Logistic regression: C",
        "Linear discriminants: shrinkage",
        "Confusion matrix",
        "Each class",
        "Calibration",
        "Within groups",
        "Most confident mistakes",
        "Embedding map",
        "Near duplicates across the split",
        "How it was made",
    ]
    drawn = page.locator(".js-plotly-plot").evaluate_all(
        "plots => plots.map(plot => plot.querySelectorAll(':is(.scatterlayer, .heatmaplayer) *').length)"
    )
    assert len(drawn) == 8
    assert min(drawn) > 0, "a figure is empty"
    assert json.loads(page.locator("#numbers").text_content() or "") == done.json
    assert f"{done.json['evaluation']['accuracy']:.1%}" in page.locator(".numbers").inner_text()

    originals = {row["key"]: row["text"] for row in map(json.loads, news.read_text().splitlines())}
    worst = done.json["examination"]["mistakes"][0]
    shown = page.locator("section", has_text="Most confident mistakes").locator("tbody tr").first.inner_text()
    assert " ".join(originals[worst["key"]].split())[:60] in shown
    pair = page.locator("section", has_text="Near duplicates across").locator("tbody tr").first.inner_text().split("\t")
    assert pair[0] == pair[1], "a copy differs in its white space only"

    with page.expect_download() as saving:
        page.get_by_text("Save the numbers as JSON").click()
    assert saving.value.suggested_filename == "page.json"
    assert json.loads(Path(saving.value.path()).read_text()) == done.json


def test_a_page_fits_a_telephone_and_the_dark(
    cli: Cli, store: Path, tmp_path: Path, opened: Callable[..., Page]
) -> None:
    report = tmp_path / "page.html"
    cli("probe", store, "--labels", "label", "--out", tmp_path / "head", "--report", report)
    page = opened(report, viewport={"width": 390, "height": 800}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    text, ground = page.evaluate(
        "[document.querySelector('.js-plotly-plot text'), document.body].map((e, i) => "
        "getComputedStyle(e)[i ? 'backgroundColor' : 'fill'])"
    )
    assert brightness(text) > 200
    assert brightness(ground) < 60


def brightness(colour: str) -> float:
    return float(np.mean([int(value) for value in re.findall(r"\d+", colour)[:3]]))


@pytest.mark.parametrize(
    ("labels", "figures", "titles"),
    [
        ("words", 3, ["Predictions", "Ridge regression: alpha", "Largest errors", "Embedding map", "How it was made"]),
        ("tags", 3, ["Each label", "Logistic regression: C", "Embedding map", "How it was made"]),
    ],
)
def test_numbers_and_several_labels_have_a_page_too(
    cli: Cli, tagged: Path, tmp_path: Path, opened: Callable[..., Page], labels: str, figures: int, titles: list[str]
) -> None:
    report = tmp_path / "page.html"
    command = ("probe", tagged, "--labels", labels, "--out", tmp_path / "head", "--report", report, "--json")
    done = cli(*command, "--task", "regress" if labels == "words" else "multilabel")
    assert done.code == 0, done.err
    page = opened(report)
    found = page.locator("h2").all_inner_texts()
    assert [title for title in found if title in titles] == titles
    assert page.locator(".js-plotly-plot").count() == figures
    assert json.loads(page.locator("#numbers").text_content() or "") == done.json
    if labels == "words":
        evaluation = done.json["evaluation"]
        assert evaluation["errors"][0] in evaluation["sample"]
        assert len(evaluation["sample"]) == evaluation["items"]
        assert evaluation["errors"][0]["key"] in page.content()


def test_mistakes_and_duplicates_of_photos_are_seen(
    cli: Cli, tiny_vit: Path, tmp_path: Path, opened: Callable[..., Page]
) -> None:
    rng = np.random.default_rng(0)
    for label in ("one", "other"):  # noise, so half of the test is wrong
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(20):
            photo = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((96, 72))
            photo.save(tmp_path / "photos" / label / f"{number}.jpg", quality=95)
            photo.save(tmp_path / "photos" / label / f"{number} again.jpg", quality=90)
    cli("embed", tmp_path / "photos", "--model", tiny_vit, "--out", tmp_path / "store", "--precision", "fp32")
    (tmp_path / "photos" / "one" / "3.jpg").unlink()  # originals may be gone
    report = tmp_path / "page.html"
    done = cli("probe", tmp_path / "store", "--labels", "label", "--out", tmp_path / "head", "--report", report,
               "--test-size", 0.5, "--json")  # fmt: skip
    assert done.code == 0, done.err
    page = opened(report)
    sizes = page.locator("figure img").evaluate_all("all => all.map(one => [one.naturalWidth, one.naturalHeight])")
    assert len(sizes) > len(done.json["examination"]["mistakes"])
    assert all(size == [96, 72] for size in sizes)
    captions = page.locator("section", has_text="Most confident mistakes").locator("figcaption").all_inner_texts()
    assert [mistake["key"] in caption for mistake, caption in
            zip(done.json["examination"]["mistakes"], captions, strict=True)]  # fmt: skip


def test_a_picture_of_the_page(cli: Cli, store: Path, tmp_path: Path, browser: Browser) -> None:
    report = tmp_path / "page.png"
    done = cli("probe", store, "--labels", "label", "--out", tmp_path / "head", "--report", report)
    assert done.code == 0, done.err
    with Image.open(report) as picture:
        assert picture.width == 2200
        assert picture.height > 2 * picture.width
        bottom = np.asarray(picture.convert("L"))[-1500:]
    assert (bottom < 100).any(axis=1).sum() > 40, "the end of the page is missing"


@pytest.mark.parametrize(
    ("report", "message"),
    [("page.pdf", "end it in .html or .png"), ("no/such/place/page.html", "make it first"), ("s3://a/b.html", "URL")],
)
def test_what_cannot_be_written_is_said_first(cli: Cli, tmp_path: Path, report: str, message: str) -> None:
    done = cli("probe", "no.store", "--labels", "label", "--out", tmp_path / "head", "--report", report)
    assert done.code == 2
    assert message in " ".join(done.err.replace("│", " ").split())


def test_without_a_browser_there_is_no_picture(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = cli("probe", "no.store", "--labels", "label", "--out", tmp_path / "head", "--report", tmp_path / "a.png")
    assert done.code == 2
    assert "install one, or ask for .html" in " ".join(done.err.replace("│", " ").split())
