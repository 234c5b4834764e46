"""The report page in a real browser: every column as threshold, filter, colour and sort; keys, phone, dark."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from alit_cli.analysis.query.criteria import criterion
from alit_cli.analysis.query.tables import Tables
from alit_cli.analysis.selection.allocate import parse_objective
from alit_cli.analysis.selection.decide import allocate, decide
from alit_cli.config import ModelConfig
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from alit_cli.report.view import ViewJob
from tests.analysis.tables import write_tokens
from tests.model import tiny
from tests.report.conftest import CLASSES, HARMFUL, Made, make, score, tokenized
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
PHOTOS = 24


class Reader:
    """Opens pages, and remembers whatever went wrong in them or went out of them."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.troubles: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url))

    def open(self, path: Path, address: str = "") -> Page:
        """The page of a file, once it is ready; `address` is what stands behind the #."""
        self.page.goto("about:blank")  # otherwise another # would not load the page again
        self.page.goto(f"{path.as_uri()}#{address}" if address else path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=60_000)
        return self.page

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:", "about:")):
            self.troubles.append(f"asked for {url}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Playwright]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        yield playwright


def opened(browser: Playwright, profile: Path, scheme: Any) -> Iterator[Reader]:
    """A browser with a fresh profile; every test ends with nothing to complain about."""
    context = browser.chromium.launch_persistent_context(
        profile,
        executable_path=CHROMIUM,
        args=ARGUMENTS,
        viewport={"width": 1280, "height": 900},
        color_scheme=scheme,
        accept_downloads=True,
    )
    context.set_default_timeout(20_000)
    reader = Reader(context)
    yield reader
    context.close()
    assert reader.troubles == []


@pytest.fixture
def reader(browser: Playwright, tmp_path: Path) -> Iterator[Reader]:
    yield from opened(browser, tmp_path / "profile", "light")


@pytest.fixture(params=["light", "dark"])
def themed(request: pytest.FixtureRequest, browser: Playwright, tmp_path: Path) -> Iterator[Reader]:
    yield from opened(browser, tmp_path / "profile", request.param)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A page of 24 images in two folders with every kind of score, and a csv of one's own."""
    folder = tmp_path_factory.mktemp("scored")
    table = tokenized(folder, PHOTOS)
    score(table)
    rows = [f"land/img_{row}.png,{row},{'ab'[row % 2]}" for row in range(12)]
    (folder / "mine.csv").write_text("\n".join(["image,stars,letter", *rows]))
    own = (folder / "mine.csv",)
    checkpoint = str(tiny.checkpoint(folder))
    return make(ViewJob((table,), folder / "scored.html", own=own, checkpoints=(checkpoint,), device="cpu"))


def tables_of(made: Made) -> Tables:
    return Tables(made.job.tables[0], made.job.tables[0].parent / "scores", made.job.own)


def column_counts(page: Page) -> list[int]:
    return [int(text) for text in page.locator(".column-count").all_inner_texts()]


def shown(page: Page) -> list[str]:
    """The names of the tiles, in their order."""
    titles: list[str] = page.locator(".tile").evaluate_all("tiles => tiles.map(tile => tile.title)")
    return titles


def place(page: Page, tile: int = 0) -> float:
    """How far the sprite of a tile is moved, in frames."""
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


@pytest.mark.parametrize(
    ("key", "operator", "threshold"),
    [
        ("l1", "<", "0.3"),
        ("psnr", ">=", "19.5"),
        ("class_rank@small", "<=", "5"),
        ("class_rank@large", "<=", "1"),
        ("depth_error", "<", "0.25"),
        ("class_prob@large", ">=", "0.5"),
    ],
)
def test_every_measure_counts_as_a_selection_does(
    key: str, operator: str, threshold: str, reader: Reader, scored: Made
) -> None:
    page = reader.open(scored.job.out)
    page.locator("#tsc").select_option(key)
    assert page.locator("#op").input_value() == operator
    page.locator("#thr-number").fill(threshold)
    page.locator("#thr-number").press("Enter")
    (decision,) = decide(tables_of(scored), [criterion(f"{key}{operator}{threshold}")])
    needs = np.where(decision.satisfied, decision.index, 3)
    assert column_counts(page) == np.bincount(needs, minlength=4).tolist()
    wanted = f"--thr {threshold}" if key == "l1" else f"--tsc '{key}{operator}{threshold}'"
    assert page.locator("#need-line").inner_text().endswith(wanted)


def test_a_number_of_ones_own_is_a_threshold_too(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out, "tsc=stars&op=<&thr=5")
    assert column_counts(page) == [5, 0, 0, PHOTOS - 5]
    assert not page.locator("#need-command").is_visible()
    assert "the same at every budget" in page.locator("#capacity-say").inner_text()


def test_every_column_sorts(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out, "budget=4")
    options = page.locator("#sort option").evaluate_all("all => all.map(option => option.value)")
    kinds = {column["key"]: column["kind"] for column in scored.table["columns"]}
    assert set(options) == {"need", "name", "table", *kinds}
    assert set(kinds.values()) == {"measure", "number", "group", "guess"}
    table = tables_of(scored)
    (chunk,) = table.stream(["psnr", "stars", "label"], ["image"])
    names = chunk.table["image"].to_pylist()
    for key, values in {"psnr": chunk.columns["psnr"][:, 1], "stars": chunk.columns["stars"]}.items():
        page.locator("#sort").select_option(key)
        known = np.flatnonzero(~np.isnan(values))
        expected = [names[row] for row in known[np.argsort(values[known], kind="stable")]]
        assert shown(page)[: len(known)] == expected
        page.locator("#down").click()
        assert shown(page)[0] == expected[-1]
        assert shown(page)[len(known) - 1] == expected[0]  # those without a value come last, whichever way
        page.locator("#down").click()
    page.locator("#sort").select_option("label")
    labels = dict(zip(names, chunk.columns["label"], strict=True))
    order = [labels[name] for name in shown(page)]
    assert order == sorted(order)


def test_every_column_filters(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out, "budget=4")
    page.locator("#filter").select_option("folder")
    page.locator(".filter .word", has_text="sea").click()
    assert {name.split("/")[0] for name in shown(page)} == {"sea"}
    assert sum(column_counts(page)) == PHOTOS // 3
    assert f"Of the {PHOTOS // 3} images that pass" in page.locator("#need-say").inner_text()
    page.locator("#filter").select_option("psnr")
    page.locator(".filter[data-key=psnr] input").first.fill("18")
    page.keyboard.press("Enter")
    (chunk,) = tables_of(scored).stream(["psnr"], ["image"])
    names = np.array(chunk.table["image"].to_pylist())
    assert sorted(shown(page)) == sorted(
        name for name, value in zip(names, chunk.columns["psnr"][:, 1], strict=True) if value >= 18 and "sea" in name
    )
    page.locator(".filter button[aria-label*=folder]").click()
    page.locator(".filter button[aria-label*=PSNR]").click()
    assert len(shown(page)) == PHOTOS
    for kind, key in {"group": "label", "guess": "class_guess@large", "number": "stars"}.items():
        page.locator("#filter").select_option(key)
        if kind == "number":
            page.locator(".filter input").last.fill("3")
            page.keyboard.press("Enter")
            assert len(shown(page)) == 4
        else:
            page.locator(".filter .word").first.click()
            assert 0 < len(shown(page)) < PHOTOS
        page.locator(".filter-head button").click()


def test_every_kind_of_column_colours(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out)
    for column in scored.table["columns"]:
        page.locator("#colour").select_option(column["key"])
        assert page.locator("#legend > span").count() >= 2
        counts = page.locator("#legend small").all_inner_texts()
        parts = page.locator(".column-part").count()
        assert parts >= page.locator(".column-bar.is-parted").evaluate_all(
            "bars => bars.filter(bar => bar.offsetHeight > 2).length"
        )
        assert sum(map(int, counts)) <= PHOTOS
        assert page.locator(".tile-swatch").first.is_visible()
    page.locator("#colour").select_option("label")
    assert set(CLASSES) <= set(page.locator("#legend").inner_text().replace("\n", " ").split(" ")) | {"dog, hound"}
    page.locator("#colour").select_option("")
    assert not page.locator("#legend").is_visible()


def test_the_address_keeps_the_state(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out)
    page.locator("#tsc").select_option("psnr")
    page.locator("#thr-number").fill("18.5")
    page.locator("#thr-number").press("Enter")
    page.locator("#toi").select_option("depth_error")
    page.locator("#budget").fill("0")
    page.locator("#sort").select_option("depth_error")
    page.locator("#down").click()
    page.locator("#colour").select_option("label")
    page.locator("#filter").select_option("label")
    page.locator(".filter .word", has_text="=1+1").click()
    page.locator(".filter .word", has_text="dog, hound").click()
    page.locator("#query").fill("img")
    page.locator("#show label", has_text="Error").click()
    page.locator(".column").nth(3).click()
    before = (shown(page), column_counts(page), page.locator("#capacity-say").inner_text())
    page.wait_for_timeout(500)  # the address is written once the state rests
    address = page.url.partition("#")[2]
    page = reader.open(scored.job.out, address)
    assert (shown(page), column_counts(page), page.locator("#capacity-say").inner_text()) == before
    assert before[0]
    assert page.locator("#query").input_value() == "img"
    assert page.locator("#show input:checked").get_attribute("value") == "error"
    assert page.locator(".column").nth(3).get_attribute("aria-pressed") == "true"
    page.locator(".tile").first.click()
    page.wait_for_timeout(500)
    again = reader.open(scored.job.out, page.url.partition("#")[2])
    assert again.locator("dialog h2").inner_text() == before[0][0]


def test_the_best_allocation_is_that_of_select(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out, "tsc=l1&toi=l1")
    line = page.evaluate("document.querySelector('.line-best').getAttribute('d')")
    assert line.count("L") > 10
    tables = tables_of(scored)
    (chunk,) = tables.stream(["l1"])
    for share in (0.5, 0.75):
        decision = allocate(tables, parse_objective("l1"), share)
        rows = np.arange(len(decision.index))
        mean = float(np.mean(chunk.columns["l1"][rows, decision.index]))
        spent = float(np.mean(np.array(tables.budgets)[decision.index])) / tables.budgets[-1]
        # A uniform budget at the same cost is worse or equal, and the page's sentence reads the line at a threshold.
        limits = page.evaluate(
            """() => {
                const number = (dot, name) => Number(dot.getAttribute(name));
                const dots = [...document.querySelectorAll('.uniform-dot')]
                    .map(dot => [number(dot, 'cx'), number(dot, 'cy')]);
                const points = document.querySelector('.line-best').getAttribute('d').split(/[ML]/).filter(Boolean)
                    .map(text => text.split(' ').map(Number));
                return {dots, points};
            }"""
        )
        dots, points = np.array(limits["dots"]), np.array(limits["points"])
        budgets = np.array(tables.budgets) / tables.budgets[-1]
        x = np.interp(spent, budgets, dots[:, 0])
        means = chunk.columns["l1"].mean(axis=0)
        # Pixels per unit of the axis, from the two ends of the line of one budget for all.
        y = dots[0, 1] + (mean - means[0]) / (means[-1] - means[0]) * (dots[-1, 1] - dots[0, 1])
        assert np.interp(x, points[:, 0], points[:, 1]) == pytest.approx(y, abs=0.6)


def test_a_press_on_a_column_shows_its_images(reader: Reader, scored: Made) -> None:
    for width in (1440, 900, 390):
        page = reader.open(scored.job.out)
        page.set_viewport_size({"width": width, "height": 844})
        counts = column_counts(page)
        fullest = int(np.argmax(counts))
        page.locator(".column").nth(fullest).click()
        assert len(shown(page)) == counts[fullest]
        page.wait_for_timeout(300)
        top = page.locator(".tile").first.evaluate("tile => tile.getBoundingClientRect().top")
        assert 0 < top < 844, width


def test_sliders_move_the_pictures_and_the_counts(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out, "tsc=l1")
    assert page.locator(".tile").count() == 9
    slider = page.locator("#budget")
    places = []
    for step in range(3):
        slider.fill(str(step))
        places.append(round(place(page)))
    assert places == [1, 2, 3]  # the original is the first of them
    page.keyboard.press("o")
    assert round(place(page)) == 0
    page.keyboard.press("o")
    threshold = page.locator("#thr")
    threshold.focus()
    page.keyboard.press("Home")
    assert column_counts(page) == [0, 0, 0, 9]
    assert "9 (100.0 %) never get there" in page.locator("#need-say").inner_text()
    page.keyboard.press("End")
    assert column_counts(page) == [9, 0, 0, 0]
    page.keyboard.press("n")  # as needed: everything is fine with the smallest budget
    assert {round(place(page, tile)) for tile in range(9)} == {1}
    page.locator(".column").nth(1).click()
    assert page.locator(".tile").count() == 0
    assert page.locator("#grid-empty").is_visible()
    page.locator("#all").click()
    page.locator("#query").fill("IMG_1")
    assert page.locator(".tile").count() == 1
    page.locator("#query").press("Enter")
    assert page.locator("dialog h2").inner_text() == "img_1.png"


def test_original_and_error_lie_over_the_reconstruction(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out)
    tile = page.locator(".tile").first
    assert tile.locator("img").count() == 1
    box = tile.locator(".frame").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
    assert tile.locator("img.over").is_visible()
    page.mouse.move(2, 2)
    assert not tile.locator("img.over").is_visible()
    page.keyboard.press("e")
    assert page.locator(".tile img.over").count() == PHOTOS
    assert tile.locator("img.over").evaluate("image => getComputedStyle(image).mixBlendMode") == "difference"
    tile.click()
    assert page.locator("dialog .triple figure").count() == 3
    assert page.locator("dialog .triple .is-error img.over").is_visible()


def test_the_dialog_has_every_score(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out, "sort=table")
    page.locator(".tile").first.click()
    head = page.locator("dialog .scores thead").inner_text()
    assert all(word in head for word in ("L1", "PSNR", "rank", "seen as", "depth error", "large", "small"))
    assert page.locator("dialog .scores tbody tr").count() == 4
    (chunk,) = tables_of(scored).stream(["psnr", "class_guess@large", "class_rank@large"])
    text = page.locator("dialog .scores tbody tr").nth(1).inner_text()
    assert f"{chunk.columns['psnr'][0, 1]:.4g}" in text
    assert chunk.columns["class_guess@large"][0, 1] in text
    assert "label" in page.locator("dialog .detail-facts").inner_text()


def test_the_list_can_be_taken_along(reader: Reader, scored: Made) -> None:
    page = reader.open(scored.job.out, "sort=name")
    page.locator("#query").fill("sea/")
    with page.expect_download() as download:
        page.locator("#download").click()
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("image,need,")
    assert [line.split(",")[0] for line in lines[1:]] == shown(page)


def test_the_keyboard_is_enough(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    page.locator("#sort").select_option("name")
    first = page.locator(".tile").first
    first.focus()
    page.keyboard.press("ArrowRight")
    second = page.locator(".tile").nth(1)
    assert second.evaluate("tile => tile === document.activeElement")
    assert page.locator(".tile[tabindex='0']").count() == 1
    name = second.get_attribute("title")
    page.keyboard.press("Enter")
    assert page.locator("dialog h2").inner_text() == name
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
    page.locator("#sort").select_option("l1")
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


def test_light_and_dark(themed: Reader, made: Made) -> None:
    page = themed.open(made.job.out)

    def light() -> bool:
        colour: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.split("(")[1].split(",")[0]) > 128

    def figure_is_turned() -> bool:
        turned: str = page.locator(".plate img").first.evaluate("image => getComputedStyle(image).filter")
        return turned != "none"

    system = page.evaluate("matchMedia('(prefers-color-scheme: light)').matches")
    assert (light(), figure_is_turned()) == (system, not system)
    seen = []
    for _ in range(3):
        page.locator("#theme").click()
        assert figure_is_turned() != light()
        seen.append((page.locator("#theme").inner_text(), light()))
    assert seen == [("Theme: light", True), ("Theme: dark", False), ("Theme: auto", system)]


def test_harmful_names_are_only_names(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    for index in range(9):
        page.locator(".tile").nth(index).click()
        page.keyboard.press("Escape")
    for control in ("#colour", "#sort"):
        page.locator(control).select_option("label")  # one of its words is an element of HTML
    page.locator("#filter").select_option("class_guess@small")
    assert page.evaluate("window.hurt") is None
    assert page.locator("#legend b, .filter .word b").count() == 0
    assert {name if name.endswith(".png") else f"{name}.png" for name in HARMFUL} <= set(shown(page))
    assert page.locator("#panels td").first.text_content() == "<b>Art</b>"


def test_links_lead_to_every_section(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    links = page.locator("nav a")
    assert links.all_inner_texts() == ["Needs", "Trade-off", "Images", "Complexity"]
    links.last.click()
    assert page.locator("#panel-complexity").evaluate("one => one.getBoundingClientRect().top < innerHeight")


def test_a_phone_has_everything(themed: Reader, scored: Made) -> None:
    page = themed.open(scored.job.out)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".tile:visible").count() == 12  # two screens of them would hide the analyses below
    page.locator("#more").click()
    assert page.locator(".tile:visible").count() == PHOTOS
    page.locator("#query").fill("sea")
    assert len(shown(page)) == PHOTOS // 3
    page.locator("#filter").select_option("label")
    page.locator("#colour").select_option("psnr")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".tile").first.click()
    assert page.locator("dialog").evaluate("one => one.scrollWidth <= one.clientWidth")


def test_empty_tables_have_a_page_too(reader: Reader, tmp_path: Path) -> None:
    table = write_tokens(tmp_path / "tokens.parquet", np.full((3, 3), np.nan), failed=[0, 1, 2])
    page = reader.open(make(ViewJob((table,), tmp_path / "none.html", pictures=False)).job.out)
    assert page.locator("#need .empty").is_visible()
    assert page.locator("#grid-empty").is_visible()


def test_a_switch_leads_to_another_table(reader: Reader, made: Made, tmp_path: Path) -> None:
    other = write_tokens(tmp_path / "other.parquet", np.linspace(0.05, 0.2, 15).reshape(5, 3)[:, ::-1])
    both = make(ViewJob((made.job.tables[0], other), tmp_path / "two.html", pictures=False))
    page = reader.open(both.job.out, "find=1.")
    assert len(shown(page)) == 1
    page.locator("#table").select_option("1")
    page.wait_for_function(
        "document.documentElement.dataset.ready && document.getElementById('name').textContent === 'other.parquet'"
    )
    assert shown(page) == ["1.jpg"]  # what was looked for is still looked for
    assert page.locator("#table").input_value() == "1"


def test_stopped_and_silent_tables(reader: Reader, tmp_path: Path) -> None:
    checkpoint, photos = str(tiny.checkpoint(tmp_path)), tmp_path / "photos"
    write_photos(photos, 6)
    pages = []
    for name, options in {"stopped": {"stop": 0.5}, "silent": {"losses": False}}.items():
        job = TokenizeJob([str(photos)], tmp_path / f"{name}.parquet", checkpoint, "cpu", **options)  # type: ignore[arg-type]
        for _ in tokenize(job):
            pass
        pages.append(make(ViewJob((job.out,), tmp_path / f"{name}.html", checkpoints=(checkpoint,), device="cpu")))
    stopped, silent = pages
    assert stopped.table["start"] >= 0.5
    frames = [picture["frames"] for picture in stopped.table["pictures"]]
    assert set(frames) == {2, 4}
    page = reader.open(stopped.job.out, "sort=table")
    page.locator("#budget").fill("2")
    assert {round(place(page, tile)) for tile in range(6)} == {count - 1 for count in frames}
    assert not page.locator("#capacity").is_visible()
    page = reader.open(silent.job.out)
    assert page.locator("#tsc option[value=psnr]").count() == 0
    assert page.locator(".tile").count() == 6


def large_model(folder: Path) -> str:
    """A random model of 256 px with eight budgets of up to 256 tokens."""
    about = ModelConfig(**{**vars(tiny.config(iterations=8)), "image_size": 256, "tokens_per_iteration": 32})
    path = folder / "large.safetensors"
    write_checkpoint(path, Alit(about).eval(), Record(about, ("base", "distill")))
    return str(path)


def test_two_hundred_images_of_256_pixels_are_ready_within_a_second(reader: Reader, tmp_path: Path) -> None:
    checkpoint = large_model(tmp_path)
    write_photos(tmp_path / "photos", 204, side=256)
    for _ in tokenize(TokenizeJob([str(tmp_path / "photos")], tmp_path / "t.parquet", checkpoint, "cpu")):
        pass
    made = make(ViewJob((tmp_path / "t.parquet",), tmp_path / "many.html", checkpoints=(checkpoint,), device="cpu"))
    assert made.viewed.shown == 200
    assert made.viewed.size < 15_000_000
    seconds = []
    for _ in range(4):
        start = time.monotonic()
        page = reader.open(made.job.out)
        seconds.append(time.monotonic() - start)
        assert page.locator(".tile").count() == 200
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)  # others may be at work on this machine
    assert min(seconds) < max(1.0, crowd)
