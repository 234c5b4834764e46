"""The figure of `alit analyze probe`: accuracies by tokens, beside raw pixels and chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from alit_cli.analysis.figures.style import GREY, figure_page, is_paper, thin_ticks
from alit_cli.analysis.probe.probing import Accuracy, pool_name

# The colours of `style`, each bound to a pool, so that a figure of two pools looks like one of five.
COLOURS = {"latents": "#0072b2", "first": "#56b4e9", "image": "#d55e00", "both": "#009e73", "all": "#cc79a7"}


def draw_probe(accuracies: Sequence[Accuracy], first: int, source: str, path: Path) -> None:
    """Accuracy over tokens, a line per pool with 95 % bars, beside raw pixels and chance.

    Args:
        accuracies: the probes, raw pixels first.
        first: latents in the pool of that name.
        source: under the figure: where the numbers come from.
        path: its suffix is the format. Raises what `open_output` raises.
    """
    # Raw pixels are probed first, which is the promise of `features_of`.
    plain = accuracies[0]
    # In one column of a paper the legend stands below the panel and takes height.
    height = 6.0 if is_paper() else 4.6
    with figure_page((7.6, height), "Linear probe on pooled encoder output", source, path) as figure:
        axes = figure.subplots()
        # Raw pixels have no tokens, so they are a level over the whole width, with a band in place of a bar.
        axes.axhspan(plain.low, plain.high, color=GREY, alpha=0.1, linewidth=0)
        axes.axhline(plain.accuracy, color=GREY, linestyle="--", label=f"raw pixels ({plain.dimensions} numbers)")
        axes.axhline(plain.chance, color=GREY, linestyle=":", label="chance: the most frequent class")
        pools = list(dict.fromkeys(row.pool for row in accuracies[1:]))
        budgets = sorted({row.tokens for row in accuracies if row.tokens is not None})
        if len(budgets) > 1:
            _draw_lines(axes, accuracies[1:], pools, budgets, first)
        else:
            _draw_points(axes, accuracies[1:], first)
        # The axis begins at 0, because a cut axis would make small gains look large.
        axes.set(ylabel=f"top-1 accuracy{'' if is_paper() else ' (bars and band: 95 %)'}", ylim=(0, None))
        if is_paper():
            figure.legend(loc="outside lower left")
        else:
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 0.8))


def _draw_lines(axes: Axes, rows: Sequence[Accuracy], pools: Sequence[str], budgets: Sequence[int], first: int) -> None:
    """A line per pool over the tokens."""
    apart = 0.1 * min(b - a for a, b in pairwise(budgets))  # so that no bar hides another
    for number, pool in enumerate(pools):
        own = [row for row in rows if row.pool == pool]
        places = [(row.tokens or 0) + apart * (number - (len(pools) - 1) / 2) for row in own]
        line, error = _bars(own)
        axes.errorbar(
            places, line, error, color=COLOURS[pool], marker="o", elinewidth=0.9, label=pool_name(pool, first)
        )
    axes.set_xlabel("tokens")
    thin_ticks(axes, budgets)


def _draw_points(axes: Axes, rows: Sequence[Accuracy], first: int) -> None:
    """One point per pool, named below it: of one iteration there is no course to follow."""
    for place, row in enumerate(rows):
        line, error = _bars([row])
        axes.errorbar([place], line, error, color=COLOURS[row.pool], fmt="o", elinewidth=0.9)
    axes.set_xticks(range(len(rows)), [pool_name(row.pool, first).replace(" ", "\n", 1) for row in rows])
    axes.set_xlim(-0.6, len(rows) - 0.4)
    if rows:
        axes.set_xlabel(f"pool of the encoder's output at {rows[0].tokens} tokens")


def _bars(rows: Sequence[Accuracy]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The accuracies, and how far their intervals reach below and above."""
    line, low, high = (np.array([getattr(row, name) for row in rows]) for name in ("accuracy", "low", "high"))
    return line, np.stack([line - low, high - line])
