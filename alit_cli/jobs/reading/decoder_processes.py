"""Processes that decode images, each watched: one that hangs or dies costs its image, and is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from alit_cli.data.pictures.fitting import Picture, Reading
from alit_cli.data.sources.items import Item
from alit_cli.errors import AlitError
from alit_cli.runs.processes import end_with_parent

LOOKAHEAD = 64
"""Pictures in flight: decoded or being decoded, not yet taken; at least, for large batches want more."""
# Several items share one message, which hides the delay of the pipe; few are dealt again when a process dies.
CHUNK = 4
"""Items that a process is given at a time."""
IMAGE_SECONDS = 120.0
"""Seconds that one image may take."""
START_SECONDS = 120.0
"""Seconds that a process may take to start."""

NO_START = "A decoding process could not start; try --decode-workers 0, which decodes in the main process."


@dataclass(eq=False)
class _Worker:
    """A process, our end of its pipe, the items it was given and has not sent back, and when it last spoke."""

    process: BaseProcess
    pipe: Connection
    given: deque[tuple[int, Item]] = field(default_factory=deque)
    ready: bool = False
    heard: float = field(default_factory=time.monotonic)


class ReaderProcesses:
    """A few spawned processes that turn items into pictures; they live until close().

    Args:
        reading: what is done with every item.
        count: processes.
        lookahead: pictures in flight.
        patience: seconds that one image may take before its process is replaced.

    Attributes:
        remarks: one sentence for every process that was replaced.
    """

    def __init__(
        self, reading: Reading, count: int, lookahead: int = LOOKAHEAD, patience: float = IMAGE_SECONDS
    ) -> None:
        self.reading, self.lookahead, self.patience = reading, lookahead, patience
        self.remarks: list[str] = []
        self._workers = [self._started() for _ in range(count)]

    def read(self, items: Sequence[Item]) -> Iterator[Picture]:
        """Every item as a Picture, in order. Raises AlitError: no process can be started."""
        batch = _Batch(items, self.lookahead)
        thread = threading.Thread(target=self._serve, args=(batch,), name="decoders", daemon=True)
        thread.start()
        try:
            for index in range(len(items)):
                yield batch.take(index)
        finally:
            batch.stop()
            thread.join()

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.pipe.close()  # it ends as soon as it sees that
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(5)
        self._workers = []

    def _started(self) -> _Worker:
        # A forked process would inherit locks that threads of torch and Arrow hold, and hang.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_decode_forever, args=(theirs, self.reading), name="alit-decode", daemon=True)
        process.start()
        # While our copy of this end were open, the pipe would not end when the process dies.
        theirs.close()
        return _Worker(process, ours)

    def _serve(self, batch: _Batch) -> None:
        """Deal items and gather pictures until the batch is done; runs in a thread of its own."""
        try:
            for worker in [worker for worker in self._workers if worker.given]:  # left over from a batch given up
                self._replace(worker)
            while batch.wanted():
                for worker in self._workers:
                    # A process gets its next items while it still has some, so that it never waits for us.
                    if len(worker.given) <= CHUNK // 2 and (chunk := batch.next_chunk()):
                        self._give(worker, chunk)
                # A process that has just started is listened to as well, since it says when it is ready, or dies.
                busy = [worker for worker in self._workers if worker.given or not worker.ready]
                # take() makes room without waking this thread, so a full batch is looked at more often.
                # Neither does stop(), and whoever has called it waits for this thread, after Ctrl-C for example.
                for pipe in wait([worker.pipe for worker in busy], timeout=0.05 if batch.full() else 0.1):
                    self._hear(next(worker for worker in busy if worker.pipe is pipe), batch)
                self._look_for_the_stuck(batch)
        except Exception as problem:
            batch.fail(problem)

    def _give(self, worker: _Worker, chunk: list[tuple[int, Item]]) -> None:
        # The process was idle, so the time that its next image may take begins now.
        if not worker.given and worker.ready:
            worker.heard = time.monotonic()
        worker.given.extend(chunk)
        with contextlib.suppress(OSError):  # it has died; _hear will find that
            worker.pipe.send([item for _, item in chunk])

    def _hear(self, worker: _Worker, batch: _Batch) -> None:
        try:
            picture: Picture | None = worker.pipe.recv()
        except (EOFError, OSError):
            self._bury(worker, batch)
            return
        worker.heard = time.monotonic()
        if picture is None:
            worker.ready = True
        else:
            # A process answers in the order in which it was given items, so the answer is that of the first one.
            index, _ = worker.given.popleft()
            batch.put(index, picture)

    def _bury(self, worker: _Worker, batch: _Batch) -> None:
        """A process has died: its image is tried once more, for another may have taken its memory."""
        worker.process.join(5)
        if not worker.ready:
            raise AlitError(NO_START)
        code = worker.process.exitcode
        index, item = worker.given.popleft() if worker.given else (-1, None)
        if item is not None and not batch.retry(index, item):
            self.remarks.append(f"A decoding process ended with code {code} on '{item.image}' and was replaced.")
            sentence = "The decoder crashed on this image, twice."
            batch.put(index, Picture(item.image, item.source, "crashed", sentence))
        self._replace(worker, batch)

    def _look_for_the_stuck(self, batch: _Batch) -> None:
        now = time.monotonic()
        # _replace changes the list while it is walked through, hence the copy.
        for worker in list(self._workers):
            if not worker.ready and now - worker.heard > START_SECONDS:
                raise AlitError(
                    "A decoding process does not start; try --decode-workers 0, which decodes in the main process."
                )
            if worker.ready and worker.given and now - worker.heard > self.patience:
                index, item = worker.given.popleft()
                self.remarks.append(
                    f"Decoding process {worker.process.pid} was stuck on '{item.image}' and was replaced."
                )
                batch.put(index, too_slow(item, self.patience))
                self._replace(worker, batch)

    def _replace(self, worker: _Worker, batch: _Batch | None = None) -> None:
        """End a process, hand its other items back and start another."""
        worker.process.kill()
        worker.pipe.close()
        if batch is not None:
            batch.give_back(list(worker.given))
        self._workers[self._workers.index(worker)] = self._started()


def too_slow(item: Item, seconds: float) -> Picture:
    """What becomes of an image whose decoder was given up after so many seconds."""
    return Picture(item.image, item.source, "timeout", f"Decoding took longer than {seconds:g} s and was given up.")


class _Batch:
    """Items to be dealt and pictures to be taken in order, shared by two threads."""

    def __init__(self, items: Sequence[Item], lookahead: int) -> None:
        self.lookahead = lookahead
        self.waiting: deque[tuple[int, Item]] = deque(enumerate(items))
        self.pictures: dict[int, Picture] = {}
        self.left = len(items)
        self.flying = 0
        self.dealt = 0
        self.retried: set[int] = set()
        self.stopped = False
        self.problem: Exception | None = None
        self.changed = threading.Condition()

    def wanted(self) -> bool:
        """Whether pictures are missing that somebody waits for."""
        return self.left > 0 and not self.stopped

    def full(self) -> bool:
        """Whether nothing may be dealt until pictures are taken; what was dealt before may always be dealt again."""
        with self.changed:
            return bool(self.waiting) and self.flying >= self.lookahead and self.waiting[0][0] >= self.dealt

    def next_chunk(self) -> list[tuple[int, Item]]:
        """Items for one process."""
        if self.full():
            return []
        with self.changed:
            chunk = [self.waiting.popleft() for _ in range(min(CHUNK, len(self.waiting)))]
            self.flying += len(chunk)
            # Items that are dealt again do not raise this number. full() lets them pass, as take() may be waiting for
            # one of them.
            self.dealt = max([self.dealt, *(index + 1 for index, _ in chunk)])
            return chunk

    def put(self, index: int, picture: Picture) -> None:
        """Store a picture and wake the reader."""
        with self.changed:
            self.pictures[index] = picture
            self.left -= 1
            self.changed.notify_all()

    def take(self, index: int) -> Picture:
        """Wait for one picture. Raises what stopped the other thread."""
        with self.changed:
            self.changed.wait_for(lambda: index in self.pictures or self.problem is not None)
            if index not in self.pictures:
                assert self.problem is not None
                raise self.problem
            self.flying -= 1
            return self.pictures.pop(index)

    def retry(self, index: int, item: Item) -> bool:
        """Put an item back at the front of the queue, at most once; returns whether it was put back."""
        if index in self.retried:
            return False
        self.retried.add(index)
        self.give_back([(index, item)])
        return True

    def give_back(self, items: list[tuple[int, Item]]) -> None:
        """Put items that were dealt back at the front of the queue, in their order."""
        with self.changed:
            # extendleft reverses what it is given, so the items are reversed first to keep their order.
            self.waiting.extendleft(reversed(items))
            self.flying -= len(items)

    def stop(self) -> None:
        """Say that the reader no longer waits for pictures."""
        self.stopped = True

    def fail(self, problem: Exception) -> None:
        """Pass the error that ended the dealing thread on to the reader."""
        with self.changed:
            self.problem = problem
            self.changed.notify_all()


def _decode_forever(pipe: Connection, reading: Reading) -> None:
    """What a process does: items come in lists, pictures go out one by one, None says that it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    # close() ends the process by SIGTERM, which it would ignore if the parent was started with SIGTERM ignored.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    with contextlib.suppress(EOFError, OSError):  # the parent has closed its end, or is gone
        pipe.send(None)
        while True:
            for item in pipe.recv():
                pipe.send(reading(item))
