"""One resumable run over images: plan, do the shards that are due, join them, and do failed rows again."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pyarrow.compute as pc

from alit_cli.data.files import readable
from alit_cli.data.tables.parquet import count_rows, stream_columns
from alit_cli.data.tables.parts import finished_shards
from alit_cli.errors import InputError, NotFinished, TooManyFailures
from alit_cli.progress import Progress, ProgressCallback, no_progress
from alit_cli.runs.job import Hardware, ShardedJob
from alit_cli.runs.prepared import PreparedOutput, PreparedRun, join_output, prepare
from alit_cli.runs.processes import MAX_ATTEMPTS
from alit_cli.runs.retry import merge_retry, prepare_retry
from alit_cli.runs.shards import ERROR, is_being_joined, join_once
from alit_cli.runs.workers import Workers

ALONE = Workers()
Progresses = Generator[Progress, None, None]
"""What a run yields. A run that is closed early leaves what it has committed, to be resumed."""


def run(job: ShardedJob, workers: Workers = ALONE, report: ProgressCallback = no_progress) -> Progresses:
    """Do this process's share of a job; whichever process finishes the last shard joins all of them into the table.

    A run may be killed at any moment: the same job run again does only the shards that are not committed yet. Which
    workers do the shards makes no difference to the tables, since a batch never crosses a shard.

    Args:
        job: what is to be done.
        workers: who does the shards; the default is this process alone.
        report: shows how many images have been found, while they are listed.

    Yields: Progress of this process's share, first where it starts. The tables are there afterwards, unless other
        workers still have shards to do (see is_complete).

    Raises:
        InputError: nothing to read, a table or work folder that belongs to another run, or workers that would remove
            each other's work.
        NotFinished: some shards ended their processes again and again; all others are done.
    """
    if workers.share.count > 1 and (job.overwrite or job.retry_errors):
        raise InputError(
            "Several workers with --overwrite or --retry-errors would remove each other's work; remove the old table "
            "and its work folder first, or retry in one process, and leave the option out here."
        )
    # First the tables themselves. A process whose share is done already has nothing to do here.
    prepared = prepare(job, report, workers.here)
    if prepared is not None:
        yield from _do_share(prepared, workers, job.hardware)
    # Then the failed rows of each table, which is finished by now: another list of images, and another way to join.
    retries = 0
    for output in job.outputs() if job.retry_errors else ():
        retry = prepare_retry(job, output, report, workers.here)
        if retry is not None:
            retries += 1
            yield from _do_share(retry, workers, job.hardware)
    if prepared is None and not retries:  # all was done before; say so
        images = max(count_rows(output.path) for output in job.outputs())
        yield Progress(images, images)


def _do_share(prepared: PreparedRun, workers: Workers, hardware: Hardware) -> Iterator[Progress]:
    """Do the shards of this process that are due, and join the tables if it was the last to finish."""
    images = {shard.index: shard.images for shard in prepared.shards() if workers.share.has(shard.index)}
    # Only what is due counts as work; the progress begins at what earlier runs have done.
    due = [index for index in prepared.due_shards() if index in images]
    total = sum(images.values())
    done = total - sum(images[index] for index in due)
    yield Progress(done, total)
    if due:
        for progress in workers.do(prepared, due, hardware):
            yield Progress(done + progress.done, total, failed=progress.failed, note=progress.remark)
    left = _left(prepared) & images.keys()
    if left:
        name = readable(os.fspath(prepared.outputs[0].folder))
        raise NotFinished(
            f"{len(left)} of {len(images)} shards in '{name}' are not done: each of them ended {MAX_ATTEMPTS} "
            "processes, perhaps because memory ran out; run the same command again, perhaps with fewer --devices."
        )
    join_if_complete(prepared)


def _left(prepared: PreparedRun) -> set[int]:
    """Shards that nobody has finished, although they have been dealt."""
    left: set[int] = set()
    for output in prepared.outputs:
        missing = {shard.index for shard in prepared.shards()} - finished_shards(output.folder)
        # Whoever joins the shards removes them. So the folder is listed before the lock is looked at: the other way
        # round, another process might begin to remove them in between.
        if missing and not is_being_joined(output.folder):
            left |= missing
    return left


def join_if_complete(prepared: PreparedRun) -> None:
    """Make each table whose shards are all finished; of several processes that try at once, one does it."""
    for output in prepared.outputs:

        def join(output: PreparedOutput = output) -> None:
            if len(finished_shards(output.folder)) >= len(output.plan.shards()):
                if prepared.retry:
                    merge_retry(output)
                else:
                    join_output(output)

        join_once(output.folder, join)


def check_error_rate(table: Path, max_error_rate: float) -> None:
    """Raises TooManyFailures: more than this share of the rows of a finished table failed, or all of them."""
    rows = failed = 0
    for batch in stream_columns(table, [ERROR]):
        rows += batch.num_rows
        failed += pc.sum(pc.is_valid(batch[ERROR])).as_py() or 0
    if failed > max_error_rate * rows or failed == rows:
        raise TooManyFailures(
            f"{failed} of {rows} images failed; the column {ERROR} of '{readable(os.fspath(table))}' says why, image "
            "by image."
        )
