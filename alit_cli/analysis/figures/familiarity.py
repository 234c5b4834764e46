"""The figure of `alit analyze familiarity`: gains, needs and differences of sets of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from alit_cli.analysis.figures.style import COLOURS, INK, MARKERS, figure_page, is_paper, thin_ticks
from alit_cli.analysis.studies.familiarity import Familiarity


def draw_familiarity(result: Familiarity, source: str, path: Path) -> None:
    """Draw mean L1 by budget, the tokens needed, and how far each set stands from the first.

    `source` says under the figure where the numbers come from. Raises what `open_output` raises.
    """
    names = [image_set.name for image_set in result.sets]
    # Inches; each set adds a row of differences to the panel on the right.
    size = (13, 3.9 + 0.12 * len(names))
    with figure_page(size, "Familiar and unfamiliar images", source, path) as figure:
        left, middle, right = figure.subplots(1, 3)
        for number, image_set in enumerate(result.sets):
            own = result.needs[result.needs.set == image_set.name]
            colour, marker = _style(number)
            label = f"{image_set.name} (n = {len(image_set.l1)})"
            left.plot(own.tokens, own.l1, color=colour, marker=marker, label=label)
            # The bars of one budget take 0.8 of its place, so that budgets stay apart.
            width = 0.8 / len(names)
            places = np.arange(len(own)) + width * (number - (len(names) - 1) / 2)
            middle.bar(places, own.share, width, color=colour)
        left.set(xlabel="tokens", ylabel="mean L1 (pixels in 0–1)", xticks=result.budgets)
        left.set_title("What more tokens buy", loc="left")
        # The legend stands above all panels, because it covers lines where names are long.
        figure.legend(loc="outside upper left" if is_paper() else "outside upper right", ncols=len(names))
        # The axis of the bars counts places and not tokens, so its ticks are set by hand below.
        thin_ticks(left, result.budgets)
        threshold = result.thresholds[len(result.thresholds) // 2]
        ticks = [str(budget) for budget in result.budgets]
        middle.set_xticks(range(len(ticks)), [*ticks[:-1], f"{ticks[-1]}\nor never"])
        middle.set(xlabel="tokens needed", ylabel="share of images")
        middle.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        middle.set_title(f"Tokens needed for L1 < {threshold:g}", loc="left")
        _draw_differences(right, result, names, f"tokens(l1<{threshold:g})")


def _draw_differences(axes: Axes, result: Familiarity, names: Sequence[str], need: str) -> None:
    """Cliff's δ of each set against the first: filled as they are, open where JPEG bytes are matched."""
    rows = [row for row in result.differences if row.measure in ("l1 gap", need)]
    labels = list(dict.fromkeys((row.set, row.measure) for row in rows))
    for row in rows:
        colour, marker = _style(names.index(row.set))
        # As they are and matched stand as a pair around one row, so that both can be read.
        place = labels.index((row.set, row.measure)) + (0.14 if row.matched else -0.14)
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.5)
        face = "white" if row.matched else colour
        axes.plot(row.delta, place, color=colour, marker=marker, markerfacecolor=face)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(-1, 1), xticks=(-1, -0.5, 0, 0.5, 1), xlabel=f"Cliff's δ (above 0: more than\n{names[0]})")
    several = len(names) > 2
    axes.set_yticks(
        range(len(labels)), [f"{name}\n{_said(measure)}" if several else _said(measure) for name, measure in labels]
    )
    axes.set_ylim(len(labels) - 0.4, -0.6)  # the first set on top, and no more room than the rows need
    # At the ends of the axis half of a marker would be cut off.
    for line in axes.lines:
        line.set_clip_on(False)
    axes.set_title("Differences (open: matched)", loc="left")


def _said(measure: str) -> str:
    """A measure of the differences in words."""
    return "L1 saved" if measure == "l1 gap" else "tokens needed"


def _style(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
