"""Rows that were done again, put in the place of those that had failed; every other row stays as it is."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alit_cli.data.files import open_output
from alit_cli.data.tables.parquet import encodings
from alit_cli.data.tables.parts import part_path
from alit_cli.data.tables.token_table import KEY
from alit_cli.runs.plan import Plan
from alit_cli.runs.shards import commit_shard, joined_rows, shard_stats


class RetriedRows:
    """The rows of finished shards in `folder`, handed out in order.

    Args:
        folder: the work folder of the second try.
        plan: its plan; its items stand in the order of the table.
    """

    def __init__(self, folder: str | Path, plan: Plan) -> None:
        self.names = plan.items.table["image"].combine_chunks()
        self._rows = joined_rows(folder, plan)
        self._waiting: pa.Table | None = None

    def put_into(self, rows: pa.Table) -> pa.Table:
        """The same rows of the table, those that were done again replaced."""
        chosen = pc.is_in(rows["image"], value_set=self.names).combine_chunks()
        count = pc.sum(chosen).as_py() or 0
        if not count:
            return rows
        both = pa.concat_tables([rows, self._take(count).cast(rows.schema)])
        new = pc.add(pc.cumulative_sum(chosen.cast(pa.int64())), len(rows) - 1)
        return both.take(pc.if_else(chosen, new, pa.array(range(len(rows)), pa.int64())))

    def _take(self, count: int) -> pa.Table:
        taken = []
        while count:
            if self._waiting is None or not len(self._waiting):
                self._waiting = next(self._rows)
            part = self._waiting.slice(0, count)
            taken.append(part)
            self._waiting, count = self._waiting.slice(len(part)), count - len(part)
        return pa.concat_tables(taken)


def merge_into_file(again: RetriedRows, out: Path, info: str) -> None:
    """Replace the rows in a table; `info` is what it says of itself from then on. Raises as open_output."""
    with pq.ParquetFile(out) as old:
        schema = old.schema_arrow.with_metadata({**(old.schema_arrow.metadata or {}), KEY: info.encode()})
        with (
            open_output(out, "token table", tidy=True) as file,
            pq.ParquetWriter(file, schema, **encodings(schema)) as writer,
        ):
            for group in range(old.num_row_groups):
                rows = again.put_into(old.read_row_group(group))
                writer.write_table(rows, row_group_size=max(1, len(rows)))


def merge_into_parts(again: RetriedRows, folder: Path, plan: Plan) -> None:
    """Replace the rows in a folder of parts, part by part with its mark. Raises as open_output."""
    for shard in plan.shards():
        path = part_path(folder, shard.index)
        old = pq.read_table(path)
        new = again.put_into(old)
        if new is not old:
            commit_shard(new, folder, shard.index, {**shard_stats(folder, shard.index), **_about(new)})


def failed_rows(out: Path, files: list[str]) -> Iterator[tuple[str, bool]]:
    """Name of every row of a table, and whether it failed."""
    for name in files:
        with open(os.fsencode(name), "rb") as source, pq.ParquetFile(source) as file:
            for batch in file.iter_batches(columns=["image", "status"]):
                failed = pc.not_equal(batch["status"], "ok").to_pylist()
                yield from zip(batch["image"].to_pylist(), failed, strict=True)


def _about(rows: pa.Table) -> Mapping[str, Any]:
    """What a shard's mark says of its rows."""
    failed = rows.filter(pc.not_equal(rows["status"], "ok")).slice(0, 5)
    errors = zip(failed["image"].to_pylist(), failed["error"].to_pylist(), strict=True)
    return {"statuses": Counter(rows["status"].to_pylist()), "errors": [f"{image}: {error}" for image, error in errors]}
