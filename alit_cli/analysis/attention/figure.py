"""The figure of `alit analyze attention`: how narrow, how steady and how object-like the maps are, by tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure

from alit_cli.analysis.attention.tables import BEST, SETS, measure_name, series
from alit_cli.analysis.figures.style import COLOURS, GREY, figure_page, is_paper

# The same measure has the same colour in every panel of the figure.
BLUE, ORANGE, GREEN = COLOURS[:3]


PANELS = 4
"""Regions in a row."""


def draw_attention(summary: pd.DataFrame, first: int, shares: Mapping[str, str], source: str, path: Path) -> None:
    """Lines over the tokens, bands for 95 % intervals over images; panels of objects only where there are masks.

    Args:
        summary: from `by_iteration`.
        first: tokens of the model's first budget.
        shares: the regions that mIoU is known for, and how to call them; a panel each.
        source: under the figure: where the numbers come from.
        path: its suffix is the format. Raises what `open_output` raises.
    """
    # Without masks there is no mIoU, and the lower half of the figure is left out.
    bound = (summary.measure == measure_name("all", BEST, shuffled=False)).any()
    # Inches: the upper two panels with their legends, then each row of regions, and the common legend.
    heights = [5.0] + ([3.3 * math.ceil(len(shares) / PANELS) + 0.7] if bound else [])
    size = (12.6 if bound else 9.2, sum(heights))
    with figure_page(size, "Attention to the tokens", source, path) as figure:
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        panels = parts[0].subplots(1, 2)
        _draw_sparsity(panels[0], summary)
        _draw_stability(panels[1], summary)
        if bound:
            _draw_objects(parts[1], summary, first, shares)
        for axes in figure.axes:
            # More than eight ticks would not have room for their numbers.
            axes.set(xlabel="tokens", xticks=sorted(summary.tokens.unique())[:: -(-summary.tokens.nunique() // 8)])


def _draw_sparsity(axes: Axes, summary: pd.DataFrame) -> None:
    _line(axes, summary, "top_decile", BLUE, "mass in the top tenth of positions (even: 0.1)")
    _line(axes, summary, "entropy", ORANGE, "entropy over that of an even map (even: 1)")
    _line(axes, summary, "latent_share", GREEN, "share of attention that goes to tokens")
    # In an even map the top tenth of the positions holds a tenth of the mass.
    axes.axhline(0.1, color=BLUE, linewidth=0.8, linestyle=":")
    axes.annotate("even", (0, 0.1), (3, -2), ("axes fraction", "data"), "offset points", va="top", color=BLUE)
    axes.set_ylim(0, 1.02)
    _finish(axes, "Sparsity: how narrow a token's map is", "mean over tokens and images (band: 95 %)")


def _draw_stability(axes: Axes, summary: pd.DataFrame) -> None:
    _line(axes, summary, "stability", BLUE, "with itself at the next iteration")
    _line(axes, summary, "stability_others", GREY, "with other tokens there", dashed=True)
    _line(axes, summary, "sameness", ORANGE, "with itself in other images (1: a fixed place)")
    _finish(axes, "Stability: where a token's map recurs", "correlation of two maps (band: 95 %)")


def _draw_objects(figure: SubFigure, summary: pd.DataFrame, first: int, shares: Mapping[str, str]) -> None:
    """One panel per region, all on one scale, and under them what the lines are."""
    rows = math.ceil(len(shares) / PANELS)
    # One common scale lets readers compare the regions with each other.
    grid = figure.subplots(rows, min(PANELS, len(shares)), sharey=True, squeeze=False)
    for axes, share in zip_longest(grid.flat, shares):
        # The last row of the grid may have more places than there are regions left.
        if share is None:
            axes.remove()
        else:
            _draw_region(axes, summary, first, share)
            axes.set_title(f"Region: {shares[share]}", loc="left")
    for axes in grid[:, 0]:
        axes.set_ylabel("mIoU of the best token per segment")
    # All panels have the same lines, so the first one speaks for all.
    lines, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower left", ncols=2, handlelength=3)


def _draw_region(axes: Axes, summary: pd.DataFrame, first: int, share: str) -> None:
    """Levels differ from image to image far more than from chance, so the band is that of the difference."""
    for tokens, colour in zip(SETS, (BLUE, ORANGE), strict=True):
        name = "all tokens" if tokens == "all" else f"the first {first} tokens"
        _line(axes, summary, measure_name(tokens, share, shuffled=False), colour, f"best of {name}", band=False)
        chance = series(summary, measure_name(tokens, share, shuffled=True))
        if len(chance):
            gain = series(summary, f"gain_{tokens}_{share}")
            # The interval of the difference is drawn around chance, so that a line above it is better than chance.
            half = (gain.high - gain.low) / 2
            label = "its chance level, maps of other images" + ("" if is_paper() else " (band: 95 % of the difference)")
            _line(axes, summary, measure_name(tokens, share, shuffled=True), colour, label, True, False)
            axes.fill_between(
                chance.tokens, chance["mean"] - half, chance["mean"] + half, color=colour, alpha=0.15, linewidth=0
            )


def _line(
    axes: Axes, summary: pd.DataFrame, measure: str, colour: str, label: str, dashed: bool = False, band: bool = True
) -> None:
    """One measure with its band; nothing where it is not known."""
    line = series(summary, measure)
    if line.empty:
        return
    style = "--" if dashed else "-"
    axes.plot(line.tokens, line["mean"], style, color=colour, marker="o", label=label)
    if band:
        axes.fill_between(line.tokens, line.low, line.high, color=colour, alpha=0.12, linewidth=0)


def _finish(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylabel(label)
    # The legend stands below its panel, because lines may run anywhere inside it.
    axes.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.14), handlelength=3)
