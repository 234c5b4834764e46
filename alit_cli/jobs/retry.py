"""`alit tokenize --retry-errors`: of a finished table, the failed rows are done again and all others kept."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import Found
from alit_cli.data.tables.parts import PLAN, parts
from alit_cli.data.tables.token_table import TableInfo
from alit_cli.errors import InputError
from alit_cli.jobs.work import Work
from alit_cli.runs.item_file import write_items
from alit_cli.runs.plan import Plan, fingerprint_of, open_plan, remove_work, renew_plan
from alit_cli.runs.retried_rows import RetriedRows, failed_rows, merge_into_file, merge_into_parts

RETRY = "retry"


def prepare_retry(
    out: Path,
    checkpoint: str | None,
    info: TableInfo,
    found: Iterable[Found],
    keeper: ExtraColumns,
    shard_size: int,
    options: dict[str, Any],
) -> Work | None:
    """The work of doing the failed rows of a table again; None where none failed.

    A second try that was interrupted goes on as it was. The images must be those of the table, in its order.

    Args:
        out: the finished table, a file or a folder of parts.
        checkpoint: the model file.
        info: what the table says of itself.
        found: the inputs as they are now.
        keeper: what is kept of them.
        shard_size, options: of the plan of the whole table.
    """
    folder = out.with_name(out.name + ".work")
    if (folder / PLAN).exists() and (begun := Work.load(folder)).retry:
        return begun
    rows = failed_rows(out, parts(out))
    failed: list[Found] = []
    digest = write_items(_noting(found, rows, failed, out), keeper.names, pa.MockOutputStream())
    if not failed:
        return None
    kept = {"keep": keeper.types()} if keeper.names else {}
    name = fingerprint_of(digest, shard_size, {**options, **kept})
    plan = open_plan(folder, failed, shard_size, {**options, RETRY: name}, overwrite=True, keeper=keeper)
    info = dataclasses.replace(info, options=dataclasses.replace(info.options, plan=name))
    work = Work(folder, out, checkpoint, plan, info, retry=True)
    work.save()
    return work


def join_retry(work: Work) -> None:
    """Put the new rows into the table and remove the work. Raises NotFinished: shards are missing."""
    again = RetriedRows(work.folder, work.plan)
    if work.out.is_dir():
        plan = Plan.load(work.out)
        merge_into_parts(again, work.out, plan)
        _renew(plan, work)
    else:
        merge_into_file(again, work.out, work.info.to_json())
    remove_work(work.folder)


def _noting(
    found: Iterable[Found], rows: Iterable[tuple[str, bool]], failed: list[Found], out: Path
) -> Iterator[Found]:
    """Pass the inputs on, and note those whose rows failed. Raises InputError: they are not the table's."""
    for one, row in itertools.zip_longest(found, rows):
        if one is None or row is None or one.item.image != row[0]:
            name = row[0] if row is not None else one.item.image
            raise InputError(f"{out} is the table of other images, such as '{name}': give its own inputs to retry.")
        if row[1]:
            failed.append(one)
        yield one


def _renew(plan: Plan, work: Work) -> None:
    """Give a folder of parts the plan that its inputs have now."""
    again = {found.item.image: found for found in work.plan.items.found()}
    renewed = (again.get(found.item.image, found) for found in plan.items.found())
    options = {key: value for key, value in plan.options.items() if key != "keep"}
    renew_plan(work.out, renewed, plan.shard_size, options, ExtraColumns.of(plan.options.get("keep", {})))
