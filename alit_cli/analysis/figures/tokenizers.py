"""What the figures that compare tokenizers have in common: how each is drawn, and the axes of bits and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter

from alit_cli.analysis.figures.style import COLOURS, MARKERS

BITS, TOKENS = "bits", "tokens"
LABELS = {BITS: "bits per image (log scale)", TOKENS: "tokens per image (log scale)"}
LETTERS_BETWEEN = 1.0
"""Labels of an axis have so much room between them, as a share of the height of their letters."""


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
    """A logarithmic axis of BITS or TOKENS, with ticks at what budgets cost; see `separate_labels`."""
    # Budgets and bits are often powers of two, which then stand at equal distances.
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(reached)))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set_xlabel(LABELS[spent])


def separate_labels(figure: Figure) -> None:
    """Leave of every `cost_axis` the ticks whose labels stand apart; for the end, when all is in the figure."""
    # How wide a panel is, and so which labels touch, is known only after the layout.
    figure.draw_without_rendering()
    for axes in figure.axes:
        if axes.get_xlabel() not in LABELS.values():
            continue
        kept: list[float] = []
        end = float("-inf")
        for value, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
            place = label.get_window_extent()
            if place.x0 > end:
                kept.append(float(value))
                end = place.x1 + LETTERS_BETWEEN * place.height
        axes.set_xticks(kept)
