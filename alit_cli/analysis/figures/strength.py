"""The figure of `alit analyze strength`: what models lose, by their strength."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from alit_cli.analysis.figures.style import FAINT, GREY, budget_colours, figure_page, is_paper
from alit_cli.analysis.studies.strength import FEWEST, Strength

DODGE = 0.05
"""What the budgets of one model take of the axis, side by side, so that no interval hides another."""


def draw_strength(result: Strength, source: str, path: Path) -> None:
    """Draw each model's drop against its own strength, a colour per budget; what `open_output` raises.

    Shares are drawn in percent and their differences in percentage points. Lines join the models only where there are
    enough of them to have an order worth a correlation.
    """
    table = pd.DataFrame(result.rows).sort_values("strength")
    share = result.outcome.test is not None
    numbers = ["strength", "drop", "drop_low", "drop_high"]
    table[numbers] = table[numbers].astype(np.float64) * (100 if share else 1)
    budgets = sorted(table.budget.unique())
    ordered = table.model.nunique() >= FEWEST
    # With a single network, or equal ones, there is no spread; a fifth of the strength, or a little, stands for it.
    spread = float(table.strength.max() - table.strength.min()) or max(abs(float(table.strength.max())) / 5, 1e-3)
    with figure_page((7.4, 4.8), "What models lose, by their strength", source, path) as figure:
        axes = figure.subplots()
        for number, (budget, colour) in enumerate(budget_colours(budgets).items()):
            line = table[table.budget == budget]
            # matplotlib wants distances, and rounding could make one slightly negative, which it refuses.
            error = np.stack([line["drop"] - line.drop_low, line.drop_high - line["drop"]]).clip(min=0)
            shift = DODGE * spread * (number / max(len(budgets) - 1, 1) - 0.5)
            axes.errorbar(
                line.strength + shift,
                line["drop"],
                None if np.isnan(error).any() else error,
                color=colour,
                fmt="o-" if ordered else "o",
                linewidth=0.7,  # lines that hide no point
                elinewidth=0.8,
                label=f"{budget} tokens",
            )
        axes.axhline(0, color=GREY, linewidth=0.8)
        unit, points = (" (%)", " (percentage points)") if share else ("", "")
        axes.set(xlabel=f"{result.outcome.label} on the originals{unit}", ylabel=f"lost on reconstructions{points}")
        axes.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.margins(0.14, 0.08)
        _name_models(axes, table)
        figure.legend(loc="outside upper left" if is_paper() else "outside right upper", ncols=4 if is_paper() else 1)


def _name_models(axes: Axes, table: pd.DataFrame) -> None:
    """Each model's name above the panel, in as many rows as keep neighbours apart, with a line down to its points."""
    low, high = axes.get_xlim()
    size = 5.0 if is_paper() else 6.5  # points that a letter is wide, about
    # Inches have 72 points, and the panel takes about 0.8 of the figure's width.
    per_point = (high - low) / (72 * axes.get_figure().get_size_inches()[0] * 0.8)  # type: ignore[union-attr]
    ends: list[float] = []  # where the last name of each row ends
    for model, place in table.groupby("model").strength.first().sort_values().items():
        half = 0.5 * size * len(str(model)) * per_point
        row = next((row for row, end in enumerate(ends) if place - half > end), len(ends))
        # A new row is appended by the same line: then the slice is empty and lies at the end.
        ends[row:] = [place + half, *ends[row + 1 :]]
        axes.axvline(float(place), color=FAINT, linewidth=0.8, zorder=0)
        axes.annotate(
            str(model),
            (float(place), 1),
            (0, 2 + 1.5 * size * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize="small",
        )
