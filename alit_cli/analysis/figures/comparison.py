"""Several tokenizers in one figure: every measure against bits and tokens, and images below each L1."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from alit_cli.analysis.figures.style import GREY, INK, draw_panels, figure_page
from alit_cli.analysis.figures.tokenizers import BITS, TOKENS, cost_axis, looks, separate_labels, tokenizer_handles
from alit_cli.analysis.query.matched import ALL
from alit_cli.analysis.stats.loss_histogram import EDGES
from alit_cli.analysis.studies.comparison import Comparison, Point

AXES = {
    "l1": "mean L1 (pixels in 0–1)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "frechet": "Fréchet distance",
    "accuracy": "accuracy of the first guess",
}
FEW_CURVES = 3
"""Curves per tokenizer in the panel of thresholds: smallest, middle and largest budget; more cannot be told apart."""


def draw_comparison(result: Comparison, source: str, path: Path) -> None:
    """Draw every measure that there are numbers for against bits, L1 against tokens, and images below each L1.

    `source` says under the figure where the numbers come from. Raises what `open_output` raises.
    """
    known = [name for name in AXES if any(not math.isnan(getattr(point, name)) for point in result.points)]
    panels: list[Callable[[Axes], None]] = []
    for name in known:
        panels.append(partial(_draw_measure, result=result, name=name, spent=BITS))
        if name == "l1":
            panels.append(partial(_draw_measure, result=result, name=name, spent=TOKENS))
    panels.append(partial(_draw_below, result=result))
    # Two and four panels fill rows of two; more of them in such rows would make the figure too high for a page.
    columns = 2 if len(panels) in (2, 4) else 3
    rows = math.ceil(len(panels) / columns)
    with figure_page((4.3 * columns, 3.4 * rows + 1.3), "Tokenizers compared", source, path) as figure:
        draw_panels(figure, panels, rows, columns)
        handles = tokenizer_handles(result.names)
        handles.append(Line2D([], [], color=INK, linestyle="--", label=ALL))
        if any(result.of(name, "need") for name in result.names):
            handles.append(Line2D([], [], color=GREY, linestyle=":", label="each image by its own need"))
        # Beside the title, as the lower edge holds the source.
        figure.legend(handles=handles, loc="outside upper right", ncols=4, frameon=False, fontsize=8)
        separate_labels(figure)


def _draw_measure(axes: Axes, result: Comparison, name: str, spent: str) -> None:
    """Points of fixed length, curves of adaptive ones, and what each image takes by its own need."""
    reached: list[float] = []
    for tokenizer, colour, marker in looks(result.names):
        points = _known(result.of(tokenizer), name)
        x = [getattr(point, spent) for point in points]
        # A tokenizer of one budget has no line to be seen by, so its marker is larger.
        size = 6 if len(points) == 1 else 4
        axes.plot(x, [getattr(point, name) for point in points], "-", color=colour, marker=marker, markersize=size)
        needs = _known(result.of(tokenizer, "need"), name)
        axes.plot([getattr(p, spent) for p in needs], [getattr(p, name) for p in needs], ":", color=colour)
        reached += x
    if spent == BITS:  # tokens of different codebooks do not add up
        needs = _known(result.of(ALL, "need"), name)
        axes.plot([p.bits for p in needs], [getattr(p, name) for p in needs], "--", color=INK, linewidth=1)
    cost_axis(axes, spent, reached)
    axes.set_ylabel(AXES[name])


def _draw_below(axes: Axes, result: Comparison) -> None:
    """How many images have an L1 below each threshold; thicker lines have more tokens."""
    shown: list[np.ndarray] = []
    for tokenizer, colour, _ in looks(result.names):
        counts = result.below[tokenizer]
        steps = sorted({0, len(counts) // 2, len(counts) - 1})
        for place, step in enumerate(steps[:FEW_CURVES]):
            # A single curve is drawn as thick as the thickest of several.
            width = 1.8 if len(steps) == 1 else 0.8 + 0.6 * place
            label = f"{tokenizer}, {result.budgets[tokenizer][step]}"
            axes.plot(EDGES, counts[step], color=colour, linewidth=width, label=label)
            shown.append(counts[step])
    # From where the first curve leaves zero to where the last has all images.
    some = np.flatnonzero(np.max(shown, axis=0) > 0)
    all_of_them = np.flatnonzero(np.min(shown, axis=0) >= result.images)
    left = max(int(some[0]) - 10, 0) if len(some) else 0
    right = min(int(all_of_them[0]) + 10, len(EDGES) - 1) if len(all_of_them) else len(EDGES) - 1
    axes.set_xlim(float(EDGES[left]), float(EDGES[right]))
    axes.set_ylim(0, result.images * 1.02)
    # Half an image cannot be below a threshold, however few images there are.
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel="threshold of L1", ylabel=f"images below, of {result.images}")
    axes.legend(title="tokenizer, tokens", fontsize=6.5, title_fontsize=7, frameon=False, loc="best")


def _known(points: list[Point], name: str) -> list[Point]:
    return [point for point in points if not math.isnan(getattr(point, name))]
