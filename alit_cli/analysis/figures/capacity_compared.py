"""Capacity of several tokenizers in one figure: every outcome against the bits spent, the first against tokens too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

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
from alit_cli.analysis.selection.sweep import UNIFORM, Outcome
from alit_cli.analysis.studies.capacity import ALL as ALL_IMAGES
from alit_cli.analysis.studies.capacity import ORIGINAL
from alit_cli.analysis.studies.capacity_compared import ComparedCapacity, originals

Dash = Literal["-", ":", "--", "-."]
# Solid is one budget for all; criteria take these in turn.
DASHES: tuple[Dash, ...] = (":", "--", "-.")


def draw_compared_capacity(result: ComparedCapacity, source: str, path: Path) -> None:
    """Draw a panel for each outcome against bits, and one of the first outcome against tokens.

    Colours are tokenizers, dashes criteria; INK is the mixture. `source` says under the figure where the numbers come
    from. Raises what `open_output` raises.
    """
    table = pd.DataFrame(result.points)
    table = table[(table.group == ALL_IMAGES) & table.value.notna()].rename(columns={"mean_tokens": TOKENS})
    lines = [line for line in dict.fromkeys(table.line) if line not in (UNIFORM, ORIGINAL)]
    dashes: dict[str, Dash] = {
        UNIFORM: "-",
        **{line: DASHES[number % len(DASHES)] for number, line in enumerate(lines)},
    }
    level = originals(result)
    panels: list[Callable[[Axes], None]] = []
    for number, outcome in enumerate(result.outcomes):
        for spent in (BITS, TOKENS) if number == 0 else (BITS,):
            draw = partial(_draw_outcome, names=result.names, spent=spent, outcome=outcome, dashes=dashes)
            panels.append(partial(draw, points=table[table.outcome == outcome.name], original=level.get(outcome.name)))
    columns = 2 if len(panels) in (2, 4) else 3
    rows = math.ceil(len(panels) / columns)
    with figure_page((4.3 * columns, 3.6 * rows + 1.3), "What survives, by tokenizer", source, path) as figure:
        draw_panels(figure, panels, rows, columns)
        handles = tokenizer_handles(result.names)
        handles += [
            Line2D([], [], color=GREY, linestyle=dash, label="one budget for all" if line == UNIFORM else f"by {line}")
            for line, dash in dashes.items()
        ]
        handles.append(Line2D([], [], color=INK, linestyle=dashes[lines[0]] if lines else "-", label=ALL))
        if level:
            handles.append(Line2D([], [], color=GREY, linewidth=0.8, label="original images"))
        # Beside the title, as the lower edge holds the source.
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, fontsize=8)
        separate_labels(figure)


def _draw_outcome(
    axes: Axes,
    points: pd.DataFrame,
    names: Sequence[str],
    spent: str,
    outcome: Outcome,
    dashes: dict[str, Dash],
    original: float | None,
) -> None:
    """Points of fixed length, curves of adaptive ones, and in INK the mixture, against what they spend."""
    for name, colour, marker in looks(names):
        own = points[points.tokenizer == name]
        for line, dash in dashes.items():
            some = own[own.line == line].sort_values(spent)
            # Only budgets have markers: those of the criteria would lie upon one another.
            shape = marker if line == UNIFORM else ""
            size = marker_size(len(some))
            axes.plot(some[spent], some.value, dash, color=colour, marker=shape, markersize=size)
            if line == UNIFORM and some.low.notna().all():
                error = [(some.value - some.low).clip(lower=0), (some.high - some.value).clip(lower=0)]
                axes.errorbar(some[spent], some.value, error, fmt="none", ecolor=colour, elinewidth=0.7)
    if spent == BITS:  # tokens of different codebooks do not add up
        for line, dash in dashes.items():
            mixed = points[(points.tokenizer == ALL) & (points.line == line)].sort_values(spent)
            axes.plot(mixed[spent], mixed.value, dash, color=INK, linewidth=1)
    if original is not None:
        axes.axhline(original, color=GREY, linewidth=0.8)
    cost_axis(axes, spent, points[points.line == UNIFORM][spent])
    axes.yaxis.set_major_locator(MaxNLocator(6))
    if outcome.test is not None:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    better = "lower is better" if outcome.lower_is_better else "higher is better"
    axes.set_title(f"{outcome.label[:1].upper()}{outcome.label[1:]}\n{better}", loc="left")
