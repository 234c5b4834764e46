"""How every figure looks: style, colours, and two sizes; written whole or not at all.

A `wide` figure stands for itself on a screen: a title above, its source below. A `paper` figure has the true width of
one or two columns of a conference paper and letters of the size of its captions; it has no title and no source line,
because the paper's caption says both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from alit_cli.data.files import open_output
from alit_cli.data.marks import figure_metadata
from alit_cli.data.tables.token_table import TableInfo

Colours = Mapping[int, tuple[float, ...]]
FigureSize = Literal["wide", "paper"]
# A context variable and not an argument, because every function between the option and the figure would have to pass it
# on.
SIZE: ContextVar[FigureSize] = ContextVar("figure_size", default="wide")
"""The size that figures are drawn in; like matplotlib's own settings it holds for all figures of a block."""
ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9
"""Inches: the widths of a column and of a page of the usual two-column paper."""
WIDEST_OF_ONE_COLUMN = 8.0
"""Inches of a wide figure up to which it fits one column."""

INK, GREY, FAINT = "#222222", "#6b6b6b", "#e6e6e6"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart by every kind of colour vision."""
# There are as many markers as colours, so that each line keeps its own pair also in grey print.
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
    "lines.linewidth": 1.5,
    "lines.markersize": 4.0,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": "medium",
}
PAPER: dict[Any, object] = {
    "font.size": 7.0,
    "axes.titlesize": 7.0,
    "figure.labelsize": 7.0,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.6,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.labelpad": 2.0,
    "axes.titlepad": 3.0,
    "legend.handlelength": 1.8,
    "legend.labelspacing": 0.3,
    "legend.columnspacing": 1.2,
    "pdf.fonttype": 42,
}
"""What differs at the size of a column. Type 42 embeds letters as outlines, which publishers ask for."""


def budget_colours(budgets: Sequence[int]) -> Colours:
    """A colour per budget, light to dark as tokens are added; told apart by every kind of colour vision."""
    # The lightest shades of viridis are too pale for lines on white paper.
    shades = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.0, len(budgets)))
    return {budget: tuple(shade) for budget, shade in zip(budgets, shades, strict=True)}


def made_by(info: TableInfo) -> str:
    """Which model a figure's numbers come from: `nano (8a1b2c3d), 128×128 pixels`."""
    return f"{info.model} ({info.model_id[:8]}), {info.image_size}×{info.image_size} pixels"


@contextmanager
def figure_size(size: FigureSize) -> Iterator[None]:
    """Draw all figures of this block in one size."""
    # The token brings back what was set before, so that blocks can be nested.
    token = SIZE.set(size)
    try:
        yield
    finally:
        SIZE.reset(token)


def is_paper() -> bool:
    """Whether figures are drawn at the size of a paper's column."""
    return SIZE.get() == "paper"


@contextmanager
def drawing_style() -> Iterator[None]:
    """Draw in alit's style, at the size that is set."""
    # The settings of a program that calls us are as they were after the block.
    with matplotlib.rc_context({**STYLE, **(PAPER if is_paper() else {})}):
        yield


@contextmanager
def figure_page(size: tuple[float, float], title: str, source: str, path: Path) -> Iterator[Figure]:
    """An empty figure to draw on, which is written at the end of the block.

    Args:
        size: inches of the wide figure; at a paper's size it is made smaller in the same proportion.
        title: above the wide figure.
        source: below it: how many images, which model.
        path: its suffix is the format. Raises what `open_output` raises.
    """
    with drawing_style():
        figure = empty_figure(size)
        if not is_paper():
            figure.suptitle(title, x=0.008, ha="left", fontsize=13, fontweight="bold")
            figure.supxlabel(source, x=0.008, ha="left", fontsize=8, color=GREY)
        yield figure
        # An error while drawing passes this line by, so no half-drawn figure is written.
        save_figure(figure, path)


def empty_figure(size: tuple[float, float]) -> Figure:
    """A figure of this size in inches, or of a paper's column in the same proportion; call it in `drawing_style`."""
    if is_paper():
        figure = Figure(figsize=column_size(size), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    else:
        figure = Figure(figsize=size, layout="constrained")
    # A canvas of its own draws without pyplot, which would look for a display and keep every figure in memory.
    FigureCanvasAgg(figure)
    return figure


def column_size(size: tuple[float, float]) -> tuple[float, float]:
    """Inches of a paper's figure for those of the wide one: as wide as one column or two.

    Letters shrink less than the figure does, so that it is made a little higher in proportion.
    """
    width = ONE_COLUMN if size[0] <= WIDEST_OF_ONE_COLUMN else TWO_COLUMNS
    # 12 % more height is what the larger letters take.
    return width, 1.12 * size[1] * width / size[0]


def draw_panels(figure: Figure, panels: Sequence[Callable[[Axes], None]], rows: int, columns: int) -> None:
    """Let every panel draw into its place of a grid, row by row; places that are left over stay empty."""
    for index, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        if index < len(panels):
            panels[index](axes)
        else:
            axes.remove()


def thin_ticks(axes: Axes, budgets: Sequence[int]) -> None:
    """Put ticks at budgets, as many as have room: half of them where there are more than eight."""
    # The double minus rounds the division up.
    axes.set_xticks(budgets[:: -(-len(budgets) // 8)])


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure in the format of its suffix, whole or not at all."""
    form = path.suffix[1:]
    with open_output(path, "figure") as file:
        # 300 dots per inch are what printers ask for; 160 are enough for a screen.
        figure.savefig(file, dpi=300 if is_paper() else 160, format=form, metadata=figure_metadata(form))
