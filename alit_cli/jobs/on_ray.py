"""Actors of Ray, on one machine or a cluster with a shared disk: each takes the next shard when it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from alit_cli.errors import AlitError, InputError
from alit_cli.jobs.crew import TRIES, MakeWorker, as_alit_error
from alit_cli.jobs.work import ShardWorker, Step, Work


def on_ray(
    work: Work,
    todo: Sequence[int],
    count: int | None = None,
    workers: int | None = None,
    make: MakeWorker = ShardWorker,
) -> Iterator[Step]:
    """Do shards in actors of Ray; one that crashes is started anew, and its shard done again.

    Args:
        work: a prepared run, in a folder that every node sees.
        todo: its shards that are wanted.
        count: actors; None or 0 is one for each GPU of the cluster, or each CPU where the run is one for CPUs.
        workers: as ShardWorker takes it, for each actor.
        make: what does the shards there.

    Yields: images so far and how many of them failed, after each shard. A shard that ended its actor TRIES times is
    left out.

    Raises:
        InputError: Ray is not installed, or the cluster has no GPU for a run on GPUs.
        AlitError: what ended one of the shards in a sentence, such as a full disk.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray)
    try:
        yield from _deal(ray, work, todo, count, workers, make)
    finally:
        if ours:
            ray.shutdown()


def _deal(
    ray: Any, work: Work, todo: Sequence[int], count: int | None, workers: int | None, make: MakeWorker
) -> Iterator[Step]:
    kind = str(work.info.options.device)
    resource = "GPU" if kind == "cuda" else "CPU"
    there = int(ray.cluster_resources().get(resource, 0))
    if there == 0:
        raise InputError(f"The Ray cluster has no {resource}: choose --device cpu, or another cluster (RAY_ADDRESS).")
    share = {"num_gpus": 1} if kind == "cuda" else {"num_cpus": 1}
    options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": TRIES - 1, **share}
    actor_class: Any = ray.remote(**options)(_Actor)
    arguments = work.folder.absolute(), kind, workers, make
    actors = [actor_class.remote(*arguments) for _ in range(min(count or there, there, len(todo)))]
    waiting = deque(todo)
    running = {actor.run.remote(waiting.popleft()): actor for actor in actors}
    done = failed = 0
    while running:
        (ready, *_), _ = ray.wait(list(running))
        actor = running.pop(ready)
        try:
            step: Step = ray.get(ready)
            done, failed = done + step.done, failed + step.failed
        except ray.exceptions.RayTaskError as problem:
            raise problem.cause from None
        except ray.exceptions.RayActorError as problem:  # it died TRIES times; the caller sees what is left
            if "creation task" in str(problem):
                reason = str(problem.__cause__ or problem).strip().splitlines()
                line = next((line for line in reason[::-1] if "Error" in line), reason[-1])
                raise AlitError(f"Ray could not start an actor ({line.strip()}); install alit on every node.") from None
        yield Step(done, failed)
        if waiting:
            running[actor.run.remote(waiting.popleft())] = actor


class _Actor:
    """Does shards with one model, which it loads for the first of them, so that what is wrong with it can be said."""

    def __init__(self, folder: Path, device: str, workers: int | None, make: MakeWorker) -> None:
        self.make: Callable[[], ShardWorker] = lambda: make(folder, device, workers)
        self.worker: ShardWorker | None = None

    def run(self, index: int) -> Step:
        """Do one shard: its images, and how many of them failed."""
        try:
            self.worker = self.worker or self.make()
            steps = list(self.worker.run(index))
            self.worker.flush()
        except Exception as problem:
            raise as_alit_error(problem) from None
        return steps[-1]


def _connect(ray: Any) -> None:
    """The cluster that RAY_ADDRESS names or this machine belongs to, else a new one on this machine."""
    try:
        ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
    except ConnectionError:
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)


def _ray() -> Any:
    try:
        import ray
    except ImportError as problem:
        raise InputError("--engine ray needs Ray: pip install 'alit[ray]'.") from problem
    return ray
