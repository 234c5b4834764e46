"""How every figure looks: style, colours, a title above and its source below; written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alit_cli.data.files import open_output
from alit_cli.data.marks import figure_metadata
from alit_cli.data.tables.token_table import TableInfo

Colours = Mapping[int, tuple[float, ...]]

INK, GREY, FAINT = "#222222", "#6b6b6b", "#e6e6e6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by every kind of colour vision."""
MARKERS = "osD^vP"
STYLE: dict[Any, object] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def budget_colours(budgets: Sequence[int]) -> Colours:
    """A colour per budget, light to dark as tokens are added; told apart by every kind of colour vision."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.0, len(budgets)))
    return {budget: tuple(shade) for budget, shade in zip(budgets, shades, strict=True)}


def made_by(info: TableInfo) -> str:
    """Which model a figure's numbers come from: `nano (8a1b2c3d), 128×128 pixels`."""
    return f"{info.model} ({info.model_id[:8]}), {info.image_size}×{info.image_size} pixels"


@contextmanager
def figure_page(size: tuple[float, float], title: str, source: str, path: Path) -> Iterator[Figure]:
    """An empty figure to draw on, which is written at the end of the block.

    Args:
        size: inches.
        title: above the figure.
        source: below it: how many images, which model.
        path: its suffix is the format. Raises what `open_output` raises.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
        figure.supxlabel(source, x=0.008, ha="left", fontsize=8, color=GREY)
        yield figure
        save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix, whole or not at all."""
    form = path.suffix[1:]
    with open_output(path, "figure") as file:
        figure.savefig(file, dpi=160, format=form, metadata=figure_metadata(form))
