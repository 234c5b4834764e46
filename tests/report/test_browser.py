"""The report page in a real browser: no errors, the slider moves pictures, the keyboard suffices, light and dark."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.report.view import ViewJob
from tests.analysis.tables import write_tokens
from tests.model import tiny
from tests.report.conftest import HARMFUL, Made, make
from tests.training.photos import write_photos

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Reader:
    """Opens pages, and remembers whatever went wrong in them or went out of them."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.troubles: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def open(self, path: Path) -> Page:
        """The page of a file, once it is ready."""
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)
        return self.page

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:")):
            self.troubles.append(f"asked for {url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Playwright]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(params=["light", "dark"])
def reader(request: pytest.FixtureRequest, browser: Playwright, tmp_path: Path) -> Iterator[Reader]:
    """A browser with a fresh profile; every test ends with nothing to complain about."""
    context = browser.chromium.launch_persistent_context(
        tmp_path / "profile",
        executable_path=CHROMIUM,
        args=ARGUMENTS,
        viewport={"width": 1280, "height": 900},
        color_scheme=request.param,
    )
    context.set_default_timeout(10_000)
    reader = Reader(context)
    yield reader
    context.close()
    assert reader.troubles == []


def place(page: Page, tile: int = 0) -> float:
    """How far the strip of a tile is moved, in frames."""
    return float(
        page.evaluate(
            """tile => {
                const frame = document.querySelectorAll('.tile .frame')[tile];
                const [a, b] = [frame, frame.firstChild].map(one => one.getBoundingClientRect());
                return (a.left - b.left) / a.width / 1.016;
            }""",
            tile,
        )
    )


def test_sliders_move_the_pictures_and_the_counts(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    assert page.locator(".tile").count() == 9
    slider = page.locator("#budget")
    places = []
    for step in range(3):
        slider.fill(str(step))
        places.append(round(place(page)))
    assert places == [1, 2, 3]  # the original is the first of them
    page.keyboard.press("o")
    assert round(place(page)) == 0
    assert "original" in page.locator(".tile-l1").first.inner_text()
    threshold = page.locator("#thr")
    threshold.focus()
    page.keyboard.press("Home")
    assert page.locator(".column.is-never .column-count").inner_text() == "9"
    assert "9 (100.0 %) never get there" in page.locator("#need-say").inner_text()
    page.keyboard.press("End")
    assert page.locator(".column.is-never .column-count").inner_text() == "0"
    assert page.locator(".column-count").first.inner_text() == "9"
    page.keyboard.press("n")  # as needed: everything is fine with the smallest budget
    assert {round(place(page, tile)) for tile in range(9)} == {1}
    page.locator(".column").nth(1).click()
    assert page.locator(".tile").count() == 0
    assert page.locator("#grid-empty").is_visible()
    page.locator("#all").click()
    page.locator("#query").fill("IMG_1")
    assert page.locator(".tile").count() == 1


def test_the_keyboard_is_enough(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    page.locator("#sort").select_option("name")
    page.locator("#all").evaluate("button => button.focus()")
    first = page.locator(".tile").first
    first.focus()
    page.keyboard.press("ArrowRight")
    second = page.locator(".tile").nth(1)
    assert second.evaluate("tile => tile === document.activeElement")
    assert page.locator(".tile[tabindex='0']").count() == 1
    name = second.get_attribute("title")
    page.keyboard.press("Enter")
    assert page.locator("dialog h2").inner_text() == name
    assert page.locator("dialog .pair img").count() == 2
    assert page.locator("dialog .ladder button").count() == 3
    page.keyboard.press("ArrowUp")
    assert page.locator("dialog .ladder button").nth(2).get_attribute("aria-pressed") == "true"
    assert page.locator("dialog .codes li").count() == 6
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h2").inner_text() != name
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.locator("li:nth-child(3) .tile:focus").wait_for()  # the dialog gives it back a moment later


def test_an_open_image_stays_open_when_the_order_changes(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    page.locator("#sort").select_option("hard")
    page.locator("#budget").fill("0")
    page.locator(".tile").nth(3).click()
    name = page.locator("dialog h2").inner_text()
    for _ in range(2):
        page.keyboard.press("ArrowUp")
        assert page.locator("dialog h2").inner_text() == name
    page.keyboard.press("Escape")
    page.locator(".tile:focus").wait_for()
    assert page.locator(".tile:focus").get_attribute("title") == name
    page.keyboard.press(",")  # sorted anew, and still there
    assert page.locator(".tile:focus").get_attribute("title") == name


def test_light_and_dark(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)

    def light() -> bool:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.split("(")[1].split(",")[0]) > 128

    system = page.evaluate("matchMedia('(prefers-color-scheme: light)').matches")
    assert light() == system
    seen = []
    for _ in range(3):
        page.locator("#theme").click()
        seen.append((page.locator("#theme").inner_text(), light()))
    assert seen == [("Light", True), ("Dark", False), ("Auto", system)]


def test_harmful_names_are_only_names(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    for index in range(9):
        page.locator(".tile").nth(index).click()
        page.keyboard.press("Escape")
    assert page.evaluate("window.hurt") is None
    titles = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.title)")
    assert {name if name.endswith(".png") else f"{name}.png" for name in HARMFUL} <= set(titles)
    assert page.locator("#panels td").first.text_content() == "<b>Art</b>"


def test_links_lead_to_every_section(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    links = page.locator("nav a")
    assert links.all_inner_texts() == ["Needs", "Error", "Images", "Complexity"]
    links.last.click()
    assert page.locator("#panel-complexity").evaluate("one => one.getBoundingClientRect().top < innerHeight")


def test_nothing_is_wider_than_a_phone(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".tile").first.click()
    assert page.locator("dialog").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_empty_tables_have_a_page_too(reader: Reader, tmp_path: Path) -> None:
    table = write_tokens(tmp_path / "tokens.parquet", np.full((3, 3), np.nan), failed=[0, 1, 2])
    page = reader.open(make(ViewJob(table, tmp_path / "none.html", pictures=False)).job.out)
    assert page.locator("#need .empty").is_visible()
    assert page.locator("#grid-empty").is_visible()


def test_stopped_and_silent_tables(reader: Reader, tmp_path: Path) -> None:
    checkpoint, photos = str(tiny.checkpoint(tmp_path)), tmp_path / "photos"
    write_photos(photos, 6)
    made = []
    for name, options in {"stopped": {"stop": 0.5}, "silent": {"losses": False}}.items():
        job = TokenizeJob([str(photos)], tmp_path / f"{name}.parquet", checkpoint, "cpu", **options)  # type: ignore[arg-type]
        for _ in tokenize(job):
            pass
        made.append(make(ViewJob(job.out, tmp_path / f"{name}.html", checkpoint=checkpoint, device="cpu")))
    stopped, silent = made
    assert min(stopped.data["facts"]["thresholds"]) >= 0.5
    assert {image["frames"] for image in stopped.data["images"]} == {2, 4}
    page = reader.open(stopped.job.out)
    page.locator("#budget").fill("2")
    frames = [image["frames"] for image in stopped.data["images"]]
    assert {round(place(page, tile)) for tile in range(6)} == {count - 1 for count in frames}
    page = reader.open(silent.job.out)
    assert page.locator("#need .empty").is_visible()
    assert not page.locator("#curves").is_visible()
    assert page.locator(".tile").count() == 6


def test_two_hundred_images_are_ready_within_a_second(reader: Reader, tmp_path: Path) -> None:
    checkpoint = str(tiny.checkpoint(tmp_path))
    write_photos(tmp_path / "photos", 220)
    for _ in tokenize(TokenizeJob([str(tmp_path / "photos")], tmp_path / "t.parquet", checkpoint, "cpu")):
        pass
    made = make(ViewJob(tmp_path / "t.parquet", tmp_path / "many.html", checkpoint=checkpoint, device="cpu"))
    assert made.viewed.shown == 200
    seconds = []
    for _ in range(4):
        start = time.monotonic()
        page = reader.open(made.job.out)
        seconds.append(time.monotonic() - start)
        assert page.locator(".tile").count() == 200
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)  # others may be at work on this machine
    assert min(seconds) < max(1.0, crowd)
