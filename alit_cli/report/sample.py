"""Which images of a long table the page shows: as many of every need as there are, chosen at random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alit_cli.data.pictures.measures import PLAIN_MEASURES
from alit_cli.data.tables.parquet import column_names, stream_columns
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.report.facts import ok_rows, stream_losses


@dataclass(frozen=True)
class Sample:
    """Rows of a token table, in its order.

    Attributes:
        rows: their numbers, m ascending.
        of: how many images with tokens there are to choose from.
        table: m rows with image, source, width, height, L1, tokens and the measures that there are.
    """

    rows: NDArray[np.int64]
    of: int
    table: pa.Table


def take_sample(path: Path, info: TableInfo, most: int, threshold: float | None, seed: int = 0) -> Sample:
    """Choose at most `most` of the images that have tokens, and read them.

    Where there are more, each need at the threshold (and 'never') has an equal part, as far as there are images of
    it; without a threshold (a table without losses) all are one part. Raises InputError as `read_info`.
    """
    strata = _strata(path, info, threshold)
    rows = choose(strata, most, seed)
    there = column_names(path)
    columns = ["image", "source", "width", "height", *(name for name in PLAIN_MEASURES if name in there)]
    stems = [info.tokens, *(["l1"] if info.losses else [])]
    columns += [f"{stem}_{budget}" for stem in stems for budget in info.budgets]
    return Sample(rows, int((strata >= 0).sum()), _read(path, columns, rows))


def choose(strata: NDArray[np.int8], most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` places, ascending, drawn evenly from the strata; places with a negative stratum never."""
    generator = np.random.default_rng(seed)
    pools = [generator.permutation(np.flatnonzero(strata == which)) for which in np.unique(strata[strata >= 0])]
    chosen: list[NDArray[np.int64]] = []
    for index, pool in enumerate(sorted(pools, key=len)):  # what a small one leaves goes to the larger ones
        share = (most - sum(map(len, chosen))) // (len(pools) - index)
        chosen.append(pool[:share])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def _strata(path: Path, info: TableInfo, threshold: float | None) -> NDArray[np.int8]:
    """The need of every row as the place of its budget, T where it is never satisfied, -1 where it has no tokens."""
    found = []
    for batch, losses in stream_losses(path, info, ["image"]):
        own = np.full(batch.num_rows, -1, np.int8)
        if threshold is None or not losses.shape[1]:
            own[ok_rows(batch)] = 0
        else:
            below = losses < np.float32(threshold)
            own[ok_rows(batch)] = np.where(below.any(axis=1), below.argmax(axis=1), losses.shape[1])
        found.append(own)
    return np.concatenate(found) if found else np.zeros(0, np.int8)


def _read(path: Path, columns: list[str], rows: NDArray[np.int64]) -> pa.Table:
    """These rows; only one batch of the table is held at a time."""
    found, start = [], 0
    for batch in stream_columns(path, columns):
        own = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        found.append(batch.take(pa.array(own)))
        start += batch.num_rows
    return pa.Table.from_batches(found)
