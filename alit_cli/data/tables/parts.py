"""A table that is a folder of parts: their names, and which of them are finished."""

import json
import os
import re
from pathlib import Path

from alit_cli.data.files import natural, readable
from alit_cli.errors import InputError

PLAN = "_plan.json"
"""A folder of parts holds the plan of its run under this name."""
MARK = re.compile(r"_part-(\d+)\.json")


def parts(path: str | Path) -> list[str]:
    """The Parquet files a table, a file or a folder, consists of, in order.

    Raises InputError: a folder without any, or one that is not finished.
    """
    name = os.fspath(path)
    if not os.path.isdir(name):
        return [name]
    # In natural order, because part-100000 comes after part-99999 by number but not by letters.
    parts = [os.path.join(name, entry) for entry in sorted(os.listdir(name), key=natural) if entry.endswith(".parquet")]
    # This comes before the check for an empty folder: a run that has just begun has a plan and no part yet.
    missing = unfinished(name)
    if missing:
        raise InputError(f"'{readable(name)}' is not finished ({missing} shards are missing): run its command again.")
    if not parts:
        raise InputError(f"The folder '{readable(name)}' holds no .parquet file; name a table.")
    return parts


def work_folder(table: Path) -> Path:
    """Where the unfinished shards of a table lie that will be one file."""
    return table.with_name(f"{table.name}.work")


def unfinished(folder: str | Path) -> int:
    """How many shards of the plan in a folder are missing; 0 where there is no plan."""
    try:
        with open(os.path.join(folder, PLAN), "rb") as file:
            about = json.load(file)
        # The number of shards is rounded up, as the last one may be smaller.
        return int(-(-about["items"] // about["shard_size"]) - len(finished_shards(folder)))
    except (OSError, ValueError, KeyError):
        return 0


def finished_shards(folder: str | Path) -> set[int]:
    """The indices of the shards that are there with their mark."""
    # One listing is faster than two questions to the file system for each of thousands of shards.
    names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
    marked = {int(match[1]) for name in names if (match := MARK.fullmatch(name))}
    # A mark without its part, which somebody has removed, does not count.
    return {index for index in marked if os.path.basename(part_path(folder, index)) in names}


def is_finished(folder: str | Path, index: int) -> bool:
    """Whether one shard is there with its mark."""
    return os.path.exists(mark_path(folder, index)) and os.path.exists(part_path(folder, index))


def part_path(folder: str | Path, index: int) -> str:
    """Where the rows of a shard lie."""
    return os.path.join(folder, f"part-{index:05d}.parquet")


def mark_path(folder: str | Path, index: int) -> str:
    """Where the stats of a shard lie, which mark it as finished."""
    return os.path.join(folder, f"_part-{index:05d}.json")
