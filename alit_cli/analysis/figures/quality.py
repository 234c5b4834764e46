"""The quality table drawn as a figure: error against bits beside baselines, images below thresholds, codes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from alit_cli.analysis.figures.style import (
    COLOURS,
    GREY,
    INK,
    budget_colours,
    draw_panels,
    figure_page,
    is_paper,
    thin_ticks,
)
from alit_cli.analysis.stats.loss_histogram import EDGES
from alit_cli.analysis.studies.quality import BASE, SYSTEMS, TOKENS, Quality, Row

Style = Literal["-", "--", ":"]
Look = tuple[str, str, Style]
LOOKS: dict[str, Look] = {
    TOKENS: ("#0d6b63", "o", "-"),
    "thumb": ("#8a857b", "s", "-"),
    "jpeg": ("#b9480e", "D", "-"),
    "webp": ("#3b6fb5", "^", "-"),
    BASE: (INK, "", "--"),
}
"""Colour, marker and line of each system."""
AXES = {
    "l1": "mean L1 (pixels in 0–1)",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "frechet": "Fréchet distance",
}


def draw_quality(result: Quality, budgets: Sequence[int], source: str, path: Path) -> None:
    """Draw every panel that there are numbers for, in the format of the path's suffix.

    `source` says under the figure where the numbers come from. Raises what `open_output` raises.
    """
    # A measure of other codecs alone has no panel: there would be nothing beside it.
    measures = [name for name in AXES if any(not math.isnan(getattr(row, name)) for row in result.of(TOKENS))]
    panels: list[Callable[[Axes], None]] = [partial(_draw_measure, result=result, name=name) for name in measures]
    panels.append(partial(_draw_below, result=result, budgets=budgets))
    if result.codes:
        panels += [partial(_draw_codes, result=result), partial(_draw_changed, result=result)]
    # Four panels fill a square; more of them in rows of two would make the figure too high for a page.
    # Seven or eight of them would leave one or two in a third row, where a page is wide enough for four in a row.
    columns = 2 if len(panels) == 4 else 4 if len(panels) in (7, 8) and not is_paper() else min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    # A codec at its smallest size is one point for all budgets, which would look like a mistake without a word.
    if any(len({row.bits for row in result.of(system)}) == 1 for system in ("jpeg", "webp")):
        source += " · a codec of one point: its smallest files are larger than the tokens"
    with figure_page((4.1 * columns, 3.3 * rows + 1), "Quality by tokens", source, path) as figure:
        draw_panels(figure, panels, rows, columns)
        curves = [system for system in SYSTEMS if system != BASE and result.of(system)]
        handles = [_handle(SYSTEMS[system], *LOOKS[system]) for system in curves]
        handles += [_handle(result.label(row), *look) for row, look in _levels(result)]
        figure.legend(
            handles=handles,
            loc="outside upper left" if is_paper() else "outside upper right",
            ncols=3 if is_paper() else len(handles),
        )


def _handle(label: str, colour: str, marker: str, style: Style) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle=style, label=label)


def _levels(result: Quality) -> list[tuple[Row, Look]]:
    """The rows whose bits are not in the tables, and how their levels look: the base tokenizer, then other codecs."""
    codecs = [row for row in result.levels if row.system != BASE]
    looks: list[Look] = [(COLOURS[-1 - number % len(COLOURS)], "", ":") for number in range(len(codecs))]
    return [(row, LOOKS[BASE]) for row in result.of(BASE)] + list(zip(codecs, looks, strict=True))


def _draw_measure(axes: Axes, result: Quality, name: str) -> None:
    """One measure against the bits really spent; what has bits that are not in the tables as a level."""
    spent: list[float] = []
    for system, (colour, marker, style) in LOOKS.items():
        rows = [row for row in result.of(system) if row.budget and not math.isnan(getattr(row, name))]
        if rows:
            axes.plot(
                [row.bits for row in rows], [getattr(row, name) for row in rows], style, color=colour, marker=marker
            )
            spent += [row.bits for row in rows]
    for row, (colour, _, style) in _levels(result):
        if not math.isnan(value := getattr(row, name)):
            axes.axhline(value, color=colour, linestyle=style, linewidth=1.4)
    axes.set_xscale("log", base=2)
    ticks: list[float] = []
    # Powers of two continue the ticks, where the files of codecs are larger than all of the tokens.
    for bits in sorted([row.bits for row in result.of(TOKENS)] + [2**power for power in range(10, 25)]):
        # Labels of neighbours that are nearer than this would overlap.
        if bits <= max(spent) and (not ticks or bits > (2.4 if is_paper() else 1.9) * ticks[-1]):
            ticks.append(bits)
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.minorticks_off()
    axes.set(xlabel="bits per image (log scale)", ylabel=AXES[name])


def _draw_below(axes: Axes, result: Quality, budgets: Sequence[int]) -> None:
    """Share of images below each threshold, a line per budget."""
    colours = budget_colours(budgets)
    for budget, share in zip(budgets, result.below, strict=True):
        axes.plot(EDGES, share, color=colours[budget], label=str(budget))
    # Thresholds where the share of no line changes are cut off, but for ten steps at either side.
    changing = np.flatnonzero((result.below > 0.005).any(axis=0) & (result.below < 0.995).any(axis=0))
    if len(changing):
        axes.set_xlim(float(EDGES[max(changing[0] - 10, 0)]), float(EDGES[min(changing[-1] + 10, len(EDGES) - 1)]))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="threshold of L1", ylabel="share of images below")
    axes.set_title("Images below each L1, by tokens", loc="left")
    # Lines may run below the legend, which stays readable on its own ground.
    ground = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}
    axes.legend(title="tokens", fontsize="small", title_fontsize="small", loc="lower right", ncols=2, **ground)


def _draw_codes(axes: Axes, result: Quality) -> None:
    """Share of the codebook that occurs; the entropy of the ids as a share of what it could be."""
    rows = result.of(TOKENS)
    budgets = [_budget(row) for row in rows]
    axes.plot(
        budgets, [row.codes_used for row in rows], "-o", color="#0d6b63", label=f"codes that occur, of {result.codes}"
    )
    most = math.log2(result.codes)
    entropy = [row.entropy / most for row in rows]
    label = f"entropy of the ids, of {most:.4g} bits"
    axes.plot(budgets, entropy, "--s", color="#b9480e", label=label)
    # Few images cannot use all codes, even if every id were another; this line says how far they could.
    ids = [min(row.images * _budget(row) / result.codes, 1) for row in rows]
    if ids[0] < 1:
        axes.plot(budgets, ids, ":", color=GREY, label="as many codes as there are ids")
    axes.set_title("Codes in use", loc="left")
    thin_ticks(axes, budgets)
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="tokens", ylabel="share")
    axes.legend(fontsize="small")


def _draw_changed(axes: Axes, result: Quality) -> None:
    """What an iteration changes of the tokens that were there before it."""
    rows = [row for row in result.of(TOKENS) if not math.isnan(row.changed)]
    # Budgets as texts give bars at equal distances.
    axes.bar([str(row.budget) for row in rows], [row.changed for row in rows], color="#0d6b63", width=0.7)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(xlabel="tokens", ylabel="share of earlier ids")
    axes.set_title("Ids that the iteration changes", loc="left")


def _budget(row: Row) -> int:
    assert row.budget is not None  # only the base tokenizer has none
    return row.budget
