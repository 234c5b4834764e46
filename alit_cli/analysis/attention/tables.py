"""The tables of `alit analyze attention`: one row per image and iteration, and their means by iteration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from alit_cli.analysis.attention.binding import Binding, Keep, Segments, bind, regions
from alit_cli.analysis.attention.sparsity import Sameness, spreads
from alit_cli.analysis.studies.saving import save_csv, save_parquet
from alit_cli.data.tables.token_maps import TokenMaps

SETS = ("all", "first")
"""Whose best is taken: all tokens of the iteration, or the model's first budget of them."""
BEST = "best"
"""Stands for the share that suits an image best, beside the shares themselves."""


def measure_name(tokens: str, share: str, shuffled: bool) -> str:
    """The column of an mIoU: `iou_all_40`, or `chance_all_40` on other images' label maps."""
    return f"{'chance' if shuffled else 'iou'}_{tokens}_{share}"


def spread_rows(maps: TokenMaps) -> pd.DataFrame:
    """One row per iteration: `image` and the fields of `Spread`."""
    return pd.DataFrame(dataclasses.asdict(spread) for spread in spreads(maps)).assign(image=maps.image)


def overlap_rows(maps: TokenMaps, keep: Keep, label_maps: Mapping[str, Segments]) -> pd.DataFrame:
    """One row per label map (image key → segments) and iteration: `image iteration segments`, what binds, and `own`.

    `<all|first>_<share|best>` is the mean over segments of the best token's overlap; `own` says whether the label map
    is that of the maps' image.
    """
    rows = []
    for iteration, values in zip(maps.iterations, maps.maps, strict=True):
        # The regions do not depend on a label map, so they are computed once for all of them.
        kept = regions(values, len(maps.pixels), keep)
        for image, wanted in label_maps.items():
            row = {"image": image, "iteration": iteration, "own": image == maps.image, "segments": len(wanted.masks)}
            rows.append(row | _scores(bind(kept, wanted, maps.first), keep))
    return pd.DataFrame(rows)


def _scores(binding: Binding, keep: Keep) -> dict[str, float]:
    """Each share's mIoU, and the best of them."""
    scores: dict[str, float] = {}
    for tokens, values in zip(SETS, (binding.every, binding.first), strict=True):
        scores |= {f"{tokens}_{name}": float(value) for name, value in zip(keep.names, values, strict=True)}
        # Chance takes its best share in the same way, so this choice does not favour the image's own mask.
        scores[f"{tokens}_{BEST}"] = float(values.max())
    return scores


def join_rows(spread: pd.DataFrame, overlap: pd.DataFrame | None) -> pd.DataFrame:
    """One row per image and iteration: `image iteration tokens`, the fields of `Spread`; with label maps, what binds.

    `segments` and `iou_…` are of the image's label map under its own maps, `chance_…` the mean under the maps of other
    images: the same segments, and as many tokens to choose the best from.
    """
    # The name of the image comes first, as in every table of alit.
    table = spread[["image", *(name for name in spread if name != "image")]]
    if overlap is None:
        return table
    keys = ["image", "iteration"]
    # Columns of overlap begin with whose best they are, such as `all_40`.
    scores = [name for name in overlap if str(name).partition("_")[0] in SETS]
    own = overlap[overlap.own].drop(columns="own").rename(columns={name: f"iou_{name}" for name in scores})
    # The row of another label map has that image's name as its key, so chance belongs to the image whose segments these
    # are.
    others = overlap[~overlap.own].groupby(keys)[scores].mean().add_prefix("chance_").reset_index()
    table = table.merge(own, how="left", on=keys)
    # With --shuffles 0, or a single image, there are no others and no columns of chance.
    return table.merge(others, how="left", on=keys) if len(others) else table


def by_iteration(rows: pd.DataFrame, sameness: Sameness) -> pd.DataFrame:
    """Means over images: `iteration tokens measure images mean low high`, 95 % intervals (normal) over images.

    Where there is chance, `iou_x` is also compared with `chance_x` image by image: the measure `gain_x`. `sameness`,
    which is of all images together, has no interval.
    """
    values = rows.drop(columns=["image"])
    for column in [name for name in values if str(name).startswith("chance_")]:
        x = str(column).removeprefix("chance_")
        # The difference is taken within each image, so that easy and hard images do not widen its interval.
        values[f"gain_{x}"] = values[f"iou_{x}"] - values[column]
    # Values that are not known (the stability of the last iteration) count neither in means nor in n.
    long = values.melt(["iteration", "tokens"], var_name="measure", value_name="value").dropna(subset="value")
    groups = long.groupby(["iteration", "tokens", "measure"], sort=False).value
    table = groups.agg(images="count", mean="mean", deviation="std").reset_index()
    # 1.96 standard errors to either side are the 95 % interval of a normal distribution.
    half = 1.96 * table.deviation / np.sqrt(table.images)
    table = table.drop(columns="deviation").assign(low=table["mean"] - half, high=table["mean"] + half)
    alike = rows[["iteration", "tokens"]].drop_duplicates().assign(measure="sameness", images=sameness.images)
    alike["mean"] = [sameness.of(int(iteration)) for iteration in alike.iteration]
    return pd.concat([table, alike.dropna(subset="mean")], ignore_index=True)


def series(summary: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of one measure, by tokens."""
    return summary[summary.measure == measure].sort_values("iteration").reset_index(drop=True)


def save_attention(rows: pd.DataFrame, summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Write attention.csv (the means) and attention.parquet (every image); what `open_output` raises."""
    return [save_csv(summary, folder / "attention.csv"), save_parquet(rows, folder / "attention.parquet")]
