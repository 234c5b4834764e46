"""Scores of images, as a csv, tsv, xlsx or parquet file lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from alit_cli.data.annotations.frames import IMAGE_NAMES, find_column, read_frame
from alit_cli.errors import InputError

# The names that columns go by, the likeliest first; compared without case, spaces and signs.
SCORE_NAMES = (
    "score",
    "scores",
    "complexity",
    "complexityscore",
    "meanscore",
    "groundtruth",
    "gt",
    "mos",
    "rating",
    "rank",
)
GROUP_NAMES = ("category", "group", "class", "domain", "type", "dataset")


@dataclass(frozen=True)
class Scores:
    """One score per image, as a file lists them; n rows.

    Attributes:
        images: the names as written, n.
        score: finite numbers, float64 n.
        groups: the group of each row, or None where the file has no groups.
        columns: the names of the columns that were read, (image, score, group or None).
        unscored: rows left out because they have no score.
    """

    images: tuple[str, ...]
    score: NDArray[np.float64]
    groups: tuple[str, ...] | None
    columns: tuple[str, str, str | None]
    unscored: int


def read_scores(
    path: Path, image_col: str | None = None, score_col: str | None = None, group_col: str | None = None
) -> Scores:
    """Read a csv, tsv, parquet or xlsx file with one row per image; columns not given are found by their names.

    Raises InputError where the file or a column cannot be read, and for a score that is not a number.
    Rows without a score are left out and counted.
    """
    frame = read_frame(path)
    image = find_column(frame, image_col, IMAGE_NAMES, "image names", "--image-col", path)
    score = find_column(frame, score_col, SCORE_NAMES, "scores", "--score-col", path, taken=(image,))
    group = _group_column(frame, group_col, path, taken=(image, score))
    values = _numbers(frame[score], path)
    kept = frame[values.notna() & frame[image].notna()]
    if kept.empty:
        raise InputError(f"{path} has no row with both a name in '{image}' and a score in '{score}'.")
    return Scores(
        images=tuple(map(str, kept[image])),
        score=np.asarray(values[kept.index], np.float64),
        # A scored image without a group is kept, under a name that no real group is likely to have.
        groups=None if group is None else tuple(kept[group].astype("string").fillna("(none)")),
        columns=(image, score, group),
        unscored=len(frame) - len(kept),
    )


def _group_column(frame: pd.DataFrame, given: str | None, path: Path, taken: Sequence[str]) -> str | None:
    try:
        return find_column(frame, given, GROUP_NAMES, "groups", "--group-col", path, taken)
    # Groups are optional: only a column that the user named must be there.
    except InputError:
        if given is not None:
            raise
        return None


def _numbers(column: pd.Series[str], path: Path) -> pd.Series[float]:
    """The column as finite numbers, NaN where it is empty."""
    values = pd.to_numeric(column, errors="coerce").astype(np.float64)
    wrong = column[values.isna() & column.notna()]
    if len(wrong):
        raise InputError(f"{path} has the score '{wrong.iloc[0]}' in '{column.name}', which is not a number.")
    # Infinity is a number to pandas, but a correlation cannot use it, so it counts as no score.
    return values.where(np.isfinite(values))
