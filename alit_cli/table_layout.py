"""How a printed table is fitted to the width of a terminal: no number is ever folded and no word is split."""

import math
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = 2
"""Spaces between two columns."""

# More digits than these are hardly ever certain, and fewer would hide differences between neighbouring budgets.
DIGITS = 4
"""Significant digits of a printed number."""

NEEDS_EXPONENT = 1e9
"""From here on, and below its inverse, a number is printed with an exponent."""

MOST_LINES = 3
"""Lines that the text of one cell may be wrapped to before the table takes another form."""

LONGEST_BAR = 40
"""Characters of a bar that stands for a share of 1."""

NUMBER = re.compile(r"[-+−±<>~]*\s*[\d–]")
"""How the text of a cell begins that is a number with its unit or interval, which stay on one line."""


@dataclass(frozen=True)
class Bar:
    """A cell that is drawn as a bar; it is the only kind of cell that may become shorter."""

    share: float

    def text(self, longest: int) -> str:
        """The bar, as long as its share of the longest."""
        return "█" * round(longest * self.share)


Cell = str | int | float | Bar | None


@dataclass(frozen=True)
class Block:
    """A table that fits: headings and cells as they are printed, with line breaks where text was wrapped."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: tuple[bool, ...]
    """Which columns are aligned to the right, as numbers are."""

    @property
    def has_heading(self) -> bool:
        """Whether any column has a heading."""
        return any(self.columns)


def fit_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None) -> list[Block]:
    """Give the table one of four forms, the first that is at most `width` characters wide.

    Text and headings are wrapped at words; then rows and columns change places (one line per budget); then the
    columns are spread over several tables that repeat the first ones; then every row is a list of its own. Without
    a width (None) the table stays as it is. Only a word longer than the width makes a line longer.
    """
    texts = _texts(columns, rows, width)
    right = [all(map(_is_number, (row[index] for row in rows))) for index in range(len(columns))]
    table = Block(tuple(columns), tuple(map(tuple, texts)), tuple(right))
    # A pipe gets one plain line per row, which other programs can split.
    if width is None or not columns:
        return [table]
    if block := _wrapped(table, width):
        return [block]
    # Changing places only helps a table that is wider than it is long.
    if len(rows) < len(columns) and (block := _wrapped(_transposed(table), width)):
        return [block]
    return list(_stacked(table, width))


def format_numbers(values: Sequence[float | None]) -> list[str]:
    """Numbers that stand in one line or column: four significant digits of the largest, equally many decimals.

    Where that would leave fewer than two digits of the smallest, every number has four digits of its own.
    """
    finite = [abs(value) for value in values if value is not None and math.isfinite(value) and value != 0]
    if not finite:
        return [_missing(value) or "0" for value in values]
    decimals = max(0, DIGITS - _digits_before_point(max(finite)))
    too_far_apart = decimals + _digits_before_point(min(finite)) < 2
    if too_far_apart or not 1 / NEEDS_EXPONENT < max(finite) < NEEDS_EXPONENT:
        return [_missing(value) or _alone(value or 0.0) for value in values]
    # Adding 0.0 turns -0.0 into 0.0, which is printed without a minus.
    texts = [_missing(value) or f"{(value or 0.0) + 0.0:.{decimals}f}" for value in values]
    while decimals and all(text.endswith("0") for text in texts if text[-1].isdigit()):
        decimals -= 1  # zeros that all of them end in say nothing
        texts = [text[:-1] if text[-1].isdigit() else text for text in texts]
    return [text.removesuffix(".") for text in texts]


def wrap_words(text: str, width: int | None) -> list[str]:
    """The lines of a text, broken only between words; as they are without a width."""
    if width is None:
        return text.splitlines() or [""]
    lines = []
    for line in text.splitlines() or [""]:
        # A path or a command must stay in one piece, so that it can be copied; so long words may stick out.
        lines += textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
    return lines


def _is_number(cell: Cell) -> bool:
    """Whether a cell belongs to the right of its column."""
    return isinstance(cell, int | float | None) or (isinstance(cell, str) and bool(NUMBER.match(cell)))


def _missing(value: float | None) -> str | None:
    """What stands for a value that is not a finite number; None for one that is."""
    if value is None or math.isnan(value):
        return "–"
    return None if math.isfinite(value) else str(value)


def _digits_before_point(size: float) -> int:
    """1 for 1.5, 2 for 15, 0 for 0.15, -1 for 0.015."""
    return math.floor(math.log10(size)) + 1


def _alone(value: float) -> str:
    size = abs(value)
    # No exponent where a person would write none.
    return f"{value:.0f}" if 10**DIGITS <= size < NEEDS_EXPONENT else f"{value:#.{DIGITS}g}".removesuffix(".")


def _texts(columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: int | None) -> list[list[str]]:
    """Every cell as it is printed.

    Columns that are called like numbers (budgets) continue each other, so their precision is that of the row, with
    that of a last column such as `original`; the precision of any other column is the column's.
    """
    texts = [["" if isinstance(cell, Bar) else "–" if cell is None else str(cell) for cell in row] for row in rows]
    series = [index for index, name in enumerate(columns) if name.isdigit()]
    # A single column behind the budgets, such as `original`, holds the same measure, so it shares their precision.
    if series and series[-1] == len(columns) - 2:
        series.append(len(columns) - 1)
    for row, line in zip(rows, texts, strict=True):
        _format(row, line, series)
    for index in (index for index in range(len(columns)) if index not in series):
        column, lines = [row[index] for row in rows], [line[index] for line in texts]
        _format(column, lines, range(len(rows)))
        for line, text in zip(texts, lines, strict=True):
            line[index] = text
        # Bars take what the other columns leave of the width, because they can be of any length.
        if any(isinstance(cell, Bar) for cell in column):
            others = [name for place, name in enumerate(columns) if place != index]
            taken = sum(_natural(_column(others, _without(texts, index), place)) + GAP for place in range(len(others)))
            longest = LONGEST_BAR if width is None else max(1, min(LONGEST_BAR, width - taken))
            for cell, line in zip(column, texts, strict=True):
                line[index] = cell.text(longest) if isinstance(cell, Bar) else line[index]
    return texts


def _format(cells: Sequence[Cell], texts: list[str], places: Sequence[int]) -> None:
    """Put the floating point numbers at these places into `texts`, all with one precision."""
    numbers = {place: cell for place in places if isinstance(cell := cells[place], float)}
    for place, text in zip(numbers, format_numbers(list(numbers.values())), strict=True):
        texts[place] = text


def _without(rows: Sequence[Sequence[str]], index: int) -> list[list[str]]:
    return [[text for place, text in enumerate(row) if place != index] for row in rows]


def _column(columns: Sequence[str], rows: Sequence[Sequence[str]], index: int) -> list[str]:
    return [columns[index], *(row[index] for row in rows)]


def _pieces(text: str) -> list[str]:
    """The parts of a cell between which a line may be broken."""
    return [text] if NUMBER.match(text) else text.split() or [""]


def _natural(texts: Sequence[str]) -> int:
    return max(map(_cells, texts))


def _narrowest(texts: Sequence[str]) -> int:
    return max(_cells(piece) for text in texts for piece in _pieces(text))


def _cells(text: str) -> int:
    """Places that a text takes on a terminal (a Chinese character takes two)."""
    # rich takes a while to import, and is only needed where a table is printed.
    from rich.cells import cell_len

    return cell_len(text)


def _wrapped(table: Block, width: int, most_lines: int = MOST_LINES) -> Block | None:
    """The table with its headings and texts wrapped to the width; None where that takes too many lines."""
    columns = [_column(table.columns, table.rows, index) for index in range(len(table.columns))]
    widths = [_natural(texts) for texts in columns]
    narrowest = [_narrowest(texts) for texts in columns]
    room = width - GAP * (len(columns) - 1)
    while sum(widths) > room:
        # The widest column gives way first, so that no text is squeezed more than it has to be.
        # A column can only give way down to its longest word.
        excess = [(size, index) for index, size in enumerate(widths) if size > narrowest[index]]
        if not excess:
            return None
        # One place at a time is quick enough, because a terminal has some hundred of them.
        widths[max(excess)[1]] -= 1
    cells = [[_fill(text, size) for text in texts] for texts, size in zip(columns, widths, strict=True)]
    if any(text.count("\n") >= most_lines for texts in cells for text in texts):
        return None
    rows = zip(*(texts[1:] for texts in cells), strict=True)
    return Block(tuple(texts[0] for texts in cells), tuple(rows), table.right)


def _fill(text: str, width: int) -> str:
    """A cell's text in lines of at most so many places."""
    if _cells(text) <= width:
        return text
    lines: list[str] = []
    for piece in _pieces(text):
        if lines and _cells(lines[-1]) + 1 + _cells(piece) <= width:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
    return "\n".join(lines)


def _transposed(table: Block) -> Block:
    """Rows as columns: one line per budget instead of one line per measure."""
    rows = tuple(zip(*table.rows, strict=True))
    columns = (table.columns[0], *rows[0]) if rows else (table.columns[0],)
    cells = tuple((name, *row) for name, row in zip(table.columns[1:], rows[1:], strict=True))
    # The headings of the budgets have become the first column; the other columns are numbers.
    right = (all(name.isdigit() for name in table.columns[1:]), *(True for _ in table.rows))
    return Block(columns, cells, right)


def _key_columns(table: Block) -> int:
    """How many of the first columns tell the rows apart."""
    for count in range(1, len(table.columns)):
        if len({row[:count] for row in table.rows}) == len(table.rows):
            return count
    return 1


def _stacked(table: Block, width: int) -> Iterator[Block]:
    """The columns spread over several tables, each with the first ones; lists of rows where even that is too wide."""
    key = list(range(_key_columns(table)))
    waiting = list(range(len(key), len(table.columns)))
    if not waiting:
        yield from _lists(table, width)
    blocks = []
    # Each table takes as many of the columns that are left as fit beside the first ones.
    while waiting:
        count = len(waiting)
        while count and not (block := _wrapped(_picked(table, [*key, *waiting[:count]]), width)):
            count -= 1
        # Not even one column fits beside the key, so no table of columns is possible.
        if not count or block is None:
            yield from _lists(table, width)
            return
        blocks.append(block)
        waiting = waiting[count:]
    # The blocks are yielded only now, because a late column may turn the whole table into lists.
    yield from blocks


def _picked(table: Block, indices: Sequence[int]) -> Block:
    rows = tuple(tuple(row[index] for index in indices) for row in table.rows)
    return Block(tuple(table.columns[i] for i in indices), rows, tuple(table.right[i] for i in indices))


def _lists(table: Block, width: int) -> Iterator[Block]:
    """Every row as lines of a heading and its value."""
    for row in table.rows:
        pairs = Block(("", ""), tuple(zip(table.columns, row, strict=True)), (False, False))
        # A word that is longer than the terminal stays as it is: the terminal has to fold it.
        yield _wrapped(pairs, width, most_lines=sys.maxsize) or pairs
