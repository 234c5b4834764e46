"""Actors of Ray, on one machine or a cluster with a shared disk: each takes the next shard when it is free."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from alit_cli.errors import AlitError, InputError
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place, ShardProgress
from alit_cli.runs.prepared import PreparedRun
from alit_cli.runs.processes import MAX_ATTEMPTS, as_alit_error


def run_on_ray(run: PreparedRun, due: Sequence[int], kind: str, count: int | None = None) -> Iterator[ShardProgress]:
    """Do shards in actors of Ray; one that crashes is started again, and its shard is done again.

    Args:
        run: a prepared run, in a folder that every node sees.
        due: the shards to do.
        kind: cuda, or anything else for actors that take one CPU each.
        count: how many actors; None or 0 is one per GPU of the cluster, or one per CPU.

    Yields: images so far and how many of them failed, after each shard. A shard that ended its actor MAX_ATTEMPTS times
    is left out.

    Raises:
        InputError: Ray is not installed, or the cluster has no GPU for a run on GPUs.
        AlitError: what ended one of the shards in a sentence, such as a full disk.
    """
    ray = _import_ray()
    # A program that is connected to Ray already keeps its connection.
    connected_here = not ray.is_initialized()
    if connected_here:
        _connect(ray)
    try:
        yield from _deal(ray, run, due, kind, count)
    finally:
        if connected_here:
            ray.shutdown()


def _deal(ray: Any, run: PreparedRun, due: Sequence[int], kind: str, count: int | None) -> Iterator[ShardProgress]:
    resource = "GPU" if kind == "cuda" else "CPU"
    available = int(ray.cluster_resources().get(resource, 0))
    if available == 0:
        raise InputError(f"The Ray cluster has no {resource}: choose --device cpu, or another cluster (RAY_ADDRESS).")
    share = {"num_gpus": 1} if kind == "cuda" else {"num_cpus": 1}
    # Ray itself restarts an actor that died and repeats its call; another limit of ours would come on top of that.
    options: dict[str, Any] = {"max_restarts": -1, "max_task_retries": MAX_ATTEMPTS - 1, **share}
    actor_class: Any = ray.remote(**options)(_Actor)
    actors = [actor_class.remote(run, Place(kind)) for _ in range(min(count or available, available, len(due)))]
    waiting = deque(due)
    # One shard per actor at a time: whoever is ready first takes the next.
    running = {actor.do.remote(waiting.popleft()): actor for actor in actors}
    done = failed = 0
    while running:
        (ready, *_), _ = ray.wait(list(running))
        actor = running.pop(ready)
        try:
            progress: ShardProgress = ray.get(ready)
            done, failed = done + progress.done, failed + progress.failed
        except ray.exceptions.RayTaskError as problem:
            # Ray wraps what the actor raised in an error of its own; the user wants the one inside.
            raise problem.cause from None
        except ray.exceptions.RayActorError as problem:
            # It died MAX_ATTEMPTS times, and the caller will see that the shard is missing; unless it never started.
            if "creation task" in str(problem):
                reason = str(problem.__cause__ or problem).strip().splitlines()
                line = next((line for line in reason[::-1] if "Error" in line), reason[-1])
                raise AlitError(f"Ray could not start an actor ({line.strip()}); install alit on every node.") from None
        yield ShardProgress(done, failed)
        if waiting:
            running[actor.do.remote(waiting.popleft())] = actor


class _Actor:
    """Does shards with one worker, which it makes for the first of them, so that what is wrong can be said."""

    def __init__(self, run: PreparedRun, place: Place) -> None:
        self.run, self.place = run, place
        self.runner: ShardRunner | None = None

    def do(self, index: int) -> ShardProgress:
        """Do one shard: its images, and how many of them failed."""
        try:
            self.runner = self.runner or ShardRunner(self.run, self.place)
            progresses = list(self.runner.do(index))
            self.runner.flush()
        except Exception as problem:
            raise as_alit_error(problem) from None
        return progresses[-1]


def _connect(ray: Any) -> None:
    """Join the cluster that RAY_ADDRESS names or this machine belongs to; without one, start one on this machine."""
    try:
        ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
    except ConnectionError:
        ray.init(logging_level="ERROR", log_to_driver=False, include_dashboard=False)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as problem:
        raise InputError("--engine ray needs Ray: pip install 'alit[ray]'.") from problem
    return ray
