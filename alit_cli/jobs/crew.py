"""Several processes on this machine, each with its own device: shards are dealt to whoever is free."""

from __future__ import annotations

import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path

import torch

from alit_cli.errors import AlitError
from alit_cli.jobs.work import ShardWorker, Step, Work

TRIES = 3
"""How often a shard may end the process that does it."""
PATIENCE = 10
"""Seconds that a process has to end by itself."""

MakeWorker = Callable[[Path, str, int | None], ShardWorker]


@dataclass(frozen=True)
class _Done:
    """A shard is finished, on disk."""

    step: Step


def crew(
    work: Work,
    todo: Sequence[int],
    devices: Sequence[str],
    workers: int | None = None,
    make: MakeWorker = ShardWorker,
) -> Iterator[Step]:
    """Do shards in a process for each device; a process that dies is replaced, and its shard dealt again.

    Args:
        work: a prepared run.
        todo: its shards that are wanted.
        devices: where each process computes; those that share a CPU share its cores.
        workers: as ShardWorker takes it, for each process.
        make: what does the shards there.

    Yields: images so far and how many of them failed. A shard that ended its process TRIES times is left out.

    Raises:
        AlitError: what ended one of the processes in a sentence, such as a full disk.
    """
    waiting = deque(todo)
    died: Counter[int] = Counter()
    finished = Step(0, 0)
    members = [_Member(work.folder, device, workers, len(devices), make) for device in devices[: len(todo)]]
    try:
        for member in members:
            member.take(waiting)
        while busy := {member.pipe: member for member in members if member.shard is not None}:
            for pipe in wait(list(busy)):
                member = busy[pipe]  # type: ignore[index]  # wait() gives what it got
                said = member.said()
                if said is None and member.shard is not None:
                    died[member.shard] += 1
                    if died[member.shard] < TRIES:
                        waiting.append(member.shard)
                    member.start()
                    member.take(waiting)
                elif isinstance(said, _Done):
                    finished = _sum([finished, said.step])
                    member.take(waiting)
            yield _sum([finished, *(member.step for member in members)])
    finally:
        for member in members:
            member.end()


class _Member:
    """A process of the crew, what it works on, and how far it is."""

    def __init__(self, folder: Path, device: str, workers: int | None, size: int, make: MakeWorker) -> None:
        self.arguments = (folder, device, workers, size, make)
        self.shard: int | None = None
        self.start()

    def start(self) -> None:
        """Begin (again), with nothing to do."""
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, *self.arguments))
        self.process.start()
        other.close()
        self.shard, self.step = None, Step(0, 0)

    def take(self, waiting: deque[int]) -> None:
        """Take the next shard, where there is one."""
        self.shard, self.step = (waiting.popleft() if waiting else None), Step(0, 0)
        if self.shard is not None:
            with suppress(OSError):  # it is dead already, which said() finds out
                self.pipe.send(self.shard)

    def said(self) -> Step | _Done | None:
        """What the process tells; None: it died. Raises what it raised."""
        try:
            said = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None
        if isinstance(said, BaseException):
            raise said
        if isinstance(said, Step):
            self.step = said
        found: Step | _Done = said
        return found

    def end(self) -> None:
        """End the process, whatever it does; what it has finished stays."""
        self.pipe.close()  # it notices when it next reads or writes
        self.process.join(PATIENCE)
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, folder: Path, device: str, workers: int | None, size: int, make: MakeWorker) -> None:
    """Do every shard that comes through the pipe, until it closes: the parent is done, or dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, who ends us
    if device == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    with suppress(EOFError, BrokenPipeError):
        try:
            with make(folder, device, workers) as worker:
                while True:
                    index = pipe.recv()
                    step = Step(0, 0)
                    for step in worker.run(index):
                        pipe.send(step)
                    worker.flush()
                    pipe.send(_Done(step))
        except Exception as problem:
            pipe.send(as_alit_error(problem))


def as_alit_error(problem: Exception) -> AlitError:
    """The problem as one of ours, which any process can be told."""
    return problem if isinstance(problem, AlitError) else AlitError(f"{type(problem).__name__}: {problem}.")


def _sum(steps: Sequence[Step]) -> Step:
    """All together, with the last remark."""
    remarks = [step.remark for step in steps if step.remark]
    return Step(sum(step.done for step in steps), sum(step.failed for step in steps), *remarks[-1:])
