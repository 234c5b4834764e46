"""What the figures that compare tokenizers have in common: how each is drawn, and the axes of bits and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter

from alit_cli.analysis.figures.style import COLOURS, MARKERS

BITS, TOKENS = "bits", "tokens"
LABELS = {BITS: "bits per image (log scale)", TOKENS: "tokens per image (log scale)"}
NEAREST_TICKS = 1.6
"""Labels whose values are nearer than this factor would overlap."""


def looks(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Name, colour and marker of each tokenizer; both repeat where there are more than six."""
    return [(name, COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]) for index, name in enumerate(names)]


def marker_size(points: int) -> float:
    """The size of the markers of a line: one point has no line to be seen by, so its marker is larger."""
    return 6.0 if points == 1 else 4.0


def tokenizer_handles(names: Sequence[str]) -> list[Line2D]:
    """The entries of the legend that name the tokenizers."""
    return [
        Line2D([], [], color=colour, marker=marker, linestyle="-", markersize=4, label=name)
        for name, colour, marker in looks(names)
    ]


def cost_axis(axes: Axes, spent: str, reached: Iterable[float]) -> None:
    """A logarithmic axis of BITS or TOKENS, with ticks at what budgets cost."""
    # Budgets and bits are often powers of two, which then stand at equal distances.
    axes.set_xscale("log", base=2)
    ticks: list[float] = []
    for value in sorted(set(reached)):
        if not ticks or value > NEAREST_TICKS * ticks[-1]:
            ticks.append(value)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set_xlabel(LABELS[spent])
