"""A prepared run: the frozen plans of a job's unfinished tables, which shards are due, and joining them at the end."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alit_cli.data.files import check_output, readable
from alit_cli.data.sources.extra_columns import ExtraColumns
from alit_cli.data.sources.items import ListedItem
from alit_cli.data.tables.parquet import read_description
from alit_cli.data.tables.parts import PLAN, finished_shards, is_finished, work_folder
from alit_cli.errors import InputError
from alit_cli.progress import ProgressCallback, no_progress
from alit_cli.runs.job import Output, ShardedJob, WorkerFactory
from alit_cli.runs.plan import Plan, Shard, fingerprint, open_plan, remove_copies, remove_work
from alit_cli.runs.shards import check_finished, join_shards


@dataclass(frozen=True, eq=False)
class PreparedOutput:
    """One unfinished table.

    Attributes:
        path: the table.
        folder: its work folder, where plan and finished shards lie; the table itself where it is a folder of parts.
        plan: the items in order, cut into shards.
    """

    path: Path
    folder: Path
    plan: Plan

    def __reduce__(self) -> tuple[Any, ...]:
        # The plan of a million images is not sent to other processes: they map it from the folder.
        return load_output, (self.path, self.folder.absolute())


def load_output(path: Path, folder: Path) -> PreparedOutput:
    """An unfinished table from its work folder. Raises InputError: no plan is there, or it is damaged."""
    return PreparedOutput(path, folder, Plan.load(folder))


@dataclass(frozen=True, eq=False)
class PreparedRun:
    """Everything that a process needs to do a share of a run; it can be pickled.

    Attributes:
        outputs: the unfinished tables. Their plans have the same items and shards.
        make_worker: makes what does the shards.
        retry: the items are the failed rows of a finished table, in which their new rows go.
    """

    outputs: Sequence[PreparedOutput]
    make_worker: WorkerFactory
    retry: bool = False

    @property
    def plan(self) -> Plan:
        """The items and shards, which are those of every output."""
        return self.outputs[0].plan

    def shards(self) -> list[Shard]:
        """Every shard, finished ones included."""
        return self.plan.shards()

    def due_shards(self) -> list[int]:
        """Shards that some table lacks, in order."""
        finished = [finished_shards(output.folder) for output in self.outputs if not _is_joined(output)]
        return [shard.index for shard in self.shards() if any(shard.index not in indices for indices in finished)]

    def outputs_due(self, index: int) -> list[PreparedOutput]:
        """The tables that lack a shard; another process may have finished it meanwhile, or joined the whole table."""
        return [out for out in self.outputs if not _is_joined(out) and not is_finished(out.folder, index)]


def _is_joined(output: PreparedOutput) -> bool:
    """Whether another process has joined the shards meanwhile, which removes the plan."""
    return not (output.folder / PLAN).exists()


def prepare(job: ShardedJob, report: ProgressCallback = no_progress, here: bool = False) -> PreparedRun | None:
    """List the items of a job and freeze a plan for each unfinished table, or find the plan there; None: all is done.

    Args:
        job: what is to be done.
        report: shows how many images have been found, while they are listed.
        here: the only worker will be in this process.

    Raises:
        InputError: nothing to read, or a table or work folder in the way belongs to another run.
    """
    # All names are checked before the first folder is made, so that a refused run leaves nothing behind.
    unfinished: list[PreparedOutput] = []
    outputs = job.outputs()
    for output in outputs:
        if not output.as_folder:
            check_output(output.path, output.kind)
    for output in outputs:
        finished = output.finished and not job.overwrite
        if finished and job.retry_errors:  # its inputs may have changed, which prepare_retry() deals with
            continue
        # Even a finished table is listed again: only the fingerprint of its items tells whether it is this run's.
        stream = job.items(report, keep_copies=not finished)
        if finished and not output.as_folder:
            _check_same(output.path, stream.used_by(partial(_fingerprint, job, output, stream.extra_columns)))
            if output.folder.exists():  # left by a run that was killed between its last two steps
                remove_work(output.folder)
            continue
        plan = stream.used_by(partial(_open_plan, job, output, stream.extra_columns))
        if not finished:
            unfinished.append(PreparedOutput(output.path, output.folder, plan))
    if not unfinished:
        return None
    plans = {output.path: output.plan for output in unfinished}
    return PreparedRun(tuple(unfinished), job.worker_factory(plans, here))


def _open_plan(job: ShardedJob, output: Output, columns: ExtraColumns, listed: Iterator[ListedItem]) -> Plan:
    """The plan of one output over these items."""
    size, may_differ = job.images_per_shard, job.retry_errors
    return open_plan(output.folder, listed, size, output.identity, job.overwrite, columns, files_may_differ=may_differ)


def _fingerprint(job: ShardedJob, output: Output, columns: ExtraColumns, listed: Iterator[ListedItem]) -> str:
    """The fingerprint that this plan would have."""
    return fingerprint(listed, job.images_per_shard, output.identity, columns)


def join_output(output: PreparedOutput) -> None:
    """Make a table of its finished shards and remove the work folder. Raises NotFinished: shards are missing."""
    # A folder of parts is whole as soon as its last shard is, so there is nothing to join.
    if output.folder == output.path:
        check_finished(output.folder, output.plan)
        remove_copies(output.folder)
    else:
        join_shards(output.folder, output.plan, output.path)


def is_complete(path: Path) -> bool:
    """Whether a whole table is there and no unfinished work of it, whoever did the shards."""
    if path.is_dir():
        return len(finished_shards(path)) == len(Plan.load(path).shards())
    return path.exists() and not (work_folder(path) / PLAN).exists()


def recorded_description(table: Path) -> dict[str, Any]:
    """What a finished table says of itself. Raises InputError: it is not a table that alit wrote."""
    try:
        description = json.loads(read_description(table))
        if isinstance(description["options"], dict):
            return dict(description)
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"'{readable(os.fspath(table))}' cannot be used: its description is not one of alit.")


def _check_same(path: Path, wanted: str) -> None:
    """Raises InputError: the finished table `path` was made by another plan than the one of this fingerprint."""
    if recorded_description(path)["options"].get("plan") != wanted:
        raise InputError(
            f"'{readable(os.fspath(path))}' is the finished table of another run (other images, other options, "
            "another model, or the columns of another version of alit): give --overwrite to replace it, or choose "
            "another --out."
        )
