"""Whether a token table is sound, and how far an unfinished one is."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alit_cli.data.parts import part_path, parts
from alit_cli.data.plan import PLAN, Plan
from alit_cli.data.shards import finished_shards, part_sha256, shard_stats
from alit_cli.data.sources import readable
from alit_cli.data.table import TableInfo, read_info, token_schema
from alit_cli.errors import InputError

TIMES = ("seconds", "read", "decode", "waited", "model", "write")
MAX_ERRORS = 5


@dataclass(frozen=True)
class Status:
    """How far a table is.

    Attributes:
        finished: the table is whole under its own name.
        images, done: planned, and in finished shards.
        shards, shards_done: the same in shards.
        statuses: rows of finished shards by status.
        seconds: what the finished shards took, added up: `seconds` in all, of which `waited` for pictures and `model`;
            `read` and `decode` of all decoding workers together; `write`. Empty for a joined table.
        memory: the most that a process had resident, MiB; 0 where it is not known.
        errors: the first few failures.
    """

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


def status(out: Path) -> Status:
    """How far the table `out` is, from the table itself or from `out.work/`.

    Raises:
        InputError: there is neither.
    """
    work = out if out.is_dir() else out.with_name(out.name + ".work")
    if out.is_file() or (out.is_dir() and not (out / PLAN).exists()):
        info = read_info(out)
        rows = _rows(out, ["status"])
        counts = Counter(value for group in rows for value in group["status"].to_pylist())
        images = info.options.get("images", sum(counts.values()))
        return Status(True, images, sum(counts.values()), 1, 1, dict(counts))
    if not work.exists():
        raise InputError(f"There is neither '{readable(str(out))}' nor unfinished work of it; check the path.")
    shards = Plan.load(work).shards()
    finished = finished_shards(work)
    stats = [shard_stats(work, shard.index) for shard in shards if shard.index in finished]
    statuses: Counter[str] = Counter()
    for one in stats:
        statuses.update(one["statuses"])
    done = sum(one["rows"] for one in stats)
    times = {name: sum(one.get(name, 0.0) for one in stats) for name in TIMES}
    memory = max((one.get("memory", 0) for one in stats), default=0)
    errors = [error for one in stats for error in one.get("errors", ())][:MAX_ERRORS]
    whole = out.is_dir() and len(stats) == len(shards)
    images = shards[-1].stop
    return Status(whole, images, done, len(shards), len(stats), dict(statuses), times, memory, errors)


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
    if table.is_dir() and (table / PLAN).exists():
        yield from _wrong_parts(table)
    try:
        for group in _rows(table, None):
            if rows == 0:
                yield from _wrong_columns(group.schema, info)
            rows += group.num_rows
            keys.update(group["image"].to_pylist())
            yield from _wrong_rows(group, info)
    except (pa.ArrowInvalid, OSError, KeyError) as problem:
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


def _wrong_columns(schema: pa.Schema, info: TableInfo) -> Iterator[str]:
    """Columns that lack or have another type than the table says of itself."""
    wanted = token_schema(info, bool(info.options.get("measures")))
    for field_ in wanted:
        if schema.get_field_index(field_.name) < 0:
            yield f"it has no column {field_.name}"
        elif not schema.field(field_.name).type.equals(field_.type):
            yield f"the column {field_.name} has the type {schema.field(field_.name).type}, not {field_.type}"


def _wrong_parts(folder: Path) -> Iterator[str]:
    """Parts of a folder whose bytes are not those that were written, or that hold another number of rows."""
    for shard in Plan.load(folder).shards():
        stats = shard_stats(folder, shard.index)
        path = part_path(folder, shard.index)
        if stats.get("sha256") not in (None, part_sha256(path)):
            yield f"'{os.path.basename(path)}' has changed since it was written: its checksum is another"
        if stats["rows"] != shard.stop - shard.start:
            yield f"'{os.path.basename(path)}' has {stats['rows']} rows, not the {shard.stop - shard.start} of its plan"


def _rows(table: Path, columns: list[str] | None) -> Iterator[pa.Table]:
    """The row groups of a table, their checksums compared."""
    for part in parts(table):
        with pa.OSFile(os.fsencode(part)) as source:
            file = pq.ParquetFile(source, page_checksum_verification=True)
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns)
