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
        l1: mean L1 by budget over the rows that are ok. Empty where the table has no losses, and where rollouts
            stopped early: a later column then holds only the images that went on, whose mean would mislead.
        stopped: rows by the budget their rollout stopped at (empty where none stops early).
        mean_tokens, l1_at_stop: tokens per image and mean L1 at the budget each image stopped at; None where none
            stops early.
        errors: the first few failures, as (image, sentence).
    """

    images: int
    statuses: dict[str, int]
    l1: dict[int, float]
    stopped: dict[int, int]
    mean_tokens: float | None
    l1_at_stop: float | None
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
    errors = list(zip(failed["image"].to_pylist(), failed["error"].to_pylist(), strict=True))
    l1: dict[int, float] = {}
    stopped: dict[int, int] = {}
    mean_tokens = l1_at_stop = None
    if info.stop is None:
        # The two differ in length where the table has no losses.
        means = {b: pc.mean(table[name]).as_py() for b, name in zip(info.budgets, losses, strict=False)}
        l1 = {b: mean for b, mean in means.items() if mean is not None}
    # Where every image failed, there is nothing to take a mean of.
    elif table["n_tokens"].null_count < len(table):
        ends = Counter(table["n_tokens"].drop_null().to_pylist())
        stopped = {b: ends[b] for b in info.budgets}
        mean_tokens = pc.mean(table["n_tokens"]).as_py()
        last = pc.coalesce(*(table[name] for name in reversed(losses)))  # the last budget that was run
        l1_at_stop = pc.mean(last).as_py()
    return Summary(len(table), dict(statuses), l1, stopped, mean_tokens, l1_at_stop, errors)
