"""Several processes on this machine, each with its own device: shards are dealt to whoever is free."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait

from alit_cli.errors import AlitError
from alit_cli.runs.in_process import ShardRunner
from alit_cli.runs.job import Place, ShardProgress
from alit_cli.runs.prepared import PreparedRun

MAX_ATTEMPTS = 3
"""A shard that has ended so many processes is left out: it probably does not fit into memory."""
SHUTDOWN_SECONDS = 10
"""How long a process may take to end by itself once all shards are done."""


@dataclass(frozen=True)
class _ShardDone:
    """What a process says when a shard is finished and on disk."""

    progress: ShardProgress


def run_in_processes(run: PreparedRun, due: Sequence[int], places: Sequence[Place]) -> Iterator[ShardProgress]:
    """Do shards in one process per place; a process that dies is replaced, and its shard is dealt again.

    Yields: images so far and how many of them failed. A shard that ended its process MAX_ATTEMPTS times is left out.

    Raises:
        AlitError: what ended one of the processes in a sentence, such as a full disk.
    """
    waiting = deque(due)
    deaths: Counter[int] = Counter()
    finished: list[ShardProgress] = []
    # No more processes than shards: each of them would load the model for nothing.
    processes = [_Process(run, place) for place in places[: len(due)]]
    try:
        for process in processes:
            process.take(waiting)
        while busy := {process.pipe: process for process in processes if process.shard is not None}:
            for pipe in wait(list(busy)):
                process = busy[pipe]  # type: ignore[index]  # wait() gives back connections that it was given
                # One message per round, so that a process that reports often does not hold up the others.
                message = process.receive()
                if isinstance(message, ShardProgress):
                    process.progress = message
                elif isinstance(message, _ShardDone):
                    finished = [_sum([*finished, message.progress])]
                    process.take(waiting)
                elif process.shard is not None:  # the process has died
                    deaths[process.shard] += 1
                    if deaths[process.shard] < MAX_ATTEMPTS:
                        waiting.append(process.shard)
                    process.start()
                    process.take(waiting)
            yield _sum([*finished, *(process.progress for process in processes)])
        for process in processes:
            process.pipe.close()  # the process notices that it is no longer needed, and ends by itself
        for process in processes:
            process.process.join(SHUTDOWN_SECONDS)
    finally:
        # After Ctrl-C or an error, this is at once. What a process has committed stays, and what it has not is no loss.
        for process in processes:
            process.process.kill()
        for process in processes:
            process.process.join()
            process.pipe.close()


class _Process:
    """A process that does shards, the shard that it works on, and how far it is."""

    def __init__(self, run: PreparedRun, place: Place) -> None:
        self.run, self.place = run, place
        self.start()

    def start(self) -> None:
        """Start the process (again), with nothing to do."""
        # Not forked: a fork would copy the threads' locks of torch and pyarrow in whatever state they are.
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_do_shards_forever, args=(other, self.run, self.place))
        self.process.start()
        # While our copy of this end were open, the pipe would not end when the process dies.
        other.close()
        self.shard: int | None = None
        self.progress = ShardProgress(0, 0)

    def take(self, waiting: deque[int]) -> None:
        """Take the next shard, if there is one."""
        self.shard, self.progress = (waiting.popleft() if waiting else None), ShardProgress(0, 0)
        if self.shard is not None:
            with suppress(OSError):  # the process is dead already, which receive() will find
                self.pipe.send(self.shard)

    def receive(self) -> ShardProgress | _ShardDone | None:
        """The next message of the process; None: it died. Raises what the process raised."""
        try:
            message: ShardProgress | _ShardDone | AlitError = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None
        if isinstance(message, AlitError):
            raise message
        return message


def _do_shards_forever(pipe: Connection, run: PreparedRun, place: Place) -> None:
    """Do every shard that comes through the pipe, until the pipe closes because the parent is done, or dead."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    end_with_parent()
    with suppress(EOFError, BrokenPipeError):
        try:
            with ShardRunner(run, place) as runner:
                while True:
                    index = pipe.recv()
                    progress = ShardProgress(0, 0)
                    for progress in runner.do(index):
                        pipe.send(progress)
                    # Only what is on disk is called done: a process that dies afterwards loses nothing.
                    runner.flush()
                    pipe.send(_ShardDone(progress))
        except Exception as problem:
            pipe.send(as_alit_error(problem))


def end_with_parent() -> None:
    """End this process as soon as its parent ends, in whatever way, and whatever this process is busy with."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)  # not sys.exit: the main thread may be deep inside a decoder

    threading.Thread(target=watch, name="parent", daemon=True).start()


def as_alit_error(problem: Exception) -> AlitError:
    """The problem as an error that can be sent to any process; its note is the traceback of this one."""
    error = problem if isinstance(problem, AlitError) else AlitError(f"{type(problem).__name__}: {problem}.")
    # Notes are pickled with an exception, tracebacks are not; ALIT_DEBUG=1 prints both.
    error.add_note(f"In the worker process:\n{traceback.format_exc()}")
    return error


def _sum(progresses: Sequence[ShardProgress]) -> ShardProgress:
    """All together, with the last remark."""
    remarks = [progress.remark for progress in progresses if progress.remark]
    done, failed = (sum(getattr(progress, name) for progress in progresses) for name in ("done", "failed"))
    return ShardProgress(done, failed, *remarks[-1:])
