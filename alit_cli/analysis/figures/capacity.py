"""Capacity tables drawn as figures: what becomes of a task against the tokens spent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from alit_cli.analysis.figures.style import COLOURS, GREY, INK, MARKERS, STYLE, save_figure
from alit_cli.analysis.selection.sweep import UNIFORM, Outcome
from alit_cli.analysis.studies.capacity import ALL, ORIGINAL, Capacity

MOST_PANELS = 12
Styles = Mapping[str, tuple[str, str, Literal["-", "--", ":"]]]


def draw_capacity(result: Capacity, source: str, folder: Path, form: str) -> list[Path]:
    """Draw a panel for each outcome, and where there are groups a panel for each of them of the first outcome.

    `source` says under the figure where the numbers come from. Returns the files; what `open_output` raises.
    """
    table = pd.DataFrame(result.points)
    whole = table[table.group == ALL]
    styles = _styles(whole.line)
    with matplotlib.rc_context(STYLE):
        panels = {outcome.name: (whole[whole.outcome == outcome.name], outcome) for outcome in result.outcomes}
        figure = _panels(panels, styles, "What survives, by tokens spent", result.full_tokens, groups=False)
        figure.supxlabel(source, x=0.008, ha="left", fontsize=8, color=GREY)
        paths = [folder / f"capacity.{form}"]
        save_figure(figure, paths[0])
        first = next((outcome for outcome in result.outcomes if not outcome.frechet), None)
        groups = table[(table.group != ALL) & (table.outcome == (first.name if first else ""))]
        if first and len(groups):
            sizes = groups.groupby("group").n.max()
            shown = sorted(sizes.nlargest(MOST_PANELS).index)
            panels = {name: (groups[groups.group == name], first) for name in shown}
            figure = _panels(
                panels, styles, f"{_capital(first.label)}, by tokens spent and by group", result.full_tokens, True
            )
            more = f" · the {len(shown)} largest of {len(sizes)} groups" if len(shown) < len(sizes) else ""
            figure.supxlabel(source + more, x=0.008, ha="left", fontsize=8, color=GREY)
            paths.append(folder / f"capacity_groups.{form}")
            save_figure(figure, paths[-1])
    return paths


def _styles(lines: Iterable[str]) -> Styles:
    """Colour, marker and dash of each line."""
    styles: dict[str, tuple[str, str, Literal["-", "--", ":"]]] = {UNIFORM: (INK, "x", "--"), ORIGINAL: (GREY, "", ":")}
    swept = [line for line in dict.fromkeys(lines) if line not in styles]
    for number, line in enumerate(swept):
        styles[line] = (COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)], "-")
    return {line: styles[line] for line in [*swept, UNIFORM, ORIGINAL]}


def _panels(
    panels: Mapping[str, tuple[pd.DataFrame, Outcome]], styles: Styles, title: str, full: int, groups: bool
) -> Figure:
    """A figure with a panel for each piece of the table, and one legend for all."""
    columns = min(len(panels), 4 if groups else 3)
    rows = math.ceil(len(panels) / columns)
    size = (max(6.4, (3.2 if groups else 4.6) * columns), (2.6 if groups else 3.9) * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=groups)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, (points, outcome)) in zip(grid.flat, panels.items(), strict=False):
        _draw(axes, points, styles)
        axes.set_title(
            f"{name if groups else _capital(outcome.label)} (n = {points.known.max()})",
            loc="left",
            fontsize=9 if groups else 10,
        )
        axes.set_xlabel("tokens spent" if groups else f"tokens spent, share of {full} per image")
        better = "lower is better" if outcome.lower_is_better else "higher is better"
        axes.set_ylabel("" if groups else f"{outcome.label} · {better}")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if outcome.test is not None:
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_xlim(0, 1.03 * max(1, points.capacity.max()))
    legend = figure.legend(
        handles=_handles(styles, panels),
        loc="outside upper left",
        ncols=math.floor(size[0] / 1.9),
        frameon=False,
        fontsize=8.5,
        title=title,
        alignment="left",
        title_fontproperties={"size": 13, "weight": "bold"},
    )
    legend.get_title().set_color(INK)
    return figure


def _draw(axes: Axes, points: pd.DataFrame, styles: Styles) -> None:
    """The lines of one outcome in one group, with the bands of their intervals."""
    for name, (colour, marker, dash) in styles.items():
        line = points[points.line == name].sort_values("capacity")
        if line.empty or line.value.isna().all():
            continue
        if name == ORIGINAL:
            axes.axhline(float(line.value.iloc[0]), color=colour, linestyle=dash, linewidth=1.4)
            continue
        axes.plot(line.capacity, line.value, color=colour, marker=marker, markersize=4, linestyle=dash, linewidth=1.5)
        if line.low.notna().all():
            axes.fill_between(line.capacity, line.low, line.high, color=colour, alpha=0.12, linewidth=0)


def _handles(styles: Styles, panels: Mapping[str, tuple[pd.DataFrame, Outcome]]) -> Sequence[Line2D]:
    """The legend: what each line is; only those that are drawn."""
    drawn = {line for points, _ in panels.values() for line in points.line[points.value.notna()]}
    names = {UNIFORM: "one budget for all", ORIGINAL: "original images"}
    return [
        Line2D([], [], color=colour, marker=marker, markersize=4, linestyle=dash, label=names.get(line, f"by {line}"))
        for line, (colour, marker, dash) in styles.items()
        if line in drawn
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
