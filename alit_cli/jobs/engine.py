"""Who does which shard: one process, several on this machine, one of a job array, or actors of Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from alit_cli.data.files import readable
from alit_cli.data.tables.parts import PLAN, unfinished
from alit_cli.data.tables.token_table import count_rows
from alit_cli.errors import InputError, NotFinished
from alit_cli.jobs.crew import TRIES, crew
from alit_cli.jobs.tokenize import TokenizeJob, join, rounds
from alit_cli.jobs.work import Step, Work, alone
from alit_cli.progress import Progress, ProgressCallback, no_progress
from alit_cli.runs.shards import join_once as join_folder_once

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Worker:
    """One of `count` processes that share a run without talking to each other: it does every count-th shard.

    Attributes:
        index: its number, from 0.
        count: how many there are.
        local: its number on this machine, which picks its GPU; None leaves the device as it is named.
        told: what said so, in a few words; empty for the only one.
    """

    index: int = 0
    count: int = 1
    local: int | None = None
    told: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"There is no worker {self.index}/{self.count} ({self.told or 'workers count from 0'}): "
                f"of {self.count} the first is 0/{self.count}, the last {self.count - 1}/{self.count}."
            )

    def has(self, shard: int) -> bool:
        """Whether a shard is this worker's."""
        return shard % self.count == self.index


def worker_here(environment: Mapping[str, str] = os.environ) -> Worker:
    """The worker that this process is by its environment, of torchrun, a Slurm step or job array; else the only one.

    A job array whose tasks are steps of several processes deals to all of them. Raises InputError: a task of an array
    that has no even numbering, which needs `--worker`.
    """
    found = environment.get
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size, local_rank = (int(found(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return Worker(rank, size, local_rank, "RANK and WORLD_SIZE")
    index, count, told = 0, 1, []
    local: int | None = None
    if "SLURM_ARRAY_TASK_ID" in environment:
        first, step = int(found("SLURM_ARRAY_TASK_MIN", "0")), int(found("SLURM_ARRAY_TASK_STEP", "1"))
        index = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // step
        count = int(found("SLURM_ARRAY_TASK_COUNT", "1"))
        told.append("SLURM_ARRAY_TASK_ID")
    if int(found("SLURM_STEP_NUM_TASKS", "1")) > 1:  # a batch script has SLURM_NTASKS too, but is one process
        processes = int(environment["SLURM_STEP_NUM_TASKS"])
        index, count = index * processes + int(environment["SLURM_PROCID"]), count * processes
        local = int(found("SLURM_LOCALID", "0"))
        told.append("SLURM_PROCID")
    return Worker(index, count, local, " and ".join(told) if count > 1 else "")


def run(
    job: TokenizeJob,
    worker: Worker | None = None,
    engine: Engine = "local",
    devices: int | None = None,
    tell: ProgressCallback = no_progress,
) -> Iterator[Progress]:
    """Do this process's share of a table; whoever finishes the last shard of all joins them.

    Engines only deal shards, and `ShardWorker` does each of them, so that the tables of all are the same.

    Args:
        job: what to tokenize.
        worker: which of several such processes this one is; None is the only one.
        engine: `local`, or actors of the Ray cluster that this machine belongs to (else of a new one on it).
        devices: processes, each with a GPU of its own or its share of the cores; 0 takes every GPU, or every core;
            None is this process alone (with Ray: every GPU, or every core).
        tell: shows how many images have been found, while they are being listed.

    Yields: Progress of this process's share. The table is there afterwards unless other workers have shards left.

    Raises:
        InputError: as `prepare`; several workers that would overwrite each other's work.
        NotFinished: processes died on some shards again and again; the others are done.
    """
    worker = worker or Worker()
    if worker.count > 1 and (job.overwrite or job.retry):
        raise InputError(
            "Several workers with --overwrite or --retry-errors would remove each other's work: remove "
            f"'{readable(str(job.out))}' and its work first, or retry in one process, and leave the option out here."
        )
    work = None
    for work in rounds(job, tell):
        yield from _share(job, work, worker, engine, devices)
    if work is None:
        images = count_rows(job.out)
        yield Progress(images, images)


def _share(job: TokenizeJob, work: Work, worker: Worker, engine: Engine, devices: int | None) -> Iterator[Progress]:
    """One worker's share of a run, joined with the others' if it is the last."""
    sizes = {shard.index: shard.images for shard in work.plan.shards() if worker.has(shard.index)}
    todo = [index for index in work.todo() if index in sizes]
    total = sum(sizes.values())
    done = total - sum(sizes[index] for index in todo)
    yield Progress(done, total)
    for step in _deal(job, work, todo, worker, engine, devices) if todo else ():
        yield Progress(done + step.done, total, failed=step.failed, note=step.remark)
    left = [index for index in work.todo() if index in sizes]
    if left and (work.folder / PLAN).exists():
        raise NotFinished(
            f"{len(left)} of {len(sizes)} shards in '{readable(str(work.folder))}' are not done: they ended {TRIES} "
            "processes each (too little memory?); run the same command again, perhaps with fewer --devices."
        )
    join_once(work)


def finished(job: TokenizeJob) -> bool:
    """Whether the whole table is there, whoever made it."""
    if (job.out.with_name(f"{job.out.name}.work") / PLAN).exists():
        return False
    return job.out.exists() and not (job.folder and unfinished(job.out))


def join_once(work: Work) -> None:
    """Make the table where all shards are finished; of several processes that try at once, one does it."""
    join_folder_once(work.folder, lambda: None if work.todo() else join(work))


def _deal(
    job: TokenizeJob, work: Work, todo: Sequence[int], worker: Worker, engine: Engine, devices: int | None
) -> Iterator[Step]:
    if engine == "ray":
        from alit_cli.jobs.on_ray import on_ray

        return on_ray(work, todo, devices, job.workers)
    kind = str(work.info.options.device)
    if devices is None:
        return alone(work, todo, _device(job.device, kind, worker.local), job.workers)
    return crew(work, todo, _devices(job.device, kind, devices), job.workers)


def _device(name: str, kind: str, local: int | None) -> str:
    """The device of this process: of several on a machine, each takes another GPU."""
    if kind == "cuda" and local is not None and name in ("auto", "cuda"):
        return f"cuda:{local % torch.cuda.device_count()}"
    return name


def _devices(name: str, kind: str, count: int) -> list[str]:
    """The devices of `count` processes (0: as many as there are). Raises InputError: there are fewer GPUs."""
    if kind != "cuda":
        return [kind] * (count or (os.cpu_count() or 1 if kind == "cpu" else 1))
    there = torch.cuda.device_count()
    if count > there:
        raise InputError(f"--devices {count}: there are {there} GPUs on this machine.")
    if ":" in name:
        raise InputError(f"--devices takes the GPUs from the first on: give no number with it, as in --device {name}.")
    return [f"cuda:{index}" for index in range(count or there)]
