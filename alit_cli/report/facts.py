"""What a whole token table says, counted over all of its rows in one pass, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alit_cli.analysis.stats.loss_histogram import EDGES, histogram
from alit_cli.data.tables.parquet import stream_columns
from alit_cli.data.tables.token_table import TableInfo

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
MOST_FAILURES = 50

Losses = NDArray[np.float32]


@dataclass(frozen=True)
class Facts:
    """Counts over a token table of T budgets.

    Attributes:
        rows: all of them; `statuses` says how many are 'ok', and how many failed in which way.
        failures: image, status and sentence of the first that failed.
        first: the thresholds are `EDGES[first : first + J]`, where the answers change; J is 0 without losses.
        need: T × J, how many images satisfy L1 < threshold at some budget up to this one; by count, not by share.
        images, mean, quantiles: of the L1 at each budget: how many have one, T; its mean, T; `QUANTILES`, T × 5,
            within their distance.
    """

    rows: int
    statuses: dict[str, int]
    failures: tuple[tuple[str, str, str], ...]
    first: int
    need: NDArray[np.int64]
    images: NDArray[np.int64]
    mean: NDArray[np.float64]
    quantiles: NDArray[np.float64]

    @property
    def ok(self) -> int:
        """Rows with tokens."""
        return self.statuses.get("ok", 0)

    @property
    def thresholds(self) -> NDArray[np.float32]:
        """The J thresholds."""
        return EDGES[self.first : self.first + self.need.shape[1]]

    def start(self) -> int:
        """Which threshold to show first: about the median L1 at the middle budget, so that the needs spread."""
        middle = self.quantiles[len(self.quantiles) // 2, QUANTILES.index(0.5)]
        near = np.abs(self.thresholds - (round(middle / 0.005) * 0.005 if middle > 0.01 else middle))
        return int(near.argmin()) if len(near) else 0


def gather_facts(path: Path, info: TableInfo) -> Facts:
    """Read status and L1 columns of a token table, a file or a folder of parts. Raises InputError as `read_info`."""
    budgets, rows = len(info.budgets), 0
    statuses: Counter[str] = Counter()
    failures: list[tuple[str, str, str]] = []
    need = np.zeros((budgets, len(EDGES) + 1), np.int64)
    own = np.zeros_like(need)
    total = np.zeros(budgets)
    for batch, losses in stream_losses(path, info, ["image", "error"]):
        rows += batch.num_rows
        statuses.update(batch["status"].to_pylist())
        if len(failures) < MOST_FAILURES:
            failures += _failures(batch)
        if losses.shape[1]:
            total += np.nansum(losses, axis=0, dtype=np.float64)
            best = np.fmin.accumulate(losses, axis=1)
            for step in range(budgets):
                need[step] += histogram(best[:, step])
                own[step] += histogram(losses[:, step])
    images = own.sum(axis=1)
    below, first = _trimmed(need.cumsum(axis=1)[:, : len(EDGES)], statuses["ok"] if info.losses else 0, info.stop)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / images
    return Facts(
        rows, dict(statuses), tuple(failures[:MOST_FAILURES]), first, below, images, mean, _quantiles(own, images)
    )


def stream_losses(path: Path, info: TableInfo, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, Losses]]:
    """Batches of status and `columns`, with the losses (n T, NaN where null) of those rows that are ok.

    A table without losses gives n 0. Raises InputError as `read_info`.
    """
    names = [f"l1_{budget}" for budget in info.budgets] if info.losses else []
    for batch in stream_columns(path, ["status", *columns, *names]):
        ok = ok_rows(batch)
        losses = [np.asarray(batch[name].to_numpy(zero_copy_only=False), np.float32)[ok] for name in names]
        yield batch, np.stack(losses, axis=1) if names else np.zeros((int(ok.sum()), 0), np.float32)


def ok_rows(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows of a batch were tokenized."""
    known: Any = pc.fill_null(pc.equal(batch["status"], "ok"), False)
    return np.asarray(known.to_numpy(zero_copy_only=False), bool)


def _failures(batch: pa.RecordBatch) -> list[tuple[str, str, str]]:
    bad = np.flatnonzero(~ok_rows(batch))[:MOST_FAILURES].tolist()
    return [tuple(str(batch[name][row].as_py() or "") for name in ("image", "status", "error")) for row in bad]  # type: ignore[misc]


def _trimmed(below: NDArray[np.int64], images: int, stop: float | None) -> tuple[NDArray[np.int64], int]:
    """The thresholds between 'no image satisfies' and 'all but 0.1 % do at the smallest budget', and the first one.

    A table that stopped early answers none below its `stop`.
    """
    if not images or not below.any():
        return below[:, :0], 0
    first = max(int((below[-1] > 0).argmax()) - 1, 0)
    first = max(first, int(np.searchsorted(EDGES, np.float32(stop or 0))))
    full = below[0] >= 0.999 * images
    last = int(full.argmax()) if full.any() else int((below[0] == below[0, -1]).argmax())
    return below[:, first : max(last, first) + 1], first


def _quantiles(own: NDArray[np.int64], images: NDArray[np.int64]) -> NDArray[np.float64]:
    """Quantiles from the counts between edges, T × 5; NaN where there are no losses."""
    right = np.append(EDGES, EDGES[-1]).astype(np.float64)
    found = np.full((len(own), len(QUANTILES)), np.nan)
    for step in np.flatnonzero(images):
        reached = own[step].cumsum()
        found[step] = np.interp(np.array(QUANTILES) * images[step], reached, right)
    return found
