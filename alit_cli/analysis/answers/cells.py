"""How numbers stand in the cells of printed tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alit_cli.table_layout import format_numbers


def percent(share: float) -> str | None:
    """A share of 1 in percent, points below each other in a column: ` 12.5 %`; None for NaN."""
    return None if math.isnan(share) else f"{100 * share:5.1f} %"


def with_intervals(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], share: bool = False, sign: bool = False
) -> list[str | None]:
    """Numbers ± half the width of their intervals, all with one precision; None for NaN.

    Shares of 1 are written in percent, and with `sign` a number above 0 has its plus.
    """
    scale, unit = (100, " %") if share else (1, "")
    # All numbers of a column have one precision, and their intervals take it over.
    texts = format_numbers([scale * value for value in values])
    cells: list[str | None] = []
    for value, low, high, text in zip(values, lows, highs, texts, strict=True):
        if math.isnan(value):
            cells.append(None)
            continue
        decimals = len(text.partition(".")[2])
        # With --bootstrap 0 there are no intervals.
        half = "" if math.isnan(low) else f" ±{scale * (high - low) / 2:.{decimals}f}"
        cells.append(f"{'+' if sign and value >= 0 else ''}{text}{half}{unit}")
    return cells


def fixed(value: float, decimals: int) -> str | None:
    """A number with so many decimals; None for NaN."""
    return None if math.isnan(value) else f"{value:.{decimals}f}"
