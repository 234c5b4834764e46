"""What a whole token table says, counted over all of its rows in one pass, however many there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alit_cli.data.tables.parquet import stream_columns
from alit_cli.data.tables.token_table import TableInfo

MOST_FAILURES = 50
"""Failures that the page names; the others are counted."""


@dataclass(frozen=True)
class Facts:
    """Counts over a token table of T budgets.

    Attributes:
        rows: all of them; `statuses` says how many are 'ok', and how many failed in which way.
        failures: image, status and sentence of the first that failed.
        ok: which rows were tokenized, one bool per row.
        images: how many images have an L1 at each budget, T.
        mean: their mean L1, T; NaN where there are none.
    """

    rows: int
    statuses: dict[str, int]
    failures: tuple[tuple[str, str, str], ...]
    ok: NDArray[np.bool_]
    images: NDArray[np.int64]
    mean: NDArray[np.float64]


def gather_facts(path: Path, info: TableInfo) -> Facts:
    """Read status and L1 columns of a token table, a file or a folder of parts. Raises InputError as `read_info`."""
    names = [f"l1_{budget}" for budget in info.budgets] if info.losses else []
    statuses: Counter[str] = Counter()
    failures: list[tuple[str, str, str]] = []
    masks: list[NDArray[np.bool_]] = []
    total, images = np.zeros(len(info.budgets)), np.zeros(len(info.budgets), np.int64)
    for batch in stream_columns(path, ["status", "image", "error", *names]):
        ok = ok_rows(batch)
        masks.append(ok)
        statuses.update(str(status) for status in batch["status"].to_pylist())
        # A batch may bring more failures than are still wanted; the last line cuts them off.
        if len(failures) < MOST_FAILURES:
            failures += _failures(batch, ok)
        for step, name in enumerate(names):
            losses = np.asarray(batch[name].to_numpy(zero_copy_only=False), np.float32)[ok]
            # Sums over millions of images lose digits in float32, so they are made in float64.
            total[step] += np.nansum(losses, dtype=np.float64)
            images[step] += np.count_nonzero(~np.isnan(losses))
    # A budget without any image divides 0 by 0; the NaN is what `mean` promises.
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / images
    ok = np.concatenate(masks) if masks else np.zeros(0, np.bool_)
    return Facts(len(ok), dict(statuses), tuple(failures[:MOST_FAILURES]), ok, images, mean)


def ok_rows(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows of a batch were tokenized."""
    # A row whose status is null was not tokenized either.
    known: Any = pc.fill_null(pc.equal(batch["status"], "ok"), False)
    return np.asarray(known.to_numpy(zero_copy_only=False), bool)


def _failures(batch: pa.RecordBatch, ok: NDArray[np.bool_]) -> list[tuple[str, str, str]]:
    names = ("image", "status", "error")
    bad = np.flatnonzero(~ok)[:MOST_FAILURES].tolist()
    return [tuple(str(batch[name][row].as_py() or "") for name in names) for row in bad]  # type: ignore[misc]
