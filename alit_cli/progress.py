"""How far a long job is, as the jobs report it and the console shows it; and how counts and times are written."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Record = TypeVar("Record")
EVERY = 0.25
"""Seconds between two reports of what is counted."""


@dataclass(frozen=True)
class Progress:
    """One report of a job.

    The first report is where the job starts (after a resume `done` is not zero), so a job yields one before
    it works. `done`, `total` and `failed` count `unit`s; a `total` of 0 is not known yet; `note` is a few words
    such as a loss.
    """

    done: int
    total: int
    unit: str = "images"
    failed: int = 0
    note: str = ""


ProgressCallback = Callable[[Progress], None]
"""Shows a report at once, where a job cannot yield one."""


def no_progress(_report: Progress) -> None:
    """Show nothing."""


def counted(count: int, noun: str) -> str:
    """`1 image` or `2 images`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Hours and minutes, to be read; 1 min is the least."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def report_count(records: Iterable[Record], tell: ProgressCallback, unit: str) -> Iterator[Record]:
    """Pass records on and tell, a few times a second, how many there have been."""
    # This clock never jumps, unlike the one on the wall.
    due = time.monotonic() + EVERY
    for count, record in enumerate(records, 1):
        if (now := time.monotonic()) >= due:
            tell(Progress(count, 0, unit))
            due = now + EVERY
        yield record
