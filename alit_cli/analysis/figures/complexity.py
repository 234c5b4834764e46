"""The figure of `alit analyze complexity`: the code length by complexity, pooled and by category."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from scipy.stats import t

from alit_cli.analysis.figures.style import GREY, Colours, budget_colours, figure_page, is_paper
from alit_cli.analysis.studies.complexity import GROUP, OVERALL, QUOTED_MEASURE, Complexity, Row

# Four in a row make three rows, as high as the large panel beside them.
MOST_PANELS = 12
FEWEST_IN_BIN = 3
"""Images of a bin from which on its interval is drawn; that of two would leave the panel."""


def draw_complexity(result: Complexity, source: str, path: Path) -> None:
    """Draw the mean code length per complexity bin, a line per budget: all groups pooled, and a small panel for each.

    Every panel says how many images it has, and the Pearson correlation r of the measure to quote, which is drawn: the
    code length at the largest budget. The main panel has its 95 % intervals. `source` says under the figure where the
    numbers come from (images, model, scores). Raises what `open_output` raises.
    """
    own, pooled = (result.bins[result.bins.scope == scope] for scope in (GROUP, OVERALL))
    budgets = sorted(result.bins.budget.unique())
    colours = budget_colours(budgets)
    images = own[own.budget == budgets[0]].groupby("group").images.sum()
    shown = sorted(images.nlargest(MOST_PANELS).index)
    if len(shown) < len(images):
        source += f" · panels: the {len(shown)} largest of {len(images)} categories"
    source += f" · r: the score and the code length at {budgets[-1]} tokens, whose 95 % intervals are drawn"
    quoted = {row.group: row for row in result.rows if row.measure == f"{QUOTED_MEASURE}_{budgets[-1]}"}
    with figure_page((6.4, 4.6) if pooled.empty else (12.8, 5.8), "Code length by complexity", source, path) as figure:
        if pooled.empty:
            main, label = figure.subplots(), "complexity score"
        else:
            rows = max(math.ceil(len(shown) / 4), min(2, len(shown)))
            # At least two rows are used where there are two groups, because one row of panels would be too flat beside
            # the main one.
            columns = math.ceil(len(shown) / rows)
            left, right = figure.subfigures(1, 2, width_ratios=(1, 1.6), squeeze=False)[0]
            main, label = left.subplots(), "complexity: percentile within its category"
            # Scores that look scaled within each category are on one axis; other scores keep their own.
            grid = right.subplots(rows, columns, squeeze=False, sharey=True, sharex=result.scaled)
            _draw_panels(list(grid.flat), own, shown, colours, quoted)
            right.supxlabel("complexity score of the category's own images", fontsize="medium")
        whole = own if pooled.empty else pooled
        _draw_lines(main, whole, colours, bars=True)
        _count_bins(main, whole)
        main.set(xlabel=label, ylabel="code length (bits per pixel)")
        main.set_title(_title(str(whole.group.iloc[0]), whole, quoted), loc="left")
        # All panels have the same lines, so the main one speaks for all.
        lines, names = main.get_legend_handles_labels()
        figure.legend(
            lines,
            names,
            loc="outside upper left" if is_paper() else "outside upper right",
            # One column of a paper has room for four of them.
            ncols=4 if is_paper() and pooled.empty else len(names),
            title="tokens",
            columnspacing=1.2,
        )


def _draw_panels(
    grid: Sequence[Axes], bins: pd.DataFrame, groups: Sequence[str], colours: Colours, quoted: dict[str, Row]
) -> None:
    """A small panel per group, all on one axis of code lengths, and of scores where those are on one scale."""
    for axes, group in zip_longest(grid, groups):
        if group is None:
            axes.remove()
            continue
        own = bins[bins.group == group]
        _draw_lines(axes, own, colours, bars=False)
        axes.set_title(_title(group, own, quoted), loc="left", fontsize="medium")
        axes.tick_params(labelbottom=True)
        axes.locator_params(axis="x", nbins=4)


def _draw_lines(axes: Axes, bins: pd.DataFrame, colours: Colours, bars: bool) -> None:
    """A line per budget, named in the legend in the order of the budgets."""
    for budget, colour in colours.items():
        line = bins[bins.budget == budget]
        # Bins are small, so that their intervals are Student's; those of several budgets would hide each other. A bin
        # of too few images becomes NaN here, and matplotlib draws no bar for it.
        error = line.code_error.where(line.images >= FEWEST_IN_BIN) * t.ppf(0.975, line.images - 1)
        axes.errorbar(
            line.position,
            line.code_length,
            error if bars and budget == max(colours) and error.notna().any() else None,
            color=colour,
            marker="o",
            elinewidth=0.7,
            label=str(budget),
        )


def _count_bins(axes: Axes, bins: pd.DataFrame) -> None:
    """How many images every bin has, along the bottom."""
    first = bins[bins.budget == bins.budget.min()]
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.05 * (high - low), high)  # room for the numbers below the lowest line
    for position, count in zip(first.position, first.images, strict=True):
        axes.annotate(
            str(count),
            (position, 0),
            (0, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize="x-small",
        )


def _title(group: str, bins: pd.DataFrame, quoted: dict[str, Row]) -> str:
    """The group, its images and the quoted correlation."""
    count = bins[bins.budget == bins.budget.min()].images.sum()
    row = quoted.get(group)
    r = "" if row is None or math.isnan(row.pearson) else f", r = {row.pearson:.2f}"
    return f"{group}\nn = {count}{r}"
