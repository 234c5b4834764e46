"""The failed rows of a finished table, done again and put in their places; every other row stays as it is."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alit_cli.data.files import open_output, readable
from alit_cli.data.marks import kind_of_file
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import ListedItem
from alit_cli.data.tables.parquet import KEY, encodings, named_damage, open_parquet, stream_columns
from alit_cli.data.tables.parts import PLAN, part_path, work_folder
from alit_cli.errors import InputError
from alit_cli.progress import ProgressCallback
from alit_cli.runs.item_file import write_items
from alit_cli.runs.job import Output, ShardedJob
from alit_cli.runs.plan import Plan, fingerprint_of, open_plan, remove_work, renew_plan
from alit_cli.runs.prepared import PreparedOutput, PreparedRun, recorded_description
from alit_cli.runs.shards import ERROR, commit_shard, joined_rows, row_stats, shard_stats

RETRY = "retry"
"""The option of a plan whose items are failed rows: the fingerprint that the table will have in the end."""
NOT_COMPARED = {"format", "versions"}
OPTIONS_NOT_COMPARED = {"plan", "images", "keep"}
"""What may differ between a table and the run that does its failed rows again: versions of packages, and what follows
from the images, which are compared name by name."""


def prepare_retry(job: ShardedJob, output: Output, report: ProgressCallback, here: bool) -> PreparedRun | None:
    """The run that does the failed rows of a finished table again; None where no row failed.

    The images must be those of the table, in its order; their files may have changed. A retry that was interrupted
    is resumed as it was. Raises InputError: the table is of another run.
    """
    folder = work_folder(output.path)
    plan = _interrupted_retry(folder)
    if plan is None:
        _check_same_options(output)
        stream = job.items(report, keep_copies=False)
        # All items are listed, since names and order decide whether this is the table of these images.
        failed: list[ListedItem] = []

        def digest_of(listed: Iterable[ListedItem]) -> str:
            # The digest is that of all items as they are now: with it, the table will be the one of a fresh run.
            failed.clear()
            noted = _note_failed(listed, _rows_that_failed(output.path), failed, output.path)
            return write_items(noted, stream.extra_columns.names, pa.MockOutputStream())

        try:
            digest = digest_of(stream.listed)
        except InputError:
            if stream.renamed is None:
                raise
            digest = digest_of(stream.renamed())  # the names of the table may begin with those of the inputs
        if not failed:
            return None
        keep = {"keep": stream.extra_columns.types()} if stream.extra_columns.names else {}
        name = fingerprint_of(digest, job.images_per_shard, {**output.identity, **keep})
        # The option marks the work folder as that of a retry, and keeps the fingerprint that the table will get.
        options = {**output.identity, RETRY: name}
        plan = open_plan(folder, failed, job.images_per_shard, options, True, stream.extra_columns)
    prepared = PreparedOutput(output.path, folder, plan)
    return PreparedRun([prepared], job.worker_factory({output.path: plan}, here), retry=True)


def merge_retry(output: PreparedOutput) -> None:
    """Put the new rows into the table and remove the work folder. Raises NotFinished: shards are missing."""
    new_rows = RetriedRows(output.folder, output.plan)
    if output.path.is_dir():
        plan = Plan.load(output.path)
        _merge_into_parts(new_rows, output.path, plan)
        _renew_plan_of_parts(output, plan)
    else:
        _merge_into_file(new_rows, output.path, output.plan.options[RETRY])
    # Killed before this line, the merge is repeated, which changes nothing: the same rows are put in again.
    remove_work(output.folder)


def _interrupted_retry(folder: Path) -> Plan | None:
    """The plan of a retry that was interrupted."""
    if (folder / PLAN).exists() and RETRY in (plan := Plan.load(folder)).options:
        return plan
    return None


def _check_same_options(output: Output) -> None:
    """Raises InputError: the table was made with other options or another model."""
    old, new = (_comparable(about) for about in (recorded_description(output.path), output.description))
    if old != new:
        name = readable(os.fspath(output.path))
        raise InputError(
            f"'{name}' was made with other options or another model, so its failed rows cannot be done again by this "
            "command; give the options that made it."
        )


def _comparable(description: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: value for name, value in description["options"].items() if name not in OPTIONS_NOT_COMPARED}
    rest = {name: value for name, value in description.items() if name not in NOT_COMPARED}
    # Through JSON, so that a tuple of the run equals the list that was read back.
    plain: dict[str, Any] = json.loads(json.dumps({**rest, "options": options}))
    return plain


def _note_failed(
    listed: Iterable[ListedItem], rows: Iterable[tuple[str, bool]], failed: list[ListedItem], table: Path
) -> Iterator[ListedItem]:
    """Pass the items on, and collect those whose rows failed. Raises InputError: they are not those of the table."""
    for item, row in itertools.zip_longest(listed, rows):
        if item is None or row is None or item.item.image != row[0]:
            image = row[0] if row is not None else item.item.image
            raise InputError(
                f"'{readable(os.fspath(table))}' is the table of other images ('{image}' is not in both); name the "
                "inputs that it was made of."
            )
        if row[1]:
            failed.append(item)
        yield item


def _rows_that_failed(table: Path) -> Iterator[tuple[str, bool]]:
    """Name of every row of a table, and whether it failed."""
    for batch in stream_columns(table, ["image", ERROR]):
        yield from zip(batch["image"].to_pylist(), pc.is_valid(batch[ERROR]).to_pylist(), strict=True)


class RetriedRows:
    """The rows of finished shards in `folder`, handed out in order.

    Args:
        folder: the work folder of the retry.
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
        # Append the new rows to the old ones, then take for each place its old row or the next new one.
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


def _merge_into_file(new_rows: RetriedRows, table: Path, plan: str) -> None:
    """Replace rows of a table, which says from then on that it is of this plan. Raises as open_output."""
    with open_parquet(table) as old:
        metadata = dict(old.schema_arrow.metadata or {})
        description = json.loads(metadata[KEY])
        description["options"]["plan"] = plan
        schema = old.schema_arrow.with_metadata({**metadata, KEY: json.dumps(description).encode()})
        with (
            open_output(table, kind_of_file(table) or "token table", tidy=True) as file,
            pq.ParquetWriter(file, schema, **encodings(schema)) as writer,
        ):
            for group in range(old.num_row_groups):
                with named_damage(table):  # around the reading alone: an error of writing is another sentence
                    old_rows = old.read_row_group(group)
                rows = new_rows.put_into(old_rows)
                writer.write_table(rows, row_group_size=max(1, len(rows)))


def _merge_into_parts(new_rows: RetriedRows, folder: Path, plan: Plan) -> None:
    """Replace rows in a folder of parts, part by part with its mark. Raises as open_output."""
    # A part that has no failed row keeps its file, its mark and its checksum.
    for shard in plan.shards():
        path = part_path(folder, shard.index)
        with named_damage(path), open_parquet(path) as part:
            old = part.read()
        new = new_rows.put_into(old)
        if new is not old:
            commit_shard(new, folder, shard.index, {**shard_stats(folder, shard.index), **row_stats(new)})


def _renew_plan_of_parts(output: PreparedOutput, plan: Plan) -> None:
    """Give a folder of parts the plan that its inputs have now."""
    retried = {entry.item.image: entry for entry in output.plan.items.listed()}
    renewed = (retried.get(entry.item.image, entry) for entry in plan.items.listed())
    options = {name: value for name, value in plan.options.items() if name != "keep"}
    renew_plan(output.path, renewed, plan.shard_size, options, ExtraColumns.of(plan.options.get("keep", {})))
