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


@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_in_a_browser(browser, recorded, width, tmp_path):
    alone = tmp_path / "elsewhere" / "record.html"  # self-contained: it needs nothing beside it
    alone.parent.mkdir()
    shutil.copy(recorded / "record.html", alone)
    page = browser.new_page(viewport={"width": width, "height": 844})
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
    assert all(
        part in text
        for part in ("Erasure record", "REQ-7", "2026-11-02", "Residue", "Limitations", "forgotten classes")
    )
    assert len(page.pdf(format="A4")) > 20_000
    page.close()


def test_the_page_has_no_outside_address(recorded):
    """It has no script and no address, and a policy that forbids both."""
    text = (recorded / "record.html").read_text()
    assert "<script" not in text and "default-src 'none'" in text
    outside = re.sub(r"data:image/[^\"]+", "data:", text)
    assert not re.search(r"(src|href)\s*=\s*\"(?!data:)", outside) and "url(" not in outside
    assert "@import" not in outside


def test_values_are_escaped(recorded):
    record = read_json(recorded, "record.json")
    record["request"]["reference"] = "<img src=x onerror=alert(1)>"
    record["models"]["original"]["path"] = "w\udcff\x1b[2J\0/original.pth"
    assert "w\\udcff\\u001b[2J\\u0000/original.pth" in printable(render(record, recorded)).encode().decode()
    assert "<img src=x" not in render(record, recorded) and "&lt;img src=x" in render(record, recorded)
