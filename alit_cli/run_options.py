"""The options of commands that work in shards, and how such a command does its run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from alit_cli.grouped_help import HARDWARE, RUN, option

if TYPE_CHECKING:
    from alit_cli.runs.job import NamedJob


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is done, whatever it computes.

    Attributes:
        worker: (I, N): this process does every N-th shard from I on; None: the environment says so.
        devices: processes on this machine, 0 for one per device; None: this one alone.
        engine: who does the shards.
        decode_workers: processes that decode images, 0 for none; None leaves the choice to the machine.
        batch_size, shard_size: images; None leaves the choice to the device.
        max_error_rate: the share of images that may fail.
        retry_errors, overwrite: as the job takes them.
        dry_run: only say how long it would take.
        as_json: print results as JSON.
    """

    worker: tuple[int, int] | None
    devices: int | None
    engine: Literal["local", "ray"]
    decode_workers: int | None
    batch_size: int | None
    shard_size: int | None
    max_error_rate: float
    retry_errors: bool
    overwrite: bool
    dry_run: bool
    as_json: bool


def do_run(job: NamedJob, options: RunOptions) -> bool:
    """Do a job with the workers that were asked for, or only say how long it would take.

    Returns: whether the tables are complete, so that they can be summed up.
    """
    from alit_cli.console import print_json, progress_reporter, run_with_progress, say, show_table
    from alit_cli.runs.estimate import estimate
    from alit_cli.runs.prepared import is_complete
    from alit_cli.runs.run import run
    from alit_cli.runs.workers import workers_of_options

    say(job.headline())
    if options.dry_run:
        with progress_reporter() as report:
            expected = estimate(job, report)
        if options.as_json:
            print_json({"out": job.out, "seconds": expected.seconds, **vars(expected)})
        else:
            row = expected.as_row()
            show_table(f"{job.out}: speed from {expected.basis}", list(row), [list(row.values())])
        return False
    workers = workers_of_options(options.worker, options.engine, options.devices)
    if workers.share.count > 1:
        say(workers.share.headline())
    run_with_progress(lambda report: run(job, workers, report))
    # With --worker other processes may still have shards to do, so there is no whole table to sum up yet.
    tables = [output.path for output in job.outputs()]
    if complete := all(is_complete(table) for table in tables):
        return complete
    names = ", ".join(map(str, tables))
    say(f"This worker's shards are done; the worker that finishes the last of the others' writes {names}.")
    return False


def _read_worker(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", value.strip())
    if not match or not int(match[1]) < int(match[2]):
        raise click.BadParameter(f"'{value}' is no worker of several: of two they are 0/2 and 1/2", param=param)
    return int(match[1]), int(match[2])


def _read_devices(_ctx: click.Context, param: click.Parameter, value: str | int | None) -> int | None:
    if value is None or value == "all":
        return None if value is None else 0  # 0 stands for all devices, because None is an option that was not used
    if not re.fullmatch(r"[1-9]\d*", str(value)):
        raise click.BadParameter(f"'{value}' is neither 'all' nor a number from 1 up", param=param)
    return int(value)


OPTIONS = [
    option(
        HARDWARE,
        "--decode-workers",
        # Beside --worker the former name looked as if it counted the workers of a run.
        formerly=["--workers"],
        type=click.IntRange(0),
        help="Processes that decode images; 0 for none. [default: up to 4; threads below 2,000 images]",
    ),
    option(
        HARDWARE,
        "--worker",
        metavar="I/N",
        callback=_read_worker,
        help="Compute every N-th shard, starting at I (0 ≤ I < N). [default: from torchrun or Slurm, else 0/1]",
    ),
    option(
        HARDWARE,
        "--devices",
        metavar="N|all",
        callback=_read_devices,
        help="Processes on this machine, each with its own GPU or its share of the cores. [default: this one alone]",
    ),
    option(
        HARDWARE,
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        help="What computes the shards: processes of this machine, or actors of a Ray cluster.",
    ),
    option(
        HARDWARE,
        "--batch-size",
        type=click.IntRange(1),
        help="Images per batch. [default: 4 on a CPU, 2 for models above 100 MiB, 16 to score; 128 on a GPU]",
    ),
    option(
        RUN,
        "--retry-errors",
        is_flag=True,
        help="Try only the failed rows again; unfinished work is finished first.",
    ),
    option(
        RUN,
        "--dry-run",
        is_flag=True,
        help="Only print how much there is to do, and about how long it would take; write nothing.",
    ),
    option(
        RUN,
        "--shard-size",
        type=click.IntRange(1),
        help="Images per shard; finished shards survive an interruption. [default: 100 on a CPU, 10240 on a GPU, 1024 "
        "on mps]",
    ),
    option(
        RUN,
        "--max-error-rate",
        type=click.FloatRange(0, 1),
        default=0.05,
        help="Exit with code 3 if a larger share of the images fails.",
    ),
    option(RUN, "--overwrite", is_flag=True, help="Replace the table, or the unfinished work, of another run."),
]
"""The options of every run, in the order of the help."""


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All options of RunOptions but `--json`, by the names of its fields."""
    for decorate in reversed(OPTIONS):  # decorators apply from the last to the first, so the help keeps this order
        function = decorate(function)
    return function
