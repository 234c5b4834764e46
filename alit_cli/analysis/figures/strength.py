"""The figure of `alit analyze strength`: what models lose, by their strength."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from alit_cli.analysis.figures.style import GREY, budget_colours, figure_page
from alit_cli.analysis.studies.strength import Strength


def draw_strength(result: Strength, source: str, path: Path) -> None:
    """Draw each model's drop against its own strength, a line per budget; what `open_output` raises."""
    table = pd.DataFrame(result.rows).sort_values("strength")
    share = result.outcome.test is not None
    with figure_page((7.4, 4.8), "What models lose, by their strength", source, path) as figure:
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


def _name_models(axes: Axes, table: pd.DataFrame) -> None:
    """Each model's name above its highest point."""
    for model, own in table.groupby("model"):
        axes.annotate(
            str(model),
            (float(own.strength.iloc[0]), float(np.nanmax(own[["drop", "drop_high"]].to_numpy(np.float64)))),
            (0, 4),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize=8.5,
        )
