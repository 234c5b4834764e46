"""Whether a token table is sound, and how far an unfinished one is."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alit_cli.data.plan import Plan
from alit_cli.data.shards import finished_shards, shard_stats
from alit_cli.data.sources import readable
from alit_cli.data.table import TableInfo, read_info
from alit_cli.errors import InputError


@dataclass(frozen=True)
class Status:
    """How far a table is.

    Attributes:
        finished: the table is whole under its own name.
        images, done: planned, and in finished shards.
        shards, shards_done: the same in shards.
        statuses: rows of finished shards by status.
        seconds: time that the finished shards took, all workers added up.
    """

    finished: bool
    images: int
    done: int
    shards: int
    shards_done: int
    statuses: dict[str, int]
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Speed of one worker over the finished shards; 0 where there is none."""
        return self.done / self.seconds if self.seconds else 0.0


def status(out: Path) -> Status:
    """How far the table `out` is, from the table itself or from `out.work/`.

    Raises:
        InputError: there is neither.
    """
    work = out.with_name(out.name + ".work")
    if out.exists():
        info = read_info(out)
        rows = _rows(out, ["status"])
        counts = Counter(value for group in rows for value in group["status"].to_pylist())
        images = info.options.get("images", sum(counts.values()))
        return Status(True, images, sum(counts.values()), 1, 1, dict(counts), 0.0)
    if not work.exists():
        raise InputError(f"There is neither '{readable(str(out))}' nor unfinished work of it; check the path.")
    shards = Plan.load(work).shards()
    finished = finished_shards(work)
    stats = [shard_stats(work, shard.index) for shard in shards if shard.index in finished]
    statuses: Counter[str] = Counter()
    for one in stats:
        statuses.update(one["statuses"])
    done = sum(one["rows"] for one in stats)
    seconds = sum(one["seconds"] for one in stats)
    return Status(False, shards[-1].stop, done, len(shards), len(stats), dict(statuses), seconds)


def problems(table: Path) -> Iterator[str]:
    """Everything that is wrong with a finished token table, a sentence each; nothing where it is sound.

    Every page is read and its checksum compared; rows are counted against the plan they came from, keys are unique,
    all rows are of one model, a row that is ok has tokens inside the codebook and finite losses at every budget that
    it reached, any other row has none.

    Raises:
        InputError: no token table of ours.
    """
    info = read_info(table)
    keys: Counter[str] = Counter()
    rows = 0
    try:
        for group in _rows(table, None):
            rows += group.num_rows
            keys.update(group["image"].to_pylist())
            yield from _wrong_rows(group, info)
    except (pa.ArrowInvalid, OSError) as problem:
        yield f"it is damaged after row {rows}: {str(problem).splitlines()[0]}"
        return
    planned = info.options.get("images", rows)
    if rows != planned:
        yield f"it has {rows} rows, but {planned} images were planned"
    if twice := [key for key, count in keys.items() if count > 1]:
        yield f"{len(twice)} images stand in it more than once, such as '{twice[0]}'"


def _wrong_rows(group: pa.Table, info: TableInfo) -> Iterator[str]:
    """What is wrong in the rows of one row group."""
    ok = pc.equal(group["status"], "ok").to_numpy()
    models = set(group["model_id"].unique().to_pylist()) - {info.model_id}
    if models:
        yield f"rows are of the model {sorted(map(str, models))[0]}, the table of {info.model_id}"
    ends = group["n_tokens"].to_numpy() if info.stop is not None else np.full(len(ok), info.budgets[-1])
    for budget in info.budgets:
        there = ok & (ends >= budget)
        yield from _wrong_tokens(group[f"{info.tokens}_{budget}"], there, budget, info)
        if info.losses:
            l1 = group[f"l1_{budget}"].to_numpy()
            if (np.isfinite(l1) != there).any():
                yield f"l1_{budget} is missing where it should be a number, or the other way round"


def _wrong_tokens(column: pa.ChunkedArray, there: np.ndarray, budget: int, info: TableInfo) -> Iterator[str]:
    name = f"{info.tokens}_{budget}"
    if (column.is_valid().to_numpy() != there).any():
        yield f"{name} is missing where it should be a list, or the other way round"
    length = budget * (1 if info.codes else info.token_dim)
    if set(pc.list_value_length(column).drop_null().unique().to_pylist()) - {length}:
        yield f"{name} has lists that are not {length} long"
    values = pc.list_flatten(column)
    if info.codes and len(values) and pc.max(values).as_py() >= info.codes:
        yield f"{name} has ids outside the codebook of {info.codes}"


def _rows(table: Path, columns: list[str] | None) -> Iterator[pa.Table]:
    """The row groups of a file, their checksums compared."""
    with pa.OSFile(os.fsencode(table)) as source:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns)
