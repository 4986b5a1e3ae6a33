"""record.html in a headless browser: no errors, all pictures, no requests, narrow enough for a phone."""

import re
import shutil

import pytest
from helpers import read_json

from delete_tasks.display.terminal import printable
from delete_tasks.report.record.html import render

PICTURES = ("Predictions by class", "Figures of attacks", "t-SNE", "Grad-CAM")  # of one run, in this order
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no headless browser installed ({', '.join(BROWSERS)}); .ci/run installs one")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra 'dev')")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page()
    yield page
    page.close()


SCREENS = {390: 844, 1280: 800}


def contrast(colours: list[str]) -> float:
    """WCAG 2.1's contrast of two CSS colours."""
    parts = [[int(part) / 255 for part in re.findall(r"\d+", colour)[:3]] for colour in colours]
    linear = [[x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in three] for three in parts]
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", SCREENS)
@pytest.mark.parametrize("run", ["recorded", "faced"])
def test_the_first_screen(page, run, width, request):
    """Request, verdict, what was done and bars before and after are on it, for people without their names."""
    folder = request.getfixturevalue(run)
    record = read_json(folder, "record.json")
    page.set_viewport_size({"width": width, "height": SCREENS[width]})
    page.goto((folder / "record.html").as_uri())
    bottom = {}
    for part in ("h1", "#verdict", ".facts dd:nth-of-type(1)", ".facts dd:nth-of-type(2)", ".bars"):
        box = page.locator(part).first.bounding_box()
        bottom[part] = box["y"] + box["height"]
    assert max(bottom.values()) <= SCREENS[width], bottom
    assert record["verdict"]["word"].upper() in page.locator("#verdict").inner_text()
    assert record["request"]["date"] is None or record["request"]["date"] in page.locator(".first").inner_text()
    assert f"{len(record['residue']) - 1} places" in page.locator(".first").inner_text()
    assert len(record["before_after"]) == page.locator(".bar.after").count() > 0


LEVELS = {"green": "✓", "amber": "!", "red": "✕", "grey": "?"}


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_a_word_a_symbol_and_a_colour_of_contrast(page, recorded, level, tmp_path):
    record = read_json(recorded, "record.json")
    record["verdict"]["level"] = level
    (tmp_path / "page.html").write_text(render(record, recorded))
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator(".symbol").inner_text() == LEVELS[level]
    style = "element => ['color', 'backgroundColor'].map(key => getComputedStyle(element)[key])"
    band = page.eval_on_selector("#verdict", style)[1]
    assert contrast(page.eval_on_selector(".symbol", style)) >= 4.5
    for part in (".word", "#verdict p:last-child", "#verdict a"):
        for colour, _ in page.eval_on_selector_all(part, f"elements => elements.map({style})"):
            assert contrast([colour, band]) >= 4.5, part
    for part in (".faint", "figcaption", "summary", ".small"):
        assert contrast([page.eval_on_selector(part, style)[0], "rgb(255, 255, 255)"]) >= 4.5, part


def test_technical_details_are_folded_and_printed(page, recorded):
    page.goto((recorded / "record.html").as_uri())
    seen = [page.locator("details dl").nth(number) for number in range(page.locator("details dl").count())]
    assert len(seen) == 4 and not any(part.is_visible() for part in seen)
    page.emulate_media(media="print")
    assert all(part.is_visible() for part in seen)


@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_in_a_browser(page, recorded, width, tmp_path):
    alone = tmp_path / "elsewhere" / "record.html"  # self-contained: it needs nothing beside it
    alone.parent.mkdir()
    shutil.copy(recorded / "record.html", alone)
    page.set_viewport_size({"width": width, "height": 844})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(alone.as_uri(), wait_until="load")
    assert said == []
    assert {url.split(",")[0] for url in asked if not url.startswith("data:")} == {alone.as_uri()}
    pictures = page.evaluate("Array.from(document.images).map(i => [i.alt, i.complete ? i.naturalWidth : 0])")
    for alternative, part in zip((alt for alt, _ in pictures), PICTURES, strict=True):
        assert part in alternative
    assert min(width for _, width in pictures) > 300
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.inner_text("body")
    for part in ("Erasure record", "REQ-7", "2026-11-02", "Residue", "Limitations", "Technical details"):
        assert part in text
    assert len(page.pdf(format="A4")) > 20_000


def test_the_page_has_no_outside_address(recorded):
    """It has no script and no address, and a policy that forbids both."""
    text = (recorded / "record.html").read_text()
    assert "<script" not in text and "default-src 'none'" in text
    outside = re.sub(r"data:image/[^\"]+", "data:", text)
    assert not re.search(r"(src|href)\s*=\s*\"(?!data:|#)", outside) and "url(" not in outside
    assert "@import" not in outside


def test_values_are_escaped(recorded):
    record = read_json(recorded, "record.json")
    record["request"]["reference"] = "<img src=x onerror=alert(1)>"
    record["models"]["original"]["path"] = "w\udcff\x1b[2J\0/original.pth"
    assert "w\\udcff\\u001b[2J\\u0000/original.pth" in printable(render(record, recorded)).encode().decode()
    assert "<img src=x" not in render(record, recorded) and "&lt;img src=x" in render(record, recorded)
