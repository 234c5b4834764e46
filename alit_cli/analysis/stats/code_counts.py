"""Token ids counted as they stream by: which codes occur, how evenly, and which ids the next iteration changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class CodeCounts:
    """How often each of `codes` ids occurs at each of T budgets, and how many ids change between them."""

    def __init__(self, codes: int, budgets: int) -> None:
        self.codes = codes
        self.counts = np.zeros((budgets, codes), np.int64)
        self.compared = np.zeros(budgets, np.int64)
        self.different = np.zeros(budgets, np.int64)

    def add(self, columns: Sequence[pa.ChunkedArray]) -> None:
        """Count the ids of some images: T columns of lists, each of one length; null where there are none."""
        before: NDArray[Any] | None = None
        for step, column in enumerate(columns):
            known = column.drop_null()
            ids = known.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            self.counts[step] += np.bincount(ids, minlength=self.codes)
            # NumPy cannot work out a width of -1 from no values, so the empty table is made by hand.
            ids = ids.reshape(len(known), -1) if len(known) else np.zeros((0, 0), np.uint16)
            if before is not None:
                self.compared[step] += before.size
                # Only the first ids of the larger budget have a partner in the smaller one.
                self.different[step] += np.count_nonzero(before != ids[:, : before.shape[1]])
            before = ids

    def used(self, step: int) -> float:
        """Share of the codes that occur, 0–1; NaN where nothing was counted."""
        return float((self.counts[step] > 0).mean()) if self._any(step) else math.nan

    def entropy(self, step: int) -> float:
        """The entropy of the ids, in bits; NaN where nothing was counted."""
        if not self._any(step):
            return math.nan
        share = self.counts[step] / self.counts[step].sum()
        # A code that never occurs adds nothing to the entropy, but 0 × log 0 is NaN in NumPy.
        share = share[share > 0]
        return float(-(share * np.log2(share)).sum()) + 0.0  # never -0.0

    def changed(self, step: int) -> float:
        """Share of the ids of the budget before that are others here, 0–1; NaN for the first budget."""
        if step >= len(self.compared) or not self.compared[step]:
            return math.nan
        return float(self.different[step] / self.compared[step])

    def _any(self, step: int) -> bool:
        return step < len(self.counts) and bool(self.counts[step].any())
