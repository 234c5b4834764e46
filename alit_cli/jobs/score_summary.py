"""What a finished score table holds, in a few numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alit_cli.data.tables.parquet import column_names, open_columns
from alit_cli.data.tables.score_table import ERROR, MAP_ERROR, ORIGINAL, ScoreInfo, read_score_info
from alit_cli.runs.shards import MAX_ERRORS

ANY = "any"
"""What stands in the place of the budget where it makes no difference."""


@dataclass(frozen=True)
class ScoreSummary:
    """What a finished score table holds.

    Attributes:
        path, task, model: which table.
        images: rows.
        failed: rows without scores.
        errors: the first few of them, as (image, sentence).
        means: measure → budget, 'original' or 'any' → mean over the images that have it; instead of a rank the shares
            of ranks up to 1 and 5, `top-1` and `top-5`; lists have none.
        remarks: sentences about images without labels and the like.
    """

    path: Path
    task: str
    model: str
    images: int
    failed: int
    errors: list[tuple[str, str]]
    means: dict[str, dict[str, float | None]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def summarize(path: Path) -> ScoreSummary:
    """Read a score table's summary; lists are not read."""
    info = read_score_info(path)
    assert info is not None
    # Feature vectors are large and have no mean that says anything.
    names = [name for name in column_names(path) if not name.startswith("features_")]
    table = open_columns(path, names)
    failed = table.filter(pc.is_valid(table[ERROR])).slice(0, MAX_ERRORS)
    errors = list(zip(failed["image"].to_pylist(), failed[ERROR].to_pylist(), strict=True))
    means: dict[str, dict[str, float | None]] = {}
    for measure in info.measures:
        ends = [end for end in (*info.ends, ORIGINAL) if f"{measure}_{end}" in names]
        if ends and pa.types.is_string(table[f"{measure}_{ends[0]}"].type):
            continue  # words, such as the class that a network sees, have no mean
        for label, most in (("top-1", 1), ("top-5", 5)) if measure == "class_rank" else ((measure, None),):
            means[label] = {end: _mean(table[f"{measure}_{end}"], most) for end in ends}
    means |= {name: {ANY: _mean(table[name], None)} for name in names if name.startswith("base_")}
    count = len(table) - table[ERROR].null_count
    remarks = list(_remarks(info, table, len(table) - count))
    means = {name: ends for name, ends in means.items() if ends}
    return ScoreSummary(path, info.task, info.model, len(table), count, errors, means, remarks)


def _remarks(info: ScoreInfo, table: pa.Table, fine: int) -> Iterator[str]:
    """What the means do not say of themselves."""
    if info.options.get("labels") == "predicted":
        yield "No labels were given: the first guess on the original image stands for the true class."
    unread = table.filter(pc.is_valid(table[MAP_ERROR])) if MAP_ERROR in table.column_names else table.slice(0, 0)
    if len(unread):
        image, why = unread["image"][0].as_py(), unread[MAP_ERROR][0].as_py()
        yield f"{len(unread)} of {fine} images have a depth map that cannot be read, such as '{image}': {why}"
    fine -= len(unread)
    known: dict[str, list[int]] = {}
    for measure in info.measures:
        names = [name for end in info.ends if (name := f"{measure}_{end}") in table.column_names]
        known[measure] = [len(table) - table[name].null_count for name in names]
    # An image that stopped early has no larger budget, and those that went on are the hard ones.
    if stopped := next((counts for counts in known.values() if counts and counts[0] > counts[-1]), None):
        yield (
            "Images stopped early, so the means of two budgets are not of the same images: "
            f"{stopped[0]} reached {info.ends[0]} tokens, and only {stopped[-1]} reached {info.ends[-1]}."
        )
    for measure, counts in known.items():
        most = max(counts, default=fine)
        if most < fine:
            yield f"{fine - most} of {fine} images have no {measure}: there is no label, map or question for them."
            return


def _mean(column: pa.ChunkedArray, most: int | None) -> float | None:
    """The mean of what is known and finite, or the share of values up to `most`."""
    values = column.drop_null().to_numpy()
    values = values[np.isfinite(values)] if most is None else values <= most
    return float(values.mean(dtype=np.float64)) if len(values) else None
