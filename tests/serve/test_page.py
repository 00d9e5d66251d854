"""The page in a real browser: what a visitor does, with the mouse, the keyboard and files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from coldpress.serve import new_key

REFUSED = "Failed to load resource"
DROP = """bytes => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "a.png"));
  dispatchEvent(new DragEvent("drop", { dataTransfer: data }));
}"""
COLOURS = """canvas => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""
FOCUSED = "(({ id, name, textContent }) => id || name || textContent)(document.activeElement)"


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A page of a server; it may load nothing from elsewhere and must not complain."""
    pages: list[tuple[Page, list[str]]] = []

    def open_page(server: Any, path: str = "/", **options: Any) -> Page:
        page, complaints = browser.new_page(**options), []
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith((server.url, "blob:")) else None)
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" and REFUSED not in m.text else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        pages.append((page, complaints))
        page.goto(server.url + path)
        return page

    yield open_page
    for page, complaints in pages:
        page.close()
        assert not complaints


def keys(page: Page) -> list[str]:
    return page.locator(".hit").evaluate_all("hits => hits.map(hit => hit.dataset.key)")


def ask(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(f"12 nearest to “{text}”")


def test_a_text_is_searched_narrowed_and_followed(server: Any, visit: Callable[..., Page]) -> None:
    page = visit(server)
    expect(page.locator("#about")).to_contain_text("300 items, all-MiniLM-L6-v2")
    ask(page, "sort a list of numbers")
    expected = server.client.search("sort a list of numbers", k=12)[0]
    assert keys(page) == [hit.key for hit in expected]
    expect(page.locator(".hit .text").first).to_have_text(expected[0].text or "")
    expect(page.locator("#latency")).to_contain_text("server")
    assert page.locator("#bars rect").count() == 2

    label = expected[0].metadata["label"]
    page.locator("#filters select[name=label]").select_option(label=label)
    expect(page.locator(".hit .known").last).to_contain_text(label)
    narrowed = server.client.search("sort a list of numbers", k=12, where={"label": label})[0]
    expect(page.locator("#status")).to_contain_text(f"{len(narrowed)} nearest")
    assert keys(page) == [hit.key for hit in narrowed]

    page.locator("#filters select[name=label]").select_option("any")
    page.get_by_role("button", name=f"More like {narrowed[0].key}").click()
    expect(page.locator("#status")).to_have_text(f"12 nearest to “{narrowed[0].key}”")
    assert keys(page) == [hit.key for hit in server.client.search(key=narrowed[0].key, k=12)[0]]
    page.locator("#k").select_option("6")
    expect(page.locator(".hit")).to_have_count(6)


def test_an_image_is_chosen_or_dropped_and_results_have_pictures(
    gallery: Any, visit: Callable[..., Page], photos: Path
) -> None:
    page = visit(gallery)
    page.locator("#file").set_input_files(photos / "cold" / "4.png")
    expect(page.locator("#status")).to_have_text("12 nearest to the image “4.png”")
    assert keys(page)[0] == "cold/4.png"
    picture = page.locator(".hit img").first
    assert picture.evaluate("image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [48, 40]

    page.evaluate(DROP, list((photos / "warm" / "7.png").read_bytes()))
    expect(page.locator("#status")).to_have_text("12 nearest to the image “a.png”")
    assert keys(page)[0] == "warm/7.png"
    ask(page, "a b c")  # the other tower
    page.evaluate(DROP, [1, 2, 3])
    expect(page.locator("#status")).to_contain_text("cannot be embedded")


def test_the_map_zooms_moves_and_leads_to_items(server: Any, visit: Callable[..., Page]) -> None:
    page = visit(server)
    expect(page.locator("#map-panel")).to_be_visible()
    expect(page.locator("#legend li").first).to_be_visible()
    canvas = page.locator("#map")
    assert canvas.evaluate(COLOURS) > 10
    seen = [canvas.screenshot()]
    canvas.focus()
    for key in ("+", "ArrowLeft", "-", "0"):
        page.keyboard.press(key)
        seen.append(canvas.screenshot())
    assert all(one != other for one, other in zip(seen[1:-1], seen, strict=False))
    canvas.hover()
    page.mouse.wheel(0, -300)
    assert canvas.screenshot() != seen[-1]
    page.keyboard.press("0")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("12 nearest to “")
    assert canvas.screenshot() != seen[0], "results are ringed"
    before = page.locator("#status").text_content()
    box = canvas.bounding_box()
    assert box is not None
    for dx in range(10, int(box["width"]), 8):  # until there is a point
        page.mouse.move(box["x"] + dx, box["y"] + box["height"] * 0.4)
        if page.locator("#point").text_content() not in (before or ""):
            page.mouse.down()
            page.mouse.up()
            if page.locator("#status").text_content() != before:
                break
    expect(page.locator("#status")).to_have_text(f"12 nearest to “{page.locator('#point').text_content()}”")


def test_the_keyboard_reaches_everything(server: Any, visit: Callable[..., Page]) -> None:
    page = visit(server)
    ask(page, "a file")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    assert reached[:4] == ["k", "Search", "label", "More like this"]
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("12 nearest to")


def test_a_key_is_asked_for_once(
    start: Callable[..., Any], photo_index: Path, photos: Path, tmp_path: Path, visit: Callable[..., Page]
) -> None:
    file = tmp_path / "keys.txt"
    key = new_key(file, "visitor")
    with start("--index", photo_index, "--media", photos, "--api-keys", file) as server:
        page = visit(server)
        page.locator("#key-value").fill(key)
        page.keyboard.press("Enter")
        expect(page.locator("#about")).to_contain_text("12 items")
        ask(page, "a b")
        picture = page.locator(".hit img").first
        expect(picture).to_have_js_property("naturalWidth", 48)
        page.reload()
        expect(page.locator("#about")).to_contain_text("12 items")


def test_the_page_fits_a_telephone_and_the_dark(server: Any, visit: Callable[..., Page]) -> None:
    narrow = {"width": 390, "height": 800}
    page = visit(server, viewport=narrow, color_scheme="dark")
    ask(page, "a lock")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != visit(server, color_scheme="light").evaluate("getComputedStyle(document.body).backgroundColor")


def test_drift_of_the_queries_is_shown(
    start: Callable[..., Any], index: Path, store: Any, visit: Callable[..., Page]
) -> None:
    with start("--index", index, "--drift", store.path, "--drift-window", 20) as server:
        page = visit(server)
        expect(page.locator("#drift-panel")).to_contain_text("0 of 20 queries for a first look")
        for i in range(20):
            server.client.embed(f"{i} {i}")
        end = time.monotonic() + 20
        while not server.client.drift()["text"]["history"]:
            assert time.monotonic() < end
        page.reload()
        expect(page.locator("#drift p.bad")).to_contain_text("Drift: the last 20 queries differ from 300 vectors")
        expect(page.locator("#drift rect.alarm")).to_have_count(1)
        expect(page.get_by_role("img", name="Drift: the last 20 queries")).to_be_visible()


def test_the_api_is_explained(server: Any, visit: Callable[..., Page]) -> None:
    page = visit(server, "/docs")
    expect(page.locator(".route")).to_have_count(14)
    page.locator(".route", has_text="/v1/search").first.click()
    expect(page.get_by_text("/v1/search -H")).to_be_visible()
