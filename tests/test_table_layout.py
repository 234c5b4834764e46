"""Printed tables fit the terminal: no number is folded, no word is split, nothing is left out."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from alit_cli import console
from alit_cli.table_layout import GAP, Bar, Block, Cell, fit_table, format_numbers, wrap_words

BUDGETS = [8, 16, 24, 32, 40, 48, 56, 64]
L1 = [0.114, 0.1, 0.09281, 0.08578, 0.08061, 0.0766, 0.07365, 0.0724]

words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6)
texts = st.lists(words, min_size=1, max_size=3).map(" ".join)
cells: st.SearchStrategy[Cell] = st.one_of(texts, st.integers(0, 10**6), st.floats(allow_nan=True), st.none())


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[Cell]]]:
    columns = draw(st.lists(texts, min_size=1, max_size=12))
    row = st.lists(cells, min_size=len(columns), max_size=len(columns))
    return columns, draw(st.lists(row, min_size=1, max_size=6))


def lines_of(block: Block) -> list[int]:
    """The width of every line that the block is drawn with."""
    widths = []
    for texts in zip(block.columns, *block.rows, strict=True):
        widths.append(max(cell_len(line) for text in texts for line in text.split("\n")))
    return [sum(widths) + GAP * (len(widths) - 1)]


def all_words(texts: Sequence[str]) -> set[str]:
    return {word for text in texts for word in text.split()}


@given(tables(), st.sampled_from([60, 80, 120]))
@settings(max_examples=100, deadline=None)
def test_every_table_fits_and_keeps_every_word_whole(table: tuple[list[str], list[list[Cell]]], width: int) -> None:
    columns, rows = table
    (plain,) = fit_table(columns, rows, None)
    blocks = fit_table(columns, rows, width)
    printed = all_words([text for block in blocks for line in (block.columns, *block.rows) for text in line])
    assert printed == all_words([text for line in (plain.columns, *plain.rows) for text in line])
    numbers = {text for row, line in zip(rows, plain.rows, strict=True) for cell, text in zip(row, line, strict=True)
               if isinstance(cell, int | float)}  # fmt: skip
    shown = {
        line for block in blocks for row in (block.columns, *block.rows) for text in row for line in text.split("\n")
    }
    assert numbers <= shown
    for block in blocks:
        assert max(lines_of(block)) <= width


def test_means_of_eight_budgets_become_one_line_per_budget_where_they_do_not_fit() -> None:
    columns = ["tokens", *map(str, BUDGETS)]
    rows: list[list[Cell]] = [["mean L1", *L1]]
    (wide,) = fit_table(columns, rows, 80)
    assert wide.rows == (("mean L1", "0.1140", "0.1000", "0.0928", "0.0858", "0.0806", "0.0766", "0.0736", "0.0724"),)
    (narrow,) = fit_table(columns, rows, 60)
    assert narrow.columns == ("tokens", "mean L1")
    assert narrow.rows[:2] == (("8", "0.1140"), ("16", "0.1000"))


def test_columns_that_cannot_change_places_are_spread_over_tables_that_repeat_the_first() -> None:
    columns = ["set", *(f"measure{n}" for n in range(12))]
    blocks = fit_table(columns, [[f"row {n}", *[0.25] * 12] for n in range(20)], 60)
    assert len(blocks) > 1
    assert [name for block in blocks for name in block.columns[1:]] == columns[1:]
    assert all(block.rows[7][0] == "row 7" for block in blocks)


def test_rows_that_are_too_wide_for_any_table_are_lists() -> None:
    blocks = fit_table(["image", "sentence"], [["x" * 50, "y" * 40], ["z" * 50, "a b"]], 60)
    assert [block.rows[0] for block in blocks] == [("image", "x" * 50), ("image", "z" * 50)]
    assert not blocks[0].has_heading


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.114, 0.1, 0.09281], ["0.1140", "0.1000", "0.0928"]),
        ([17.1, 17.125, float("nan")], ["17.10", "17.12", "–"]),
        ([0.08, 0.1], ["0.08", "0.10"]),
        ([53.0], ["53"]),
        ([0.001, 1234.5], ["0.001000", "1234"]),
        ([120000.0, 1.0], ["120000", "1.000"]),
        ([-0.00001, 0.5], ["-1.000e-05", "0.5000"]),
        ([float("inf"), 0.0], ["inf", "0"]),
        ([], []),
    ],
)
def test_numbers_of_a_line_have_one_precision(values: list[float], texts: list[str]) -> None:
    assert format_numbers(values) == texts


@pytest.mark.parametrize("width", [40, 60, None])
def test_bars_take_the_room_that_is_left(width: int | None) -> None:
    (block,) = fit_table(["tokens", "images", ""], [[32, 7, Bar(1.0)], [64, 3, Bar(0.5)]], width)
    bars = [row[2] for row in block.rows]
    assert len(bars[0]) == (24 if width == 40 else 40)
    assert len(bars[1]) == len(bars[0]) // 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_is_printed_on_a_terminal_has_the_right_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "terminal_width", lambda _stream: width)
    console.show_table("A title of several words, " * 6, ["tokens", *map(str, BUDGETS)], [["mean L1", *L1]])
    console.show("The best threshold is 0.1312 for all images, 0.2 … 0.3. " * 5)
    printed = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= width
    for number in format_numbers(L1):
        assert re.search(rf"(?<!\S){re.escape(number)}(?!\S)", printed)


def test_a_page_of_a_table_that_is_not_there_is_no_next_step(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`alit analyze attention` takes images, and can only suppose that their tokens are in tokens.parquet."""
    console.say_page([Path("tokens.parquet")], Path("study/attention"))
    assert capsys.readouterr().err == ""
    Path("tokens.parquet").touch()
    console.say_page([Path("tokens.parquet")], Path("study/attention"))
    assert capsys.readouterr().err == "Next: alit view tokens.parquet\n"


def test_the_next_commands_can_be_copied_from_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = ("alit view tokens.parquet", "alit select tokens.parquet --thr 0.08")
    for width, printed in ((60, "Next:\n  {}\n  {}\n"), (80, "Next: {} · {}\n"), (None, "Next: {} · {}\n")):
        monkeypatch.setattr(console, "terminal_width", lambda _stream, width=width: width)
        console.say_next(*commands)
        assert capsys.readouterr().err == printed.format(*commands)


def test_remarks_wrap_between_words() -> None:
    text = "relative to the image's contrast, an equal-bit thumbnail"
    assert wrap_words(text, 25) == ["relative to the image's", "contrast, an equal-bit", "thumbnail"]
    assert wrap_words(text, None) == [text]
