"""The figure of `alit analyze complexity`: mean L1 by complexity, pooled and by category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from scipy.optimize import isotonic_regression

from alit_cli.analysis.figures.style import Colours, budget_colours, figure_page
from alit_cli.analysis.studies.complexity import GROUP, OVERALL, Complexity

MOST_PANELS = 12


def draw_complexity(result: Complexity, source: str, path: Path) -> None:
    """Draw the mean L1 per complexity bin, a line per budget: all groups pooled, and a small panel for each.

    `source` says under the figure where the numbers come from (images, model, scores). What `open_output` raises.
    """
    own, pooled = (result.bins[result.bins.scope == scope] for scope in (GROUP, OVERALL))
    colours = budget_colours(sorted(result.bins.budget.unique()))
    images = own[own.budget == own.budget.min()].groupby("group").images.sum()
    shown = sorted(images.nlargest(MOST_PANELS).index)
    if len(shown) < len(images):
        source += f" · panels: the {len(shown)} largest of {len(images)} categories"
    with figure_page((6.4, 4.6) if pooled.empty else (12.8, 5.4), "Mean L1 by complexity", source, path) as figure:
        if pooled.empty:
            _draw_main(figure.subfigures(squeeze=False)[0, 0], own, "complexity score", colours)
        else:
            left, right = figure.subfigures(1, 2, width_ratios=(1, 1.6), squeeze=False)[0]
            main = _draw_main(left, pooled, "complexity: percentile within its category", colours)
            main.set_xlim(0, 100)
            _draw_panels(right, own, shown, colours, one_scale=result.scaled)


def _draw_main(figure: SubFigure, bins: pd.DataFrame, label: str, colours: Colours) -> Axes:
    """The large panel; each line is named at its end."""
    axes = figure.subplots()
    _draw_lines(axes, bins, colours, marker="o")
    axes.set(xlabel=label, ylabel="mean L1 (pixels in 0–1)")
    axes.set_title(_title(str(bins.group.iloc[0]), bins), loc="left", fontsize=10)
    _name_lines(axes, bins, colours)
    return axes


def _draw_panels(
    figure: SubFigure, bins: pd.DataFrame, groups: Sequence[str], colours: Colours, one_scale: bool
) -> None:
    """A small panel per group, all on one axis of losses, and of scores where those are on one scale."""
    rows = max(math.ceil(len(groups) / 4), min(2, len(groups)))
    columns = math.ceil(len(groups) / rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=one_scale)
    for axes, group in zip_longest(grid.flat, groups):
        if group is None:
            axes.remove()
            continue
        own = bins[bins.group == group]
        _draw_lines(axes, own, colours)
        axes.set_title(_title(group, own), loc="left", fontsize=9)
        axes.tick_params(labelsize=8, labelbottom=True)
        axes.locator_params(axis="x", nbins=4)
    figure.supxlabel("complexity score of the category's own images", fontsize=9)


def _draw_lines(axes: Axes, bins: pd.DataFrame, colours: Colours, marker: str = "") -> None:
    for budget, colour in colours.items():
        line = bins[bins.budget == budget]
        axes.plot(line.position, line.l1, color=colour, linewidth=1.6, marker=marker, markersize=3.2)


def _title(group: str, bins: pd.DataFrame) -> str:
    return f"{group} (n = {bins[bins.budget == bins.budget.min()].images.sum()})"


def _name_lines(axes: Axes, bins: pd.DataFrame, colours: Colours) -> None:
    """Write each budget right of the end of its line, no two names on top of each other."""
    ends = bins.sort_values("position").groupby("budget").l1.last().dropna().sort_values()
    low, high = axes.get_ylim()
    gap = 0.042 * (high - low)
    steps = gap * np.arange(len(ends))
    places = isotonic_regression(ends.to_numpy() - steps).x + steps  # as near the ends as the gaps allow
    right = float(bins.position.max())
    for (budget, end), place in zip(ends.items(), places, strict=True):
        name = f"{budget} tokens" if end == ends.max() else str(budget)
        axes.annotate(
            name,
            (right, place),
            (7, 0),
            textcoords="offset points",
            va="center",
            color=colours[int(str(budget))],
            fontweight="bold",
            fontsize=8.5,
        )
