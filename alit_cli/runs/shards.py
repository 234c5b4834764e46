"""Finished shards of a plan: committing each one, knowing which are there, and joining them into one
table."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alit_cli.data.files import claimed, open_output, readable
from alit_cli.data.marks import kind_of_file
from alit_cli.data.tables.parquet import ROW_GROUP, count_rows, encodings, stream_columns, write_table
from alit_cli.data.tables.parts import PLAN, finished_shards, mark_path, part_path
from alit_cli.errors import AlitError, InputError, NotFinished
from alit_cli.runs.plan import Plan, Shard, remove_work

ERROR = "error"
"""The column that is null unless the image of the row failed; every table of a run has it."""
MAX_ERRORS = 5
"""Failed images that the mark of a shard and a summary name."""


def commit_shard(
    table: pa.Table, folder: str | Path, index: int, stats: Mapping[str, Any], begun: float | None = None
) -> None:
    """Write the rows of a shard into the work folder, and then its stats, which mark it as finished.

    The stats gain the number of `rows`, the `sha256` of the written file and, where the writing began at the
    monotonic time `begun`, the seconds it took as `write`.

    Raises AlitError for a full disk; the folder then holds no trace of the shard.
    """
    path = part_path(folder, index)
    # First the rows, then the mark: a shard without a mark is done again, and its rows are overwritten.
    write_table(table, path, "working file")
    mark = {**stats, "rows": table.num_rows, "sha256": part_sha256(path)}
    if begun is not None:
        mark["write"] = round(time.monotonic() - begun, 3)
    with open_output(mark_path(folder, index), "working file") as file:
        file.write(json.dumps(mark, indent=2).encode())


def row_stats(rows: pa.Table) -> dict[str, Any]:
    """What the mark of a shard says about its rows: how many have each status, and the first few errors."""
    failed = pc.is_valid(rows[ERROR])
    first = rows.filter(failed).slice(0, MAX_ERRORS)
    errors = zip(first["image"].to_pylist(), first[ERROR].to_pylist(), strict=True)
    statuses = rows["status"] if "status" in rows.column_names else pc.if_else(failed, "failed", "ok")
    return {
        "statuses": Counter(statuses.to_pylist()),
        "errors": [f"{image}: {error}" for image, error in errors],
    }


def part_sha256(path: str) -> str:
    """The checksum of a part, as its mark holds it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shard_stats(folder: str | Path, index: int) -> dict[str, Any]:
    """What `commit_shard` was told about a finished shard, and its `rows`."""
    with open(mark_path(folder, index), "rb") as file:
        stats: dict[str, Any] = json.load(file)
    return stats


def join_shards(folder: str | Path, plan: Plan, out: str | Path) -> None:
    """Join all shards into the table `out`, in row groups of 10,000, then remove the work folder.

    Holds about two row groups in memory. Killed at any moment, either the work folder is whole or `out` is.
    Raises NotFinished where a shard is missing, AlitError where one is damaged or the disk is full.
    """
    rows = joined_rows(folder, plan)
    schema = pq.read_schema(part_path(folder, 0))
    kind = kind_of_file(part_path(folder, 0)) or "token table"
    with open_output(out, kind, tidy=True) as file, pq.ParquetWriter(file, schema, **encodings(schema)) as writer:
        for group in rows:
            writer.write_table(group, row_group_size=ROW_GROUP)
    remove_work(folder)


def join_once(folder: str | Path, join: Callable[[], None]) -> None:
    """Call `join`, which makes a table of a folder's shards and removes it; of several processes at once, one does.

    A file system without locks lets two of them join, which writes the same bytes twice.
    """
    plan = os.path.join(folder, PLAN)
    try:
        # The lock is on the plan, which every process has and which is removed last.
        with claimed(plan) as mine:
            if mine and os.path.exists(plan):
                join()
    except (FileNotFoundError, AlitError):
        if os.path.exists(plan):
            raise
    if not os.path.exists(plan) and os.path.isdir(folder):  # another joined them; a late shard made the folder again
        remove_work(folder)


def is_being_joined(folder: str | Path) -> bool:
    """Whether another process makes a table of a folder's shards at this moment, or has done so."""
    plan = os.path.join(folder, PLAN)
    try:
        with claimed(plan) as mine:
            return not mine or not os.path.exists(plan)
    except FileNotFoundError:
        return True


def joined_rows(folder: str | Path, plan: Plan) -> Iterator[pa.Table]:
    """The rows of all shards, in tables of 10,000 rows, the last one shorter. Raises as join_shards."""
    check_finished(folder, plan)
    return _row_groups(folder, plan.shards())


def check_finished(folder: str | Path, plan: Plan) -> None:
    """Raises NotFinished: a shard is missing."""
    shards = plan.shards()
    missing = len(shards) - len(finished_shards(folder) & {shard.index for shard in shards})
    if missing:
        name = readable(os.fspath(folder))
        raise NotFinished(f"{missing} of {len(shards)} shards in '{name}' are not done; run the same command again.")


def _row_groups(folder: str | Path, shards: Iterable[Shard]) -> Iterator[pa.Table]:
    """The rows of all shards, in tables of ROW_GROUP rows, the last one shorter."""
    waiting: list[pa.Table] = []
    count = 0
    for rows in _rows(folder, shards):
        waiting.append(rows)
        count += rows.num_rows
        # Pieces of _rows have ROW_GROUP rows at most, so there is never more than one full group to hand out.
        if count >= ROW_GROUP:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROW_GROUP)
            waiting, count = [joined.slice(ROW_GROUP)], count - ROW_GROUP
    if count:
        yield pa.concat_tables(waiting)


def _rows(folder: str | Path, shards: Iterable[Shard]) -> Iterator[pa.Table]:
    """The rows of each shard in turn, at most ROW_GROUP at a time, once the shard is seen to be whole."""
    for shard in shards:
        path = part_path(folder, shard.index)
        try:
            if count_rows(path) != shard.images:
                raise AlitError(f"'{readable(path)}' lacks rows; remove it and run the same command again.")
            for batch in stream_columns(path, rows=ROW_GROUP):
                yield pa.Table.from_batches([batch])
        except InputError as problem:
            raise AlitError(f"'{readable(path)}' is damaged; remove it and run the same command again.") from problem
