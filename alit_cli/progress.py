"""How far a long job is, as the jobs report it and the console shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One report of a job.

    The first report is where the job starts (after a resume `done` is not zero), so a job yields one before
    it works. `done`, `total` and `failed` count `unit`s; `note` is a few words such as a loss.
    """

    done: int
    total: int
    unit: str = "images"
    failed: int = 0
    note: str = ""
