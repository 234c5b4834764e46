"""The table and the figure of `alit analyze probe`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from alit_cli.analysis.figures import GREY, STYLE
from alit_cli.analysis.probing import PIXELS, Accuracy
from alit_cli.data.atomic import atomic_file
from alit_cli.data.table import write_table

COLOURS = {"latents": "#0072b2", "first": "#56b4e9", "image": "#d55e00", "both": "#009e73"}


def pool_name(pool: str, first: int) -> str:
    """How a pool is called where people read it."""
    names = {"first": f"the first {first} latents", "image": "image tokens", "both": "latents and image tokens"}
    return {**names, PIXELS: "raw pixels"}.get(pool, pool)


def save_probe(found: Sequence[Accuracy], folder: Path) -> list[Path]:
    """Write probe.csv and probe.parquet, a row a probe; what `atomic_file` raises."""
    paths = [folder / "probe.csv", folder / "probe.parquet"]
    rows = [{**dataclasses.asdict(row), "penalties": " ".join(f"{c:g}" for c in row.penalties)} for row in found]
    table = pd.DataFrame(rows).astype({"iteration": "Int64", "tokens": "Int64"})
    with atomic_file(paths[0]) as file:
        table.to_csv(file, index=False, float_format="%.6g")
    write_table(pa.Table.from_pandas(table, preserve_index=False), paths[1])
    return paths


def draw_probe(found: Sequence[Accuracy], first: int, source: str, path: Path) -> None:
    """Accuracy over tokens, a line a pool with its 95 % band, beside raw pixels and chance.

    Args:
        found: the probes, raw pixels first.
        first: latents in the pool of that name.
        source: under the figure: where the numbers come from.
        path: its suffix is the format. Raises what `atomic_file` raises.
    """
    plain = found[0]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle("Linear probe on pooled encoder output", x=0.012, ha="left", fontsize=13, fontweight="bold")
        axes = figure.subplots()
        axes.axhspan(plain.low, plain.high, color=GREY, alpha=0.1, linewidth=0)
        axes.axhline(plain.accuracy, color=GREY, linestyle="--", label=f"raw pixels ({plain.dimensions} numbers)")
        axes.axhline(plain.chance, color=GREY, linestyle=":", label="chance: the most frequent class")
        for pool in dict.fromkeys(row.pool for row in found[1:]):
            rows = [row for row in found if row.pool == pool]
            tokens = [row.tokens or 0 for row in rows]
            line, low, high = ([getattr(row, name) for row in rows] for name in ("accuracy", "low", "high"))
            axes.plot(tokens, line, color=COLOURS[pool], marker="o", markersize=4, label=pool_name(pool, first))
            axes.fill_between(tokens, low, high, color=COLOURS[pool], alpha=0.08, linewidth=0)
        axes.set(xlabel="tokens", ylabel="top-1 accuracy (bands: 95 %)", ylim=(0, None))
        axes.set_xticks(sorted({row.tokens for row in found if row.tokens is not None}))
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        figure.supxlabel(source, x=0.012, ha="left", fontsize=8, color=GREY)
        with atomic_file(path) as file:
            figure.savefig(file, dpi=160, format=path.suffix[1:])
