"""Who does which shard: this process alone, one of several that never talk to each other, processes, or Ray actors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alit_cli.errors import InputError
from alit_cli.runs.in_process import run_in_this_process
from alit_cli.runs.job import Hardware, Place, ShardProgress
from alit_cli.runs.prepared import PreparedRun

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class WorkerShare:
    """One of `count` processes that share a run without talking to each other: it does every count-th shard.

    Attributes:
        index: its number, from 0.
        count: how many there are.
        local: its number on this machine, which picks its GPU; None leaves the device as the user named it.
        source: the option or the variables that said so; empty for a process that does everything.
    """

    index: int = 0
    count: int = 1
    local: int | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"There is no worker {self.index}/{self.count} ({self.source or 'workers count from 0'}): "
                f"of {self.count} the first is 0/{self.count}, the last {self.count - 1}/{self.count}."
            )

    def headline(self) -> str:
        """Which shards the worker does, for the first lines of a run."""
        return (
            f"Worker {self.index}/{self.count} (by {self.source}): it does one shard in {self.count}, from "
            f"{self.index} on."
        )

    def has(self, shard: int) -> bool:
        """Whether a shard is this worker's."""
        return shard % self.count == self.index


def share_of_environment(environment: Mapping[str, str] = os.environ) -> WorkerShare:
    """The share of this process by its environment: of torchrun, a Slurm step or a Slurm job array; else everything.

    In a job array whose tasks are steps of several processes, shards are dealt to all of these processes. Raises
    InputError: a task of an array whose numbers have gaps, which needs `--worker`.
    """
    get = environment.get
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size, local_rank = (int(get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        return WorkerShare(rank, size, local_rank, "RANK and WORLD_SIZE")
    index, count, sources = 0, 1, []
    local: int | None = None
    if "SLURM_ARRAY_TASK_ID" in environment:
        # The numbers of a job array may begin anywhere and rise by any step, but shares count from 0 by 1.
        first, step = int(get("SLURM_ARRAY_TASK_MIN", "0")), int(get("SLURM_ARRAY_TASK_STEP", "1"))
        index = (int(environment["SLURM_ARRAY_TASK_ID"]) - first) // step
        count = int(get("SLURM_ARRAY_TASK_COUNT", "1"))
        sources.append("SLURM_ARRAY_TASK_ID")
    if int(get("SLURM_STEP_NUM_TASKS", "1")) > 1:  # a batch script has SLURM_NTASKS too, but is one process
        processes = int(environment["SLURM_STEP_NUM_TASKS"])
        index, count = index * processes + int(environment["SLURM_PROCID"]), count * processes
        local = int(get("SLURM_LOCALID", "0"))
        sources.append("SLURM_PROCID")
    return WorkerShare(index, count, local, " and ".join(sources) if count > 1 else "")


@dataclass(frozen=True)
class Workers:
    """Who does the shards of a run. Whoever it is, the tables are the same to the bit.

    Attributes:
        share: which of several independent processes this one is.
        engine: `local`, or `ray`: actors of the Ray cluster that this machine belongs to, else of a new one on it.
        devices: processes that this one starts, each with a GPU of its own or its part of the cores; 0 takes every
            GPU, or every core. None: this process does the shards itself (with Ray: every GPU, or every core).
    """

    share: WorkerShare = WorkerShare()
    engine: Engine = "local"
    devices: int | None = None

    @property
    def here(self) -> bool:
        """Whether this process does its shards itself."""
        return self.engine == "local" and self.devices is None

    def do(self, run: PreparedRun, due: Sequence[int], hardware: Hardware) -> Iterator[ShardProgress]:
        """Do these shards. Yields how many images are done and how many of them failed, over all of them.

        Raises as the one of run_in_this_process, run_in_processes and run_on_ray that is chosen.
        """
        if self.engine == "ray":
            from alit_cli.runs.ray_actors import run_on_ray  # Ray is an extra, and slow to import

            return run_on_ray(run, due, hardware.kind, self.devices)
        if self.devices is None:
            return run_in_this_process(run, due, Place(_own_device(hardware, self.share.local)))
        from alit_cli.runs.processes import run_in_processes

        return run_in_processes(run, due, _places(hardware, self.devices))


def workers_of_options(worker: tuple[int, int] | None, engine: Engine, devices: int | None) -> Workers:
    """The workers that the options of a command ask for; without `--worker`, the environment says which share it is."""
    share = share_of_environment() if worker is None else WorkerShare(*worker, source="--worker")
    return Workers(share, engine, devices)


def _own_device(hardware: Hardware, local: int | None) -> str:
    """The device of this process: of several processes on one machine, each takes another GPU."""
    # A device that the user named with a number is taken as it is.
    if hardware.kind == "cuda" and local is not None and hardware.name in ("auto", "cuda"):
        # Where there are more processes than GPUs, several processes share one.
        return f"cuda:{local % hardware.gpus}"
    return hardware.name


def _places(hardware: Hardware, count: int) -> list[Place]:
    """Where `count` processes compute (0: as many as there are devices). Raises InputError: there are fewer GPUs."""
    if hardware.kind != "cuda":
        cores = os.cpu_count() or 1
        # More processes than cores would only share them; a Mac has one GPU.
        count = count or (cores if hardware.kind == "cpu" else 1)
        threads = max(1, cores // count) if hardware.kind == "cpu" else None
        return [Place(hardware.kind, threads)] * count
    if count > hardware.gpus:
        raise InputError(f"--devices is {count}, but this machine has {hardware.gpus} GPUs; give at most that many.")
    if ":" in hardware.name:
        raise InputError(
            f"--devices N always uses the GPUs 0 to N-1, so --device must not name one (it is '{hardware.name}'); "
            "use CUDA_VISIBLE_DEVICES to choose GPUs."
        )
    return [Place(f"cuda:{index}") for index in range(count or hardware.gpus)]
