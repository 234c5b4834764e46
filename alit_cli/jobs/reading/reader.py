"""Pictures read ahead of the model, in order, a bounded number at a time: here, in threads or in processes."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from alit_cli.data.pictures.fitting import Fit, Picture, Reading
from alit_cli.data.sources.items import Item
from alit_cli.jobs.reading.decoder_processes import IMAGE_SECONDS, LOOKAHEAD, ReaderProcesses, too_slow

MANY_IMAGES = 2_000
"""Images from which on processes are worth the second or two that they take to start."""
THIS_PROCESS_ONLY = "memory://"
"""The beginning of paths that other processes cannot see: fsspec's file system in memory."""


class Reader(Protocol):
    """Something that turns items into pictures until it is closed.

    Attributes:
        remarks: one sentence for everything out of the ordinary so far.
    """

    remarks: list[str]

    def read(self, items: Sequence[Item]) -> Iterator[Picture]:
        """Every item as a Picture, in order; a bad image is a Picture with a status."""

    def close(self) -> None:
        """End the threads or processes that read."""


def make_picture_reader(reading: Reading, workers: int | None, images: int, first_path: str, batch_size: int) -> Reader:
    """The reader for a run.

    Args:
        reading: what is done with every item.
        workers: processes; 0 decodes one image at a time in this process, None chooses: threads for a short run,
            processes for a long one, at most four.
        images: of the whole run.
        first_path: where the first of them lies.
        batch_size: pictures that are wanted at a time.
    """
    # There are two batches in flight: the model works on one while the other is read.
    lookahead = max(LOOKAHEAD, 2 * batch_size)
    here = first_path.startswith(THIS_PROCESS_ONLY)
    if workers == 0:
        return _one_thread(reading)
    if here or (workers is None and images < MANY_IMAGES):
        return ReaderThreads(reading, workers or default_workers(), lookahead)
    return ReaderProcesses(reading, workers or default_workers(), lookahead)


def default_workers() -> int:
    """How many decode where the user does not say: at most four."""
    return min(4, os.cpu_count() or 1)


def read_ahead(
    items: Sequence[Item], side: int, how: Fit, bits: tuple[int, ...] | None, workers: int
) -> Iterator[Picture]:
    """Every item as a Picture, in order, read in so many threads; the arguments are those of Reading."""
    reader = ReaderThreads(Reading(side, how, bits), workers) if workers else _one_thread(Reading(side, how, bits))
    try:
        yield from reader.read(items)
    finally:
        reader.close()


def _one_thread(reading: Reading) -> ReaderThreads:
    """What `--decode-workers 0` means: one image at a time, only when it is asked for."""
    return ReaderThreads(reading, 1, lookahead=1)


@dataclass(eq=False)
class _Job:
    """One item on its way through a thread; `started` is the monotonic time at which a thread took it."""

    item: Item
    started: float | None = None
    picture: Picture | None = None
    problem: BaseException | None = None
    given_up: bool = False


class ReaderThreads:
    """Reads in threads of this process, each watched: one that takes too long costs its image, and is replaced.

    The threads are daemons. Those of a ThreadPoolExecutor would be waited for at exit, and a decoder that hangs would
    keep the whole process from ending.

    Args:
        reading: what is done with every item.
        count: threads.
        lookahead: pictures in flight.
        patience: seconds that one image may take.

    Attributes:
        remarks: one sentence for every thread that was replaced.
    """

    def __init__(
        self, reading: Reading, count: int, lookahead: int = LOOKAHEAD, patience: float = IMAGE_SECONDS
    ) -> None:
        self.reading, self.lookahead, self.patience = reading, lookahead, patience
        self.remarks: list[str] = []
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._threads = count
        for _ in range(count):
            self._start_thread()

    def read(self, items: Sequence[Item]) -> Iterator[Picture]:
        """Every item as a Picture, in order."""
        in_flight: deque[_Job] = deque()
        try:
            for item in items:
                in_flight.append(_Job(item))
                self._waiting.put(in_flight[-1])
                if len(in_flight) >= self.lookahead:
                    yield self._take(in_flight.popleft())
            while in_flight:
                yield self._take(in_flight.popleft())
        finally:
            for job in in_flight:  # nobody waits for them any more
                job.given_up = True

    def close(self) -> None:
        """Let the threads end; one that is busy ends when it is done."""
        for _ in range(self._threads):
            self._waiting.put(None)

    def _start_thread(self) -> None:
        threading.Thread(target=self._serve, name="decode", daemon=True).start()

    def _serve(self) -> None:
        """Do jobs until there is a None, or until one was given up that this thread had in hand."""
        while (job := self._waiting.get()) is not None:
            if job.given_up:
                continue
            with self._changed:
                job.started = time.monotonic()
                self._changed.notify_all()
            picture, problem = None, None
            try:
                picture = self.reading(job.item)
            except BaseException as error:  # told to the thread that waits, whatever it is
                problem = error
            with self._changed:
                job.picture, job.problem = picture, problem
                self._changed.notify_all()
                # _give_up sets both and starts another thread. read() sets given_up alone, and then this thread goes
                # on.
                if job.given_up and job.started is None:
                    return  # it has been replaced meanwhile

    def _take(self, job: _Job) -> Picture:
        """Wait for one picture, at most `patience` seconds after a thread took the item."""
        with self._changed:
            while job.picture is None and job.problem is None:
                # A job that nobody has taken yet waits for one that has been taken, which has a limit of its own.
                left = 1.0 if job.started is None else job.started + self.patience - time.monotonic()
                if left <= 0:
                    return self._give_up(job)
                self._changed.wait(min(left, 1.0))
        if job.problem is not None:
            raise job.problem
        assert job.picture is not None
        return job.picture

    def _give_up(self, job: _Job) -> Picture:
        """Replace the thread that has a job in hand; what it makes of it in the end is not looked at."""
        job.given_up, job.started = True, None
        self._start_thread()
        self.remarks.append(f"A decoding thread was stuck on '{job.item.image}' and was replaced.")
        return too_slow(job.item, self.patience)
