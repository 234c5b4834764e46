"""Pictures read ahead of the model, in order, a bounded number at a time: here, in threads or in processes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from alit_cli.data.pictures.fitting import Fit, Picture, Reading
from alit_cli.data.sources.items import Item
from alit_cli.jobs.reading.decoder_processes import LOOKAHEAD, Decoders

MANY = 2_000
"""Images from which on processes are worth the second or two that they take to start."""
HERE_ONLY = "memory://"
"""What other processes cannot see."""


class Reader(Protocol):
    """Something that turns items into pictures until it is closed.

    Attributes:
        remarks: one sentence for everything out of the ordinary so far.
    """

    remarks: list[str]

    def read(self, items: Sequence[Item]) -> Iterator[Picture]:
        """Every item as a Picture, in order; a bad image is a Picture with a status."""

    def close(self) -> None:
        """End what runs."""


def make_picture_reader(reading: Reading, workers: int | None, images: int, first_path: str, batch_size: int) -> Reader:
    """The reader for a run.

    Args:
        reading: what is done with every item.
        workers: processes; 0 decodes in the main process, None chooses: threads for a short run, processes for
            a long one, at most four.
        images: of the whole run.
        first_path: where the first of them lies.
        batch_size: pictures that are wanted at a time.
    """
    lookahead = max(LOOKAHEAD, 2 * batch_size)
    here = first_path.startswith(HERE_ONLY)
    if workers == 0:
        return _Inline(reading)
    if here or (workers is None and images < MANY):
        return _Threads(reading, workers or default_workers(), lookahead)
    return Decoders(reading, workers or default_workers(), lookahead)


def default_workers() -> int:
    """How many decode where the user does not say: at most four."""
    return min(4, os.cpu_count() or 1)


def read_ahead(
    items: Sequence[Item], side: int, how: Fit, bits: tuple[int, ...] | None, workers: int
) -> Iterator[Picture]:
    """Every item as a Picture, in order, read in so many threads; the arguments are those of Reading."""
    reader = _Threads(Reading(side, how, bits), workers) if workers else _Inline(Reading(side, how, bits))
    try:
        yield from reader.read(items)
    finally:
        reader.close()


class _Inline:
    """Reads where it is called."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.remarks: list[str] = []

    def read(self, items: Sequence[Item]) -> Iterator[Picture]:
        return map(self.reading, items)

    def close(self) -> None:
        pass


class _Threads:
    """Reads in threads of this process."""

    def __init__(self, reading: Reading, count: int, lookahead: int = LOOKAHEAD) -> None:
        self.reading, self.lookahead = reading, lookahead
        self.remarks: list[str] = []
        self.pool = ThreadPoolExecutor(count, thread_name_prefix="decode")

    def read(self, items: Sequence[Item]) -> Iterator[Picture]:
        flying: deque[Future[Picture]] = deque()
        try:
            for item in items:
                flying.append(self.pool.submit(self.reading, item))
                if len(flying) >= self.lookahead:
                    yield flying.popleft().result()
            while flying:
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
