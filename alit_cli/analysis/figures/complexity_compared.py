"""Complexity by several tokenizers in one figure: correlations against bits and tokens, and mean L1 by complexity."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from alit_cli.analysis.figures.style import GREY, INK, draw_panels, figure_page
from alit_cli.analysis.figures.tokenizers import (
    BITS,
    TOKENS,
    cost_axis,
    looks,
    marker_size,
    separate_labels,
    tokenizer_handles,
)
from alit_cli.analysis.query.matched import ALL
from alit_cli.analysis.studies.complexity import OVERALL
from alit_cli.analysis.studies.complexity_compared import ComparedComplexity, TokenizerRow


def draw_compared_complexity(result: ComparedComplexity, source: str, path: Path) -> None:
    """Draw Pearson's r with the score against bits and against tokens, and the mean L1 at the largest budgets.

    Solid is the code length, the measure to quote, at each budget; dotted the tokens needed for an L1. `source` says
    under the figure where the numbers come from. Raises what `open_output` raises.
    """
    panels = [
        partial(_draw_correlations, result=result, spent=BITS),
        partial(_draw_correlations, result=result, spent=TOKENS),
        partial(_draw_losses, result=result),
    ]
    with figure_page((12.9, 4.9), "Complexity, by tokenizer", source, path) as figure:
        draw_panels(figure, panels, 1, 3)
        handles = tokenizer_handles(result.names)
        handles.append(Line2D([], [], color=GREY, linestyle="-", label="code length at a budget"))
        if any(result.of(name, "tokens") for name in result.names):
            handles.append(Line2D([], [], color=GREY, linestyle=":", label="tokens needed for an L1"))
        handles.append(Line2D([], [], color=INK, linestyle="--", marker=".", label=ALL))
        # Beside the title, as the lower edge holds the source.
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, fontsize=8)
        separate_labels(figure)


def _draw_correlations(axes: Axes, result: ComparedComplexity, spent: str) -> None:
    """Points of fixed length and curves of adaptive ones, with their intervals, against what they spend."""
    reached: list[float] = []
    for name, colour, marker in looks(result.names):
        budgets = result.of(name, "code length")
        x = [getattr(row, spent) for row in budgets]
        error = [
            [row.pearson - row.pearson_low for row in budgets],
            [row.pearson_high - row.pearson for row in budgets],
        ]
        axes.errorbar(
            x,
            [row.pearson for row in budgets],
            None if any(math.isnan(length) for side in error for length in side) else error,
            color=colour,
            marker=marker,
            markersize=marker_size(len(budgets)),
            elinewidth=0.7,
        )
        _draw_needs(axes, result.of(name, "tokens"), spent, colour, ":")
        reached += x
    if spent == BITS:  # tokens of different codebooks do not add up
        _draw_needs(axes, result.of(ALL, "tokens"), spent, INK, "--")
    cost_axis(axes, spent, reached)
    axes.set_ylabel("Pearson's r with the score")


def _draw_needs(axes: Axes, rows: list[TokenizerRow], spent: str, colour: str, dash: str) -> None:
    points = sorted((getattr(row, spent), row.pearson) for row in rows if not math.isnan(row.pearson))
    axes.plot([x for x, _ in points], [y for _, y in points], dash, color=colour, marker=".", linewidth=1)


def _draw_losses(axes: Axes, result: ComparedComplexity) -> None:
    """The mean L1 of bins of equally complex images, at each tokenizer's largest budget."""
    scope, group = result.group
    for name, colour, marker in looks(result.names):
        bins = result.bins[name]
        own = bins[(bins.scope == scope) & (bins.group == group) & (bins.budget == bins.budget.max())]
        axes.plot(own.position, own.l1, color=colour, marker=marker)
    pooled = scope == OVERALL
    axes.set_xlabel("complexity: percentile within its category" if pooled else "complexity score")
    axes.set_ylabel("mean L1 at the largest budget")
