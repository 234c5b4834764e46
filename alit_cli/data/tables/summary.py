"""What a finished token table holds, in a few numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from alit_cli.data.tables.parquet import open_columns
from alit_cli.data.tables.token_table import read_info

MAX_ERRORS = 5
"""Failures that a summary names."""


@dataclass(frozen=True)
class Summary:
    """What a finished table holds.

    Attributes:
        images: rows, failures included.
        statuses: rows by status.
        l1: mean L1 by budget over the rows that reached it (none where the table has no losses).
        stopped: rows by the budget their rollout stopped at (empty where none stops early).
        errors: the first few failures, as (image, sentence).
    """

    images: int
    statuses: dict[str, int]
    l1: dict[int, float]
    stopped: dict[int, int]
    errors: list[tuple[str, str]]

    @property
    def failed(self) -> int:
        """Rows that are not ok."""
        return self.images - self.statuses.get("ok", 0)


def summarize(out: Path) -> Summary:
    """Read a token table's summary."""
    info = read_info(out)
    losses = [f"l1_{b}" for b in info.budgets] if info.losses else []
    table = open_columns(out, ["image", "status", "error", *losses, *(["n_tokens"] if info.stop is not None else [])])
    statuses = Counter(table["status"].to_pylist())
    failed = table.filter(pc.not_equal(table["status"], "ok")).slice(0, MAX_ERRORS)
    l1 = {b: pc.mean(table[name]).as_py() for b, name in zip(info.budgets, losses, strict=False)}
    errors = list(zip(failed["image"].to_pylist(), failed["error"].to_pylist(), strict=True))
    ends = Counter(table["n_tokens"].drop_null().to_pylist()) if info.stop is not None else Counter()
    stopped = {b: ends[b] for b in info.budgets} if ends else {}
    return Summary(len(table), dict(statuses), {b: v for b, v in l1.items() if v is not None}, stopped, errors)
