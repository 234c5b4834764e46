"""The report page in a real browser: every column as threshold, filter, colour and sort, and the page's address."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from alit_cli.analysis.query.criteria import criterion
from alit_cli.analysis.selection.allocate import parse_objective
from alit_cli.analysis.selection.decide import allocate, decide
from alit_cli.report.view import ViewJob
from tests.analysis.tables import write_equal_views
from tests.report.conftest import CLASSES, Made, make, tables_of
from tests.report.reader import MARKS, PHOTOS, Reader, column_counts, shown

pytestmark = MARKS


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


def test_views_of_one_photograph_do_not_narrow_an_interval(reader: Reader, tmp_path: Path) -> None:
    """Ten equal views of each of 30 photographs say no more than one."""
    said = []
    for table in write_equal_views(tmp_path):
        page = reader.open(make(ViewJob((table,), table.with_suffix(".html"), pictures=False)).job.out, "thr=0.08")
        said.append(re.search(r"difference .* ± .*, 95 %", page.locator("#capacity-say").inner_text()))
    assert said[0]
    assert said[1]
    assert said[0][0] == said[1][0]


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
