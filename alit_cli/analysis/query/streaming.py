"""Tables read one piece ahead of their use, and taken row by row or as arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from alit_cli.data.tables.parts import parts

Item = TypeVar("Item")


def schema_of(path: Path) -> pa.Schema:
    """The columns of a Parquet file, or of the first of a folder of parts, which `read_info` has found sound."""
    return pq.read_schema(parts(path)[0])


def read_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; while one is used, a thread makes the next."""
    # The end is an object of our own, because None could be an item.
    iterator, end = iter(items), object()
    # One thread makes one item ahead: the order stays, and memory holds two items at most.
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]  # the end has been told apart


def to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column as an array: n, or n d for lists of one length; NaN or None where it is null."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        array: NDArray[Any] = column.to_numpy()
        return array
    whole = column.combine_chunks()
    known = whole.is_valid().to_numpy(zero_copy_only=False)
    flat = whole.drop_null().flatten().to_numpy(zero_copy_only=False)
    # Lists of a column have one length, so it follows from the number of values; null rows hold none.
    width = len(flat) // max(int(known.sum()), 1)
    # Integers cannot hold NaN, so lists of them become float64; lists of floats keep their precision.
    full = np.full((len(known), width), np.nan, flat.dtype if flat.dtype.kind == "f" else np.float64)
    full[known] = flat.reshape(-1, width) if len(flat) else 0
    return full


class RowStream:
    """Tables one after the other, taken as many rows at a time as one asks for."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        self.tables = read_ahead(tables)
        self.waiting: deque[pa.Table] = deque()

    def take(self, rows: int) -> pa.Table:
        """The next rows; fewer at the end."""
        taken: list[pa.Table] = []
        while rows > 0 and (self.waiting or self._more()):
            table = self.waiting.popleft()
            taken.append(table.slice(0, rows))
            if table.num_rows > rows:
                # The rest goes back to the front, so that the order of rows stays. A slice copies nothing.
                self.waiting.appendleft(table.slice(rows))
            rows -= taken[-1].num_rows
        return pa.concat_tables(taken)

    def next_piece(self) -> pa.Table | None:
        """The next rows, as many as lie ready; None at the end."""
        return self.waiting.popleft() if self.waiting or self._more() else None

    def _more(self) -> bool:
        self.waiting.extend(table for table in [next(self.tables, None)] if table is not None)
        return bool(self.waiting)
