"""The figure of `alit analyze probe`: accuracies by tokens, beside raw pixels and chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from alit_cli.analysis.figures.style import GREY, figure_page
from alit_cli.analysis.probe.probing import Accuracy, pool_name

COLOURS = {"latents": "#0072b2", "first": "#56b4e9", "image": "#d55e00", "both": "#009e73"}


def draw_probe(found: Sequence[Accuracy], first: int, source: str, path: Path) -> None:
    """Accuracy over tokens, a line a pool with 95 % bars, beside raw pixels and chance.

    Args:
        found: the probes, raw pixels first.
        first: latents in the pool of that name.
        source: under the figure: where the numbers come from.
        path: its suffix is the format. Raises what `open_output` raises.
    """
    plain = found[0]
    with figure_page((7.6, 4.6), "Linear probe on pooled encoder output", source, path) as figure:
        axes = figure.subplots()
        axes.axhspan(plain.low, plain.high, color=GREY, alpha=0.1, linewidth=0)
        axes.axhline(plain.accuracy, color=GREY, linestyle="--", label=f"raw pixels ({plain.dimensions} numbers)")
        axes.axhline(plain.chance, color=GREY, linestyle=":", label="chance: the most frequent class")
        pools = list(dict.fromkeys(row.pool for row in found[1:]))
        budgets = sorted({row.tokens for row in found if row.tokens is not None})
        apart = 0.1 * min((b - a for a, b in pairwise(budgets)), default=1)  # so that no bar hides another
        for number, pool in enumerate(pools):
            rows = [row for row in found if row.pool == pool]
            places = [(row.tokens or 0) + apart * (number - (len(pools) - 1) / 2) for row in rows]
            line, low, high = (np.array([getattr(row, name) for row in rows]) for name in ("accuracy", "low", "high"))
            style: dict[str, Any] = {"color": COLOURS[pool], "marker": "o", "markersize": 4, "elinewidth": 0.9}
            axes.errorbar(places, line, (line - low, high - line), label=pool_name(pool, first), **style)
        axes.set(xlabel="tokens", ylabel="top-1 accuracy (bars and band: 95 %)", xticks=budgets, ylim=(0, None))
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
