"""Familiarity and strength drawn as figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from alit_cli.analysis.familiarity import Familiarity
from alit_cli.analysis.figures import GREY, INK, STYLE, budget_colours
from alit_cli.analysis.figures_capacity import COLOURS, MARKERS, save_figure
from alit_cli.analysis.strength import Strength


def draw_familiarity(result: Familiarity, source: str, path: Path) -> None:
    """Draw mean L1 by budget, the tokens needed, and how far each set stands from the first.

    `source` says under the figure where the numbers come from. What `atomic_file` raises.
    """
    names = [one.name for one in result.sets]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 3.6 + 0.12 * len(names)), layout="constrained")
        FigureCanvasAgg(figure)
        left, middle, right = figure.subplots(1, 3)
        for number, one in enumerate(result.sets):
            own = result.needs[result.needs.set == one.name]
            colour, marker = _style(number)
            label = f"{one.name} (n = {len(one.l1)})"
            left.plot(own.tokens, own.l1, color=colour, marker=marker, markersize=4, linewidth=1.5, label=label)
            width = 0.8 / len(names)
            places = np.arange(len(own)) + width * (number - (len(names) - 1) / 2)
            middle.bar(places, own.share, width, color=colour)
        left.set(xlabel="tokens", ylabel="mean L1 (pixels in 0–1)", xticks=result.budgets)
        left.set_title("What more tokens buy", loc="left", fontsize=10)
        left.legend(frameon=False, fontsize=8.5)
        threshold = result.thresholds[len(result.thresholds) // 2]
        middle.set_xticks(range(len(result.budgets)), [str(budget) for budget in result.budgets])
        middle.set(xlabel="tokens needed", ylabel="share of images")
        middle.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        middle.set_title(f"Tokens needed for L1 < {threshold:g} (the last: or never)", loc="left", fontsize=10)
        _draw_differences(right, result, names, f"tokens(l1<{threshold:g})")
        figure.suptitle("Familiar and unfamiliar images", x=0.008, ha="left", fontsize=13, fontweight="bold")
        figure.supxlabel(source, x=0.008, ha="left", fontsize=8, color=GREY)
        save_figure(figure, path)


def _draw_differences(axes: Axes, result: Familiarity, names: Sequence[str], need: str) -> None:
    """Cliff's δ of each set against the first: filled as they are, open where JPEG bytes are matched."""
    rows = [row for row in result.differences if row.measure in ("l1 gap", need)]
    labels = list(dict.fromkeys((row.set, row.measure) for row in rows))
    for row in rows:
        colour, marker = _style(names.index(row.set))
        place = labels.index((row.set, row.measure)) + (0.14 if row.matched else -0.14)
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.5)
        face = "white" if row.matched else colour
        axes.plot(row.delta, place, color=colour, marker=marker, markerfacecolor=face, markersize=6)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlim=(-1, 1), xlabel=f"Cliff's δ: less than {names[0]}  ←  0  →  more than {names[0]}")
    axes.set_yticks(range(len(labels)), [f"{name}: {measure}" for name, measure in labels])
    axes.invert_yaxis()
    axes.set_title(f"Against {names[0]} (open: at matched JPEG bytes)", loc="left", fontsize=10)


def draw_strength(result: Strength, source: str, path: Path) -> None:
    """Draw each model's drop against its own strength, a line per budget; what `atomic_file` raises."""
    table = pd.DataFrame(result.rows).sort_values("strength")
    share = result.outcome.test is not None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.8), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for budget, colour in budget_colours(sorted(table.budget.unique())).items():
            line = table[table.budget == budget]
            error = np.stack([line["drop"] - line.drop_low, line.drop_high - line["drop"]]).clip(min=0)
            axes.errorbar(
                line.strength,
                line["drop"],
                None if np.isnan(error).any() else error,
                color=colour,
                marker="o",
                markersize=4,
                linewidth=1.5,
                elinewidth=0.8,
                label=f"{budget} tokens",
            )
        _name_models(axes, table)
        if share:
            axes.xaxis.set_major_formatter(PercentFormatter(1))
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        unit = " (points)" if share else ""
        axes.set(xlabel=f"{result.outcome.label} on the originals", ylabel=f"lost on reconstructions{unit}")
        axes.margins(0.12, 0.1)
        figure.legend(loc="outside right upper", frameon=False, fontsize=8.5)
        figure.suptitle("What models lose, by their strength", x=0.008, ha="left", fontsize=13, fontweight="bold")
        figure.supxlabel(source, x=0.008, ha="left", fontsize=8, color=GREY)
        save_figure(figure, path)


def _name_models(axes: Axes, table: pd.DataFrame) -> None:
    """Each model's name above its highest point."""
    for model, own in table.groupby("model"):
        axes.annotate(
            str(model),
            (float(own.strength.iloc[0]), float(own[["drop", "drop_high"]].max(axis=None))),
            (0, 4),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize=8.5,
        )


def _style(number: int) -> tuple[str, str]:
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
