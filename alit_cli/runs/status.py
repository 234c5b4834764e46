"""How far a table is: finished, or unfinished work on its way to one."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alit_cli.data.files import readable
from alit_cli.data.tables.parquet import stream_columns
from alit_cli.data.tables.parts import PLAN, finished_shards, work_folder
from alit_cli.data.tables.score_table import ERROR, is_score_table, kind_of, read_score_info
from alit_cli.data.tables.token_table import read_info
from alit_cli.errors import InputError
from alit_cli.runs.plan import Plan
from alit_cli.runs.shards import MAX_ERRORS, shard_stats

TIMES = ("seconds", "read", "decode", "waited", "model", "write")
"""What the mark of a shard says of its time, in seconds."""


@dataclass(frozen=True)
class Status:
    """How far a table is.

    Attributes:
        kind: what kind of table.
        finished: the table is whole under its own name.
        images, done: planned, and in finished shards.
        shards, shards_done: the same in shards.
        statuses: rows of finished shards by status; a selection's by whether they satisfy its criterion.
        seconds: what the finished shards took, added up: `seconds` in all, of which `waited` for pictures and `model`;
            `read` and `decode` of all decoding workers together; `write`. Empty for a joined table.
        memory: the most that a process had resident, MiB; 0 where it is not known.
        errors: the first few failures.
    """

    kind: str
    finished: bool
    images: int
    done: int
    shards: int
    shards_done: int
    statuses: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)
    memory: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def images_per_second(self) -> float:
        """Speed of one worker over the finished shards; 0 where there is none."""
        return self.done / seconds if (seconds := self.seconds.get("seconds")) else 0.0


def tables_at(out: Path) -> list[Path]:
    """The tables that a path stands for: those of a folder of score tables, finished or not; else the path itself."""
    if not out.is_dir() or (out / PLAN).exists():
        return [out]
    finished = {path for path in out.glob("*.parquet") if is_score_table(path)}
    # A work folder has the name of its table and `.work` after it.
    unfinished = {path.with_suffix("") for path in out.glob("*.parquet.work") if (path / PLAN).exists()}
    return sorted(finished | unfinished) or [out]


def status(out: Path) -> Status:
    """How far the table `out` is, from the table itself or from `out.work/`.

    Raises:
        InputError: there is neither.
    """
    work = out if out.is_dir() else work_folder(out)
    if out.is_file() or (out.is_dir() and not (out / PLAN).exists()):
        return _of_table(out)
    if not work.exists():
        raise InputError(f"There is neither '{readable(str(out))}' nor unfinished work of it; check the path.")
    plan = Plan.load(work)
    shards = plan.shards()
    finished = finished_shards(work)
    stats = [shard_stats(work, shard.index) for shard in shards if shard.index in finished]
    statuses: Counter[str] = Counter()
    for mark in stats:
        statuses.update(mark["statuses"])
    done = sum(mark["rows"] for mark in stats)
    # Which of these times a mark has depends on the kind of table.
    times = {name: sum(mark.get(name, 0.0) for mark in stats) for name in TIMES}
    memory = max((mark.get("memory", 0) for mark in stats), default=0)
    errors = [error for mark in stats for error in mark.get("errors", ())][:MAX_ERRORS]
    # A table that is one file is finished only when its shards have been joined, and then they are gone.
    whole = out.is_dir() and len(stats) == len(shards)
    images, kind = shards[-1].stop, "score table" if "task" in plan.options else "token table"
    return Status(kind, whole, images, done, len(shards), len(stats), dict(statuses), times, memory, errors)


def _of_table(out: Path) -> Status:
    """The status of a finished table."""
    kind = kind_of(out)
    if kind == "score table":
        info = read_score_info(out)
        images = None if info is None else info.options.get("images")
        statuses = ["ok" if why is None else "failed" for why in _column(out, ERROR)]
    else:
        images = read_info(out).options.images
        selected = kind == "selection"
        names = {True: "satisfied", False: "never satisfied"}
        statuses = [names[yes] for yes in _column(out, "satisfied")] if selected else _column(out, "status")
    rows = len(statuses)
    planned = rows if kind == "selection" or images is None else images
    return Status(kind, True, planned, rows, 1, 1, dict(Counter(statuses)))


def _column(out: Path, name: str) -> list[Any]:
    return [value for batch in stream_columns(out, [name]) for value in batch[name].to_pylist()]
