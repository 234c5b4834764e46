"""Capacity tables drawn as figures: what becomes of a task against the tokens spent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from alit_cli.analysis.figures.style import COLOURS, GREY, INK, MARKERS, figure_page, is_paper
from alit_cli.analysis.selection.sweep import UNIFORM, Outcome
from alit_cli.analysis.studies.capacity import ALL, ORIGINAL, Capacity

# Four in a row make three rows; a higher figure does not fit a page.
MOST_PANELS = 12
FEWEST_FOR_BANDS = 50
"""Images of a group from which on its intervals are drawn; those of fewer cover the whole panel and say nothing."""
Styles = Mapping[str, tuple[str, str, Literal["-", "--", ":"]]]


def draw_capacity(result: Capacity, source: str, folder: Path, form: str) -> list[Path]:
    """Draw a panel for each outcome, and where there are groups a panel for each of them of the first outcome.

    Below an outcome stands its paired difference from one budget for all at equal tokens: the two lines of a panel
    have overlapping intervals also where they differ surely, because both depend on the same images.

    `source` says under the figure where the numbers come from. Returns the files; what `open_output` raises.
    """
    table = pd.DataFrame(result.points)
    whole = table[table.group == ALL]
    styles = _styles(whole.line, result.levels)
    paths = [folder / f"capacity.{form}"]
    differences = pd.DataFrame(result.differences)
    if len(differences):
        # Pairs of two swept lines are in the csv; in the figure they would hide each other.
        differences = differences[(differences.against == UNIFORM) & differences.line.isin(list(styles))]
    count, rows = len(result.outcomes), 2 if len(differences) else 1
    size = (max(6.4, 4.4 * count), 3.9 + 2.1 * (rows - 1) + 0.8)
    with figure_page(size, "", source, paths[0]) as figure:
        # Without a row of differences only the first of the ratios is left.
        ratios = (1.9, 1)[:rows]
        grid = figure.subplots(rows, count, squeeze=False, sharex=True, height_ratios=ratios)
        for column, outcome in enumerate(result.outcomes):
            points = whole[whole.outcome == outcome.name]
            # Where differences are drawn below, they carry the intervals, and bands above would only blur the lines.
            _draw_lines(grid[0, column], points, styles, bands=rows == 1)
            _dress(grid[0, column], outcome, result.full_tokens)
            bottom = grid[0, column]
            if rows > 1 and len(own := differences[differences.outcome == outcome.name]):
                bottom = grid[1, column]
                _draw_differences(bottom, own, styles, outcome)
            elif rows > 1:
                # A Fréchet distance has no number per image, and so no paired difference.
                grid[1, column].remove()
                bottom.tick_params(labelbottom=True)
            # Of four panels on a paper's page, each has room for half of the words.
            spent = "tokens, share of" if is_paper() else "tokens spent, share of"
            bottom.set_xlabel(f"{spent} {result.full_tokens}{'' if is_paper() else ' per image'}")
        _legend(figure, "What survives, by tokens spent", _handles(styles, whole))
    if (groups := _groups(result, table)) is not None:
        paths.append(folder / f"capacity_groups.{form}")
        _draw_groups(result, groups, styles, source, paths[-1])
    return paths


def _styles(lines: Iterable[str], levels: Sequence[str]) -> Styles:
    """Colour, marker and dash of each line; the levels are pictures without tokens."""
    # One budget for all and the originals look the same in every figure, whatever else is drawn.
    styles: dict[str, tuple[str, str, Literal["-", "--", ":"]]] = {UNIFORM: (INK, "x", "--"), ORIGINAL: (GREY, "", ":")}
    swept = [line for line in dict.fromkeys(lines) if line not in styles and line not in levels]
    for number, line in enumerate(swept):
        styles[line] = (COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], "-")
    # Levels take colours from the other end, so that they and the lines share none unless there are many.
    for number, line in enumerate(levels[1:]):
        styles[line] = (COLOURS[-1 - number % len(COLOURS)], "", ":")
    return {line: styles[line] for line in [*swept, UNIFORM, *levels]}


def _draw_lines(axes: Axes, points: pd.DataFrame, styles: Styles, bands: bool) -> None:
    """The lines of one outcome in one group; their intervals as bars, or as bands where nothing else is drawn."""
    for name, (colour, marker, dash) in styles.items():
        line = points[points.line == name].sort_values("capacity")
        # A line may have no points for an outcome, such as a group without labels.
        if line.empty or line.value.isna().all():
            continue
        if line.capacity.isna().all():  # pictures without tokens
            axes.axhline(float(line.value.iloc[0]), color=colour, linestyle=dash)
            continue
        axes.plot(line.capacity, line.value, color=colour, marker=marker, linestyle=dash)
        if bands and line.low.notna().all():
            axes.fill_between(line.capacity, line.low, line.high, color=colour, alpha=0.1, linewidth=0)


def _dress(axes: Axes, outcome: Outcome, full: int) -> None:
    """What is on the axes of a panel; the title names the outcome once, and which way is better."""
    better = "lower is better" if outcome.lower_is_better else "higher is better"
    axes.set_title(f"{_capital(outcome.label)}\n{better}", loc="left")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if outcome.test is not None:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    # The axis begins at 0 and shows 100 % at least; --share-of may bring points beyond that.
    axes.set_xlim(0, max(1.03, axes.dataLim.x1 * 1.02))


def _draw_differences(axes: Axes, differences: pd.DataFrame, styles: Styles, outcome: Outcome) -> None:
    """How much better or worse each line is than one budget for all, with paired intervals."""
    scale = 100 if outcome.test is not None else 1
    for name, (colour, marker, dash) in styles.items():
        line = differences[differences.line == name].sort_values("capacity")
        if line.empty:
            continue
        # matplotlib wants distances, and rounding could make one slightly negative, which it refuses.
        error = scale * np.stack([line.difference - line.low, line.high - line.difference]).clip(min=0)
        axes.errorbar(
            line.capacity,
            scale * line.difference,
            None if np.isnan(error).any() else error,
            color=colour,
            marker=marker,
            linestyle=dash,
            elinewidth=0.8,
        )
    axes.axhline(0, color=INK, linewidth=0.8, linestyle="--")
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.3g}" if value else "0"))
    unit = " (points)" if outcome.test is not None else ""
    axes.set_title(f"{'Less' if is_paper() else 'Difference from'} one budget for all{unit}", loc="left")


def _groups(result: Capacity, table: pd.DataFrame) -> pd.DataFrame | None:
    """The points of the groups for the first outcome that has a number per image; None where there are none."""
    first = next((outcome for outcome in result.outcomes if not outcome.frechet), None)
    points = table[(table.group != ALL) & (table.outcome == (first.name if first else ""))]
    return points if len(points) else None


def _draw_groups(result: Capacity, groups: pd.DataFrame, styles: Styles, source: str, path: Path) -> None:
    """A small panel for each of the largest groups, with bands only where the images suffice."""
    outcome = next(outcome for outcome in result.outcomes if outcome.name == groups.outcome.iloc[0])
    sizes = groups.groupby("group").known.max()
    # The largest groups are chosen, but they stand in the order of their names, where they are looked for.
    shown = sorted(sizes.nlargest(MOST_PANELS).index)
    if len(shown) < len(sizes):
        source += f" · the {len(shown)} largest of {len(sizes)} groups"
    if sizes[shown].min() < FEWEST_FOR_BANDS:
        source += f" · no bands below n = {FEWEST_FOR_BANDS}"
    columns = min(len(shown), 4)
    rows = math.ceil(len(shown) / columns)
    size = (max(6.4, 3.2 * columns), 2.7 * rows + 1.1)
    title = f"{_capital(outcome.label)}, by tokens spent and by group"
    with figure_page(size, "", source, path) as figure:
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True, sharex=True)
        for axes, name in zip(grid.flat, shown, strict=False):
            points = groups[groups.group == name]
            _draw_lines(axes, points, styles, bands=bool(sizes[name] >= FEWEST_FOR_BANDS))
            _dress(axes, outcome, result.full_tokens)
            axes.set_title(f"{name} (n = {sizes[name]})", loc="left")
        for axes in grid.flat[len(shown) :]:
            axes.remove()
        for axes in figure.axes:
            # A shared axis hides the numbers of upper panels, also where the panel below was removed.
            axes.tick_params(labelbottom=True)
        label = f"tokens spent, share of {result.full_tokens} per image"
        if is_paper():
            figure.supxlabel(label)
            # The wide figure says it in its title. A network has a long name, hence two lines.
            figure.supylabel(_capital(outcome.label).replace(" of ", "\nof ", 1))
        else:
            figure.axes[0].set_xlabel("tokens spent")
        _legend(figure, title, _handles(styles, groups))


def _legend(figure: Figure, title: str, handles: Sequence[Line2D]) -> None:
    """The legend above the panels; the figure's title is the legend's, because two texts there would overlap."""
    # Inches that an entry of the legend takes, about, at the two sizes of letters.
    columns = max(2, math.floor(figure.get_size_inches()[0] / (1.6 if is_paper() else 2.2)))
    legend = figure.legend(handles=handles, loc="outside upper left", ncols=columns, alignment="left")
    if not is_paper():
        legend.set_title(title, FontProperties(size=13, weight="bold"))
        legend.get_title().set_color(INK)


def _handles(styles: Styles, points: pd.DataFrame) -> Sequence[Line2D]:
    """The legend: what each line is; only those that are drawn."""
    drawn = set(points.line[points.value.notna()])
    names = {UNIFORM: "one budget for all", ORIGINAL: "original images"}
    return [
        Line2D([], [], color=colour, marker=marker, linestyle=dash, label=names.get(line, f"by {line}"))
        for line, (colour, marker, dash) in styles.items()
        if line in drawn
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
