"""Which image of a token table each score belongs to, and what the table knows about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alit_cli.analysis.studies.complexity_scores import Scores
from alit_cli.data.annotations.matching import Match, match
from alit_cli.data.files import readable
from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.pictures.views import number_photographs
from alit_cli.data.tables.parquet import column_names, open_columns
from alit_cli.data.tables.token_table import TableInfo, read_info
from alit_cli.errors import InputError


@dataclass(frozen=True)
class Study:
    """Scored images and what the token table knows about them; n images, T budgets.

    Attributes:
        score: one number per image, n.
        groups: the group of each image, n; None where the scores have no groups.
        losses: L1 at every budget, float32 n T, NaN where it is not known.
        measures: `jpeg_bytes`, `mad`, `thumbnail_32` … → n each; those the table has.
        pairs: which scores found an image.
        failed: scored images that were not tokenized and are left out.
        photographs: the number of each image's photograph, n, where the table has several views of each.
    """

    info: TableInfo
    score: NDArray[np.float64]
    groups: NDArray[np.str_] | None
    losses: NDArray[np.float32]
    measures: Mapping[str, NDArray[np.float64]]
    pairs: Match
    failed: int
    photographs: NDArray[np.int64] | None = None


def join_scores(tokens: Path, scores: Scores, rows: NDArray[np.int64] | None = None) -> Study:
    """Look up the scored images in a token table, or in these rows of it; InputError where none of them is there."""
    info, name = read_info(tokens), readable(str(tokens))
    if info.stop is not None or not info.losses:
        option = "--no-losses" if not info.losses else "--stop"
        raise InputError(f"'{name}' was made with {option}: a study wants L1 at every budget; tokenize again without.")
    present = set(column_names(tokens))
    losses = [f"l1_{budget}" for budget in info.budgets]
    described = [*PLAIN_MEASURES, *(f"thumbnail_{budget}" for budget in info.budgets)]
    measures = [column for column in described if column in present]
    table = open_columns(tokens, ["image", "status", *losses, *measures])
    if rows is not None:
        table = table.take(rows)
    keys = table["image"].to_pylist()
    pairs = match(scores.images, keys)
    if not len(pairs.names):
        raise InputError(
            f"None of the scores belongs to an image of '{name}': the scores name images like "
            f"{_examples(scores.images)}, the table has {_examples(keys)}."
        )
    frame = table.take(pairs.keys).to_pandas()
    # An image may be tokenized and still lack every loss, and such an image says nothing about complexity.
    ok = np.asarray((frame["status"] == "ok") & frame[losses].notna().any(axis=1))
    if not ok.any():
        raise InputError(f"None of the {len(ok)} scored images in '{name}' has an L1; its column `error` says why.")
    # Scores, groups and rows are cut in the same way, so that place i is one image in all of them.
    groups = None if scores.groups is None else np.array(scores.groups)[pairs.names][ok]
    photographs = number_photographs(frame["image"][ok].tolist()) if info.options.views else None
    return Study(
        info=info,
        score=scores.score[pairs.names][ok],
        groups=groups,
        losses=frame.loc[ok, losses].to_numpy(np.float32),
        measures={column: frame.loc[ok, column].to_numpy(np.float64) for column in measures},
        pairs=pairs,
        failed=int((~ok).sum()),
        photographs=photographs,
    )


def _examples(names: Sequence[str]) -> str:
    return " and ".join(f"'{name}'" for name in names[:2]) or "none"
