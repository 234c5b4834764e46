"""Which images the page shows pictures of: as many of every need as there are, chosen at random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alit_cli.data.tables.parquet import stream_columns
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.report.columns import Numbers


@dataclass(frozen=True)
class Sample:
    """Images with pictures.

    Attributes:
        places: their places among the images of the page's numbers, m ascending.
        rows: their row numbers in the token table, m.
        tokens: m rows with the tokens of every budget.
    """

    places: NDArray[np.int64]
    rows: NDArray[np.int64]
    tokens: pa.Table


def take_sample(path: Path, info: TableInfo, numbers: Numbers, most: int, threshold: float | None) -> Sample:
    """Choose at most `most` of the images that the page knows the numbers of, and read their tokens.

    Where there are more, each need at the threshold of L1 (and 'never') has an equal part, as far as there are images
    of it; without a threshold (a table without losses) all are one part. Raises InputError as `read_info`.
    """
    places = choose(_needs(numbers, threshold), most, 0)
    rows = numbers.rows[places]
    return Sample(places, rows, _read(path, [f"{info.tokens}_{budget}" for budget in info.budgets], rows))


def choose(strata: NDArray[np.int8], most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` places, ascending, drawn evenly from the strata; places with a negative stratum never."""
    generator = np.random.default_rng(seed)
    pools = [generator.permutation(np.flatnonzero(strata == which)) for which in np.unique(strata[strata >= 0])]
    chosen: list[NDArray[np.int64]] = []
    # The pools are taken from the smallest to the largest, and each share is counted from what is then left.
    for index, pool in enumerate(sorted(pools, key=len)):  # what a small one leaves goes to the larger ones
        share = (most - sum(map(len, chosen))) // (len(pools) - index)
        chosen.append(pool[:share])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def _needs(numbers: Numbers, threshold: float | None) -> NDArray[np.int8]:
    """The need of every image as the place of its budget, T where no budget satisfies."""
    column = numbers.column("l1")
    if column is None or threshold is None:
        return np.zeros(len(numbers.images), np.int8)
    # The losses are float32, so the threshold is rounded in the same way before it is compared; NaN is never below.
    below = column.values < np.float32(threshold)
    # `argmax` finds the first budget that satisfies, and 0 where none does, which is why `any` is asked first.
    needs: NDArray[np.int8] = np.where(below.any(axis=1), below.argmax(axis=1), below.shape[1]).astype(np.int8)
    return needs


def _read(path: Path, columns: list[str], rows: NDArray[np.int64]) -> pa.Table:
    """These rows; only one batch of the table is held at a time."""
    pieces, start = [], 0
    for batch in stream_columns(path, columns):
        here = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        pieces.append(batch.take(pa.array(here)))
        start += batch.num_rows
    return pa.Table.from_batches(pieces)
