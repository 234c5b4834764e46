"""The report page in a real browser: pictures, keys, phone, dark, hostile names, and tables of all kinds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from alit_cli.config import ModelConfig
from alit_cli.jobs.tokenize import TokenizeJob, tokenize
from alit_cli.model.checkpoint import Record, write_checkpoint
from alit_cli.model.rollout import Alit
from alit_cli.report.view import ViewJob
from tests.analysis.tables import write_tokens
from tests.model import tiny
from tests.report.conftest import HARMFUL, Made, make
from tests.report.reader import MARKS, PHOTOS, Reader, column_counts, place, shown
from tests.training.photos import write_photos

pytestmark = MARKS


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


def test_pictures_are_decoded_when_they_come_near(reader: Reader, made: Made) -> None:
    page = reader.open(made.job.out)
    page.wait_for_function("document.querySelector('.tile img').naturalWidth > 0")
    for tile in page.locator(".tile").all():
        tile.scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('.tile img')].every(image => image.naturalWidth > 0)")
    assert re.search(r"Pictures are WebP files of quality \d+( to \d+)?, 32 pixels wide\.", page.inner_text("#foot"))


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


def test_the_name_of_a_threshold_does_not_lie_upon_the_curve(reader: Reader, made: Made) -> None:
    """A threshold a little below the end of the curve would put the name right upon that end."""
    page = reader.open(made.job.out, "tsc=l1&sort=name")
    page.locator(".tile").first.click()
    column = page.locator("dialog .scores thead th").all_inner_texts().index("L1")
    loss = float(page.locator("dialog .scores tbody tr").nth(2).locator("th, td").nth(column).inner_text())
    page.keyboard.press("Escape")
    for factor in (0.97, 0.98, 0.99, 1.01):
        page.locator("#thr-number").fill(str(round(factor * loss, 4)))
        page.locator("#thr-number").press("Enter")
        page.locator(".tile").first.click()
        name = page.locator("dialog .threshold-name").bounding_box()
        assert name is not None
        for dot in page.locator("dialog .own-dot").all():
            point = dot.bounding_box()
            assert point is not None
            beside = point["x"] > name["x"] + name["width"] or point["x"] + point["width"] < name["x"]
            over = point["y"] > name["y"] + name["height"] or point["y"] + point["height"] < name["y"]
            assert beside or over, factor
        page.keyboard.press("Escape")


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


def test_two_hundred_images_of_256_pixels_fit_into_a_page(reader: Reader, tmp_path: Path) -> None:
    checkpoint = large_model(tmp_path)
    write_photos(tmp_path / "photos", 204, side=256)
    for _ in tokenize(TokenizeJob([str(tmp_path / "photos")], tmp_path / "t.parquet", checkpoint, "cpu")):
        pass
    made = make(ViewJob((tmp_path / "t.parquet",), tmp_path / "many.html", checkpoints=(checkpoint,), device="cpu"))
    assert made.viewed.shown == 200
    assert made.viewed.size < 15_000_000
    # How soon it is ready is measured by tests/tools/time_of_page.py.
    assert reader.open(made.job.out).locator(".tile").count() == 200
